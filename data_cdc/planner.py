"""Which snapshots are to be made: at a start, after a gap, and when somebody asks."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from functools import partial
from time import monotonic

from bson.timestamp import Timestamp

from core.logging import get_logger
from core.mongo import Client
from core.signals import SnapshotRequest
from data_cdc.context import Context
from data_cdc.errors import GapUnanswered, not_a_replica_set
from data_cdc.insistence import Insistence, Wait
from data_cdc.keeping.keeper import Keeper
from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.state import Checkpoint
from data_cdc.transforms import fingerprint

# How often somebody's request for a snapshot is looked for.
_LOOK_EVERY_S = 1.0
_MAY_ANSWER_GAPS = ("when_needed", "always")

log = get_logger()


class Planner:
    """Makes snapshot tasks. `wait` is what is done while MongoDB is away. Use from one thread.

    Every call may raise what `wait` raises, and Stopping.
    """

    def __init__(self, context: Context, client: Client, keeper: Keeper, wait: Wait) -> None:
        self._cdc = context.cdc
        self._metrics = context.metrics
        self._client = client
        self._database = client[context.mongo.database]
        self._keeper = keeper
        self._wait = wait
        self._insistence = Insistence(context)
        self._reads_always = context.cdc.snapshot_mode == "always"
        self._next_look = 0.0

    def now(self) -> Timestamp:
        """The server's time: no write that was acknowledged before is after it."""
        return self._insistence.on(self._ping, self._wait)

    def declare_gap(self, why: str) -> None:
        """Something was missed. Raises GapUnanswered where it must not be read again."""
        mode = self._cdc.snapshot_mode
        self._metrics.gap_declared()
        log.error("cdc.gap_declared", why=why, snapshot_mode=mode)
        if mode not in _MAY_ANSWER_GAPS:
            raise GapUnanswered(why, mode)

    def at_start(self, kept: Checkpoint | None, offset: Offset, gap: str) -> SnapshotTask | None:
        """What to read beside the stream; `gap` tells what was missed, if anything."""
        always, self._reads_always = self._reads_always, False
        everything = self._cdc.collections
        if self._cdc.snapshot_mode == "no_data":
            return None
        if kept is None:
            return self.task(gap or "first start", everything, offset.position.time)
        if always and not offset.will_read(everything):
            return self.task("start", everything)
        if self._must_retell(kept):
            return self.task("other transforms", everything)
        new = [name for name in everything if name not in kept.collections]
        return self.task("captured from now on", new) if new else None

    def requested(self, offset: Offset) -> SnapshotTask | None:
        """What somebody asks for, where that is not begun yet.

        One request at a time, but a gap at once. A request stays until the end of its
        snapshot is kept, so that a crash forgets none.
        """
        if monotonic() < self._next_look:
            return None
        self._next_look = monotonic() + _LOOK_EVERY_S
        for request in self._keeper.requests(offset.knows):
            if request.is_gap or not offset.snapshots:
                return self._begin(request)
        return None

    def look_now(self) -> None:
        """There is room for another request."""
        self._next_look = 0.0

    def task(
        self,
        why: str,
        collections: Iterable[str],
        not_before: Timestamp | None = None,
        *,
        task_id: str | None = None,
        keys: Collection[str] = (),
    ) -> SnapshotTask:
        """A read of `collections`, or of `keys` of one, as of now or later."""
        names = tuple(collections)
        return SnapshotTask(
            id=task_id or uuid.uuid4().hex[:12],
            why=why,
            collections=names,
            keys=tuple(keys) or None,
            not_before=not_before or self.now(),
            total=len(keys) or self._insistence.on(partial(self._estimate, names), self._wait),
        )

    def _must_retell(self, kept: Checkpoint) -> bool:
        """Whether what was told before went through other transforms."""
        if kept.transforms == fingerprint(self._cdc.transforms):
            return False
        log.warning("transforms.changed", snapshot_mode=self._cdc.snapshot_mode)
        return self._cdc.snapshot_mode in _MAY_ANSWER_GAPS

    def _begin(self, request: SnapshotRequest) -> SnapshotTask | None:
        if request.is_gap:
            self.declare_gap(request.why)
        wanted = request.collections or self._cdc.collections
        captured = [name for name in wanted if name in self._cdc.collections]
        if not captured:
            log.warning("snapshot.refused", snapshot_id=request.id, not_captured=list(wanted))
            self._keeper.answer(request.id)
            return None
        return self.task(request.why, captured, task_id=request.id, keys=request.keys)

    def _ping(self) -> Timestamp:
        now: Timestamp | None = self._client.admin.command("ping").get("operationTime")
        if now is None:
            raise not_a_replica_set()
        return now

    def _estimate(self, collections: Iterable[str]) -> int:
        return sum(self._database[name].estimated_document_count() for name in collections)
