"""One leader's capture: the stream, and beside it what must be read of the collections.

    MongoDB ── ChangeSource ─► translate ─► transforms ─► Outlet: encode, Outbox, Relay ─► RabbitMQ
               next_portion ────────────►                   │
                                                          Keeper: the safe offset ─► MongoDB

One thread. Either side may go away at any time: what was read and not confirmed
stays in the outbox, in order, and nothing more is read while that is full. A
snapshot and the stream take turns, so neither waits for the other's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Any

from bson.timestamp import Timestamp

from core.errors import TerminalError
from core.events import ChangeEvent, Event
from core.logging import get_logger
from core.mongo import Client
from data_cdc.context import Context
from data_cdc.delivery.outlet import Outlet
from data_cdc.errors import GapFound, Stopping
from data_cdc.insistence import Insistence
from data_cdc.keeping.keeper import Keeper
from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.position import Position, position_of
from data_cdc.keeping.state import StateStore
from data_cdc.leadership.lease import Lease
from data_cdc.planner import Planner
from data_cdc.source.progress import SnapshotProgress
from data_cdc.source.reader import next_portion
from data_cdc.source.stream import ChangeSource
from data_cdc.source.timing import StreamListener
from data_cdc.source.translate import translate
from data_cdc.transforms import TransformFailed

# How many changes are taken between two portions of a snapshot, and for how long at most.
_CHANGES_PER_TURN = 500
_TURN_S = 0.5

log = get_logger()


class Capture:
    """One run over one client, under one lease."""

    def __init__(
        self, context: Context, client: Client, listener: StreamListener, lease: Lease
    ) -> None:
        self._context = context
        self._cdc = context.cdc
        self._chain = context.chain
        self._metrics = context.metrics
        self._listener = listener
        self._database = client[context.mongo.database]
        self._store = StateStore(client[context.mongo.state_database], lease.epoch)
        self._keeper = Keeper(context, self._store)
        self._outlet = Outlet(context, self._keeper, lease)
        self._planner = Planner(context, client, self._keeper, self._outlet.tick)
        self._insistence = Insistence(context)
        self._progress = SnapshotProgress(context.metrics)
        self._offset = Offset(position=Position(Timestamp(0, 0)))
        self._gap = ""

    def run(self) -> None:
        """Until told to stop, or done. Raises LeadershipLost and TerminalError."""
        try:
            while not self._run_until_gap():
                pass
            self._outlet.drain()
        except Stopping:
            self._outlet.drain()
        except TerminalError:
            self._outlet.drain()
            raise
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
            self._gap = gap.why
            self._planner.declare_gap(gap.why)
            self._insistence.on(partial(self._store.abandon, gap.why))
            self._metrics.snapshot_ended()
            return False
        return True

    def _begin(self) -> None:
        """Find out where to go on, and what to read first."""
        kept = self._insistence.on(self._store.load)
        self._outlet.begin(resumes=kept is not None)
        offset = kept.offset if kept else Offset(position=Position(self._planner.now()))
        self._metrics.checkpoint(offset.position.time)
        self._offset = offset.only(self._cdc.collections)
        self._outlet.await_broker()
        task = self._planner.at_start(kept, self._offset, self._gap)
        self._offset = self._offset.with_task(task)
        self._outlet.advance(self._offset)

    # -- the stream ------------------------------------------------------------

    def _follow(self) -> None:
        stream = ChangeSource(
            self._context,
            self._database,
            self._offset.position,
            self._listener,
            self._keeper.park,
        )
        with closing(stream) as source:
            while True:
                self._take_requests()
                if self._offset.running is not None:
                    self._read_portion(self._offset.running)
                reads = self._offset.running is not None
                self._outlet.phase = "snapshot" if reads else "streaming"
                source.wait_for_changes(patient=not reads)
                self._take_changes(source)

    def _take_requests(self) -> None:
        self._offset = self._offset.forgetting(self._keeper.answered)
        task = self._planner.requested(self._offset)
        if task is not None:
            self._offset = self._offset.with_task(task)
            self._outlet.advance(self._offset)

    def _take_changes(self, source: ChangeSource) -> None:
        """What is there, within bounds; at its end, the position of the stream itself."""
        until = monotonic() + _TURN_S
        for _ in range(_CHANGES_PER_TURN):
            change = source.next()
            if change is None:
                self._offset = self._offset.at(source.position)
                self._outlet.rest(self._offset)
                return
            self._handle(change)
            if not source.buffered:
                self._outlet.tick()
                if monotonic() >= until:
                    return

    def _handle(self, change: Mapping[str, Any]) -> None:
        step, position = translate(change, self._cdc.collections), position_of(change)
        self._offset = self._offset.at(position)
        if step.events:
            self._metrics.read(step.events[0].wall_ms)
        if step.reread is not None:
            task = self._planner.task("renamed into", (step.reread,), position.time)
            self._offset = self._offset.with_task(task)
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
        for change in portion.undecodable:
            self._keeper.park(change)
        if portion.refused is not None:
            log.error("snapshot.refused", collection=portion.refused, reason=portion.reason)
        before = self._offset
        for event, further in portion.steps:
            self._offset = _behind(before, further)
            self._put((event,))
        self._offset = _behind(before, portion.task)
        self._outlet.advance(self._offset)
        self._progress.step(task, portion.task)
        if portion.task is None:
            self._planner.look_now()


def _behind(offset: Offset, task: SnapshotTask | None) -> Offset:
    """`offset` with the running snapshot as far as `task` tells; None is its end."""
    return offset.without_running() if task is None else offset.with_progress(task)
