"""One leader's capture: the stream, and beside it what must be read of the collections.

    MongoDB ── ChangeSource ──► translate ──► Outlet: encode, Outbox, Relay ──► RabbitMQ
                 chunks ──────────────────►      │
                                            Keeper: the safe offset ──► MongoDB

One thread. Either side may go away at any time: what was read and not confirmed
stays in the outbox, in order, and nothing more is read while that is full. A
snapshot and the stream take turns, so neither waits for the other's end.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Any

from bson.timestamp import Timestamp

from core.events import ChangeEvent, Event
from core.logging import get_logger
from core.mongo import Client
from core.signals import SnapshotRequest
from data_cdc.context import Context
from data_cdc.delivery.outlet import Outlet
from data_cdc.errors import GapFound, GapUnanswered, Stopping, not_a_replica_set
from data_cdc.insistence import Insistence
from data_cdc.keeping.keeper import Keeper
from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.position import Position, position_of
from data_cdc.keeping.state import Checkpoint, StateStore
from data_cdc.leadership.lease import Lease
from data_cdc.source.progress import SnapshotProgress
from data_cdc.source.reader import next_portion
from data_cdc.source.stream import ChangeSource
from data_cdc.source.translate import translate
from data_cdc.transforms import TransformFailed, fingerprint

# How many changes are taken between two portions of a snapshot.
_CHANGES_PER_TURN = 500
# How often somebody's request for a snapshot is looked for.
_LOOK_EVERY_S = 1.0
_MAY_ANSWER_GAPS = ("when_needed", "always")

log = get_logger()


class Capture:
    """One run over one client, under one lease."""

    def __init__(self, context: Context, client: Client, lease: Lease) -> None:
        self._context = context
        self._cdc = context.cdc
        self._chain = context.chain
        self._metrics = context.metrics
        self._client = client
        self._database = client[context.mongo.database]
        self._store = StateStore(client[context.mongo.state_database], lease.epoch)
        self._keeper = Keeper(context, self._store)
        self._outlet = Outlet(context, self._keeper, lease)
        self._insistence = Insistence(context)
        self._progress = SnapshotProgress(context.metrics)
        self._offset = Offset(position=Position(Timestamp(0, 0)))
        self._reads_always = self._cdc.snapshot_mode == "always"
        self._next_look = 0.0

    def run(self) -> None:
        """Until told to stop, or done. Raises LeadershipLost and TerminalError."""
        try:
            while not self._run_until_gap():
                pass
            self._outlet.drain()
        except Stopping:
            self._outlet.drain()
        finally:
            self._outlet.close()

    def _run_until_gap(self) -> bool:
        """Whether all is done; otherwise begin again."""
        try:
            self._begin()
            if self._cdc.snapshot_mode == "initial_only":
                self._read_only()
            else:
                self._follow()
        except GapFound as gap:
            self._declare(gap.why)
            self._insistence.on(partial(self._store.abandon, gap.why))
            self._metrics.snapshot_ended()
            return False
        return True

    def _declare(self, why: str) -> None:
        """Something was missed. Raises GapUnanswered where it must not be read again."""
        mode = self._cdc.snapshot_mode
        self._metrics.gap_declared()
        log.error("cdc.gap_declared", why=why, snapshot_mode=mode)
        if mode not in _MAY_ANSWER_GAPS:
            raise GapUnanswered(why, mode)

    # -- beginning -------------------------------------------------------------

    def _begin(self) -> None:
        """Find out where to go on, and what to read first."""
        kept = self._insistence.on(self._store.load)
        self._outlet.begin(resumes=kept is not None)
        offset = kept.offset if kept else Offset(position=Position(self._insist_now()))
        self._metrics.checkpoint(offset.position.time)
        self._offset = offset.only(self._cdc.collections)
        self._outlet.await_broker()
        self._plan(kept)
        self._outlet.advance(self._offset)

    def _plan(self, kept: Checkpoint | None) -> None:
        """What to read before, or rather beside, the stream."""
        if self._cdc.snapshot_mode == "no_data":
            return
        known = kept.collections if kept else ()
        new = tuple(name for name in self._cdc.collections if name not in known)
        if kept is None:
            self._add_task("first start", new, self._offset.position.time)
        elif self._reads_always and not self._offset.snapshots:
            self._add_task("start", self._cdc.collections)
        elif self._must_retell(kept):
            self._add_task("other transforms", self._cdc.collections)
        elif new:
            self._add_task("captured from now on", new)
        self._reads_always = False

    def _must_retell(self, kept: Checkpoint) -> bool:
        """Whether what was told before went through other transforms."""
        if kept.transforms == fingerprint(self._cdc.transforms):
            return False
        log.warning("transforms.changed", snapshot_mode=self._cdc.snapshot_mode)
        return self._cdc.snapshot_mode in _MAY_ANSWER_GAPS

    def _now(self) -> Timestamp:
        """The server's time: no write that was acknowledged is after it."""
        now: Timestamp | None = self._client.admin.command("ping").get("operationTime")
        if now is None:
            raise not_a_replica_set()
        return now

    def _insist_now(self) -> Timestamp:
        return self._insistence.on(self._now, self._outlet.tick)

    # -- the stream ------------------------------------------------------------

    def _follow(self) -> None:
        stream = ChangeSource(
            self._context, self._database, self._offset.position, self._outlet.park_unread
        )
        with closing(stream) as source:
            while True:
                self._look_for_requests()
                if self._offset.running is not None:
                    self._read_portion(self._offset.running)
                self._outlet.phase = "streaming" if self._offset.running is None else "snapshot"
                source.patient = self._offset.running is None
                self._take_changes(source)

    def _take_changes(self, source: ChangeSource) -> None:
        """What is there, within bounds; at its end, the position of the stream itself."""
        for _ in range(_CHANGES_PER_TURN):
            change = source.next()
            if change is None:
                self._offset = self._offset.at(source.position)
                self._outlet.rest(self._offset)
                return
            self._handle(change)

    def _handle(self, change: Mapping[str, Any]) -> None:
        step, position = translate(change, self._cdc.collections), position_of(change)
        self._offset = self._offset.at(position)
        if step.events:
            self._metrics.read(step.events[0].wall_ms)
        if step.reread is not None:
            self._add_task("renamed into", (step.reread,), position.time)
        self._put(step.events)

    def _put(self, events: Sequence[Event]) -> None:
        """All of them together lead to the present offset."""
        told = [result for event in events for result in self._transformed(event)]
        for event in told[:-1]:
            self._outlet.put(event, None)
        if told:
            self._outlet.put(told[-1], self._offset)
        else:
            self._outlet.advance(self._offset)

    def _transformed(self, event: Event) -> Sequence[Event]:
        if not isinstance(event, ChangeEvent):
            return (event,)
        try:
            results = self._chain.apply(event)
        except TransformFailed as error:
            self._outlet.park(event, f"transform: {error}", None)
            return ()
        if not results:
            self._metrics.filtered()
        return results

    # -- reading what is there -------------------------------------------------

    def _read_only(self) -> None:
        while self._offset.running is not None:
            self._outlet.phase = "snapshot"
            self._read_portion(self._offset.running)
        self._outlet.flush()
        log.info("snapshot.nothing_left", snapshot_mode=self._cdc.snapshot_mode)

    def _read_portion(self, task: SnapshotTask) -> None:
        self._progress.begin(task)
        portion = self._insistence.on(
            partial(next_portion, self._database, task), self._outlet.tick
        )
        if portion.task is None:
            self._offset = self._offset.without_running()
        else:
            self._offset = self._offset.with_progress(portion.task)
        self._put(portion.events)
        self._progress.step(task, portion.task)

    def _add_task(
        self,
        why: str,
        collections: Iterable[str],
        not_before: Timestamp | None = None,
        *,
        task_id: str | None = None,
        keys: tuple[str, ...] = (),
    ) -> None:
        names = tuple(collections)
        task = SnapshotTask(
            id=task_id or uuid.uuid4().hex[:12],
            why=why,
            collections=names,
            keys=keys or None,
            not_before=not_before or self._insist_now(),
            total=len(keys) or self._insistence.on(partial(self._estimate, names)),
        )
        self._offset = self._offset.with_task(task)

    def _estimate(self, collections: Iterable[str]) -> int:
        return sum(self._database[name].estimated_document_count() for name in collections)

    def _look_for_requests(self) -> None:
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK_EVERY_S
        for request in self._keeper.requests():
            if not self._offset.knows(request.id):
                self._take(request)

    def _take(self, request: SnapshotRequest) -> None:
        """Begin what is asked for. The request stays until the end of its snapshot is kept."""
        if request.is_gap:
            self._declare(request.why)
        wanted = request.collections or self._cdc.collections
        captured = [name for name in wanted if name in self._cdc.collections]
        if not captured:
            log.warning("snapshot.refused", snapshot_id=request.id, not_captured=list(wanted))
            self._keeper.answer(request.id)
            return
        self._add_task(request.why, captured, task_id=request.id, keys=request.keys)
        self._outlet.advance(self._offset)
