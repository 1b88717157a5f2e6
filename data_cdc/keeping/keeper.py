"""Keeps the offset, the heartbeat and what was set aside, without ever ending the service.

A state database that is away costs freshness, not correctness: an old offset only
means that more is sent again. Away for longer, it costs the lease, and sending pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

import pymongo
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from core.logging import get_logger
from core.retry import Backoff
from core.signals import SnapshotRequest
from data_cdc.context import Context
from data_cdc.errors import Stopping
from data_cdc.keeping.offset import Offset
from data_cdc.keeping.parked import LONGEST_NAME, Parked
from data_cdc.keeping.state import Checkpoint, Heartbeat, StateStore
from data_cdc.transforms import fingerprint

_SAVE_EVERY_S = 0.25
_BEAT_EVERY_S = 3.0
_TIMEOUT_S = 3.0

log = get_logger()


class Keeper:
    """Writes to the state database at a bounded pace. Use from one thread.

    `answered` are those of the finished snapshots in the last offset whose askers were told.
    """

    def __init__(self, context: Context, store: StateStore) -> None:
        self._store = store
        self._metrics = context.metrics
        self._collections = context.cdc.collections
        self._transforms = fingerprint(context.cdc.transforms)
        self._stop = context.stop
        self._kept: Offset | None = None
        self.answered: frozenset[str] = frozenset()
        self._next_save = 0.0
        self._next_beat = 0.0

    def keep(self, offset: Offset | None, *, now: bool = False) -> None:
        """Save the safe offset, if it is new and the last save is a moment ago.

        Raises LeadershipLost when somebody else keeps it now.
        """
        if offset is None or (not now and monotonic() < self._next_save) or offset == self._kept:
            return
        checkpoint = Checkpoint(offset, self._collections, self._transforms)
        if self._write("checkpoint.not_saved", partial(self._store.save, checkpoint)):
            self._kept = offset
            self._metrics.checkpoint(offset.position.time)
            self._answer(offset)
        self._next_save = monotonic() + _SAVE_EVERY_S

    def has_kept(self, offset: Offset | None) -> bool:
        """Whether `offset` is what a crash would resume from."""
        return offset == self._kept

    def beat_due(self) -> bool:
        """Whether it is time for the next heartbeat."""
        return monotonic() >= self._next_beat

    def requests(self, known: Callable[[str], bool]) -> list[SnapshotRequest]:
        """The snapshots asked for that are not `known`; none while MongoDB is away."""
        try:
            with pymongo.timeout(_TIMEOUT_S):
                return self._store.requests(known)
        except PyMongoError as error:
            log.warning("signals.not_read", waiting_for="MongoDB", reason=str(error)[:200])
            return []

    def answer(self, request: str) -> None:
        """Take a request off the list."""
        if self._write("signals.not_answered", partial(self._store.answer, request)):
            self.answered |= {request}

    def beat(self, heartbeat: Heartbeat) -> None:
        """Say how we do."""
        self._write("heartbeat.not_saved", partial(self._store.beat, heartbeat))
        self._next_beat = monotonic() + _BEAT_EVERY_S

    def park(self, change: Parked) -> None:
        """Set `change` aside; returns once that is kept. Raises Stopping when told to stop."""
        backoff = Backoff()
        while not self._write("parking.not_saved", partial(self._store.park, change)):
            if self._stop.wait(backoff.next_delay()):
                raise Stopping
        self._metrics.parked(change.reason)
        log.error(
            "event.parked",
            reason=change.reason,
            event_id=change.id,
            collection=change.collection,
            key=change.key[:LONGEST_NAME],
            bytes=change.size,
        )

    def forget(self) -> None:
        """The offset was given up: whatever comes next is new."""
        self._kept = None

    def _answer(self, offset: Offset) -> None:
        """Only after the end of a snapshot is kept: it would be lost with us otherwise."""
        self.answered &= set(offset.finished)
        for request in set(offset.finished) - self.answered:
            self.answer(request)

    def _write(self, failure: str, write: Callable[[], None]) -> bool:
        try:
            with pymongo.timeout(_TIMEOUT_S):
                write()
        except (PyMongoError, BSONError) as error:
            # BSONError: an `_id` of megabytes, twice in one record.
            log.warning(failure, waiting_for="MongoDB", reason=str(error)[:200])
            return False
        return True
