"""Where to go on: a place in the stream, and what is still to be read of the collections.

Both are kept together, in one document, so that no crash can part them. Pure values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from bson.timestamp import Timestamp

from data_cdc.keeping.position import Position


@dataclass(frozen=True, kw_only=True)
class SnapshotTask:
    """A read of whole collections, or of the documents `keys` of one, and how far it came.

    `after` is `{"_id": …}` of the last document read of the current collection, None at
    its beginning. Nothing is read as of before `not_before`. `earliest` is the smallest
    clusterTime read at so far. `total` is an estimate, in documents.
    """

    id: str
    why: str
    collections: tuple[str, ...]
    not_before: Timestamp
    keys: tuple[str, ...] | None = None
    total: int = 0
    rows: int = 0
    current: int = 0
    after: Mapping[str, Any] | None = None
    earliest: Timestamp | None = None

    @property
    def collection(self) -> str | None:
        """What is being read; None when all is read."""
        return self.collections[self.current] if self.current < len(self.collections) else None

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was read yet."""
        return self.rows == 0 and self.current == 0

    @property
    def remaining(self) -> tuple[str, ...]:
        """The collections that are not read to their end."""
        return self.collections[self.current :]

    def read(self, rows: int, at: Timestamp | None, after: Mapping[str, Any]) -> Self:
        """The task after a chunk of `rows` documents that was read at `at`, up to `after`."""
        return replace(self.seen(rows, at), after=after)

    def seen(self, rows: int, at: Timestamp | None) -> Self:
        """The task after `rows` more documents."""
        times = [time for time in (self.earliest, at) if time is not None]
        return replace(self, rows=self.rows + rows, earliest=min(times, default=None))

    def next_collection(self) -> Self:
        """The task after the end of the current collection."""
        return replace(self, current=self.current + 1, after=None)

    def only(self, captured: Collection[str]) -> Self | None:
        """The task without what is no longer captured; None where nothing is.

        One that has only its end to tell is not over: what it has not seen must go.
        """
        left = tuple(name for name in self.remaining if name in captured)
        done = tuple(name for name in self.collections[: self.current] if name in captured)
        if not (done or left):
            return None
        after = self.after if left and left[0] == self.collection else None
        return replace(self, collections=done + left, current=len(done), after=after)


@dataclass(frozen=True, kw_only=True)
class Offset:
    """After `position` in the stream, with `snapshots` to be made; the first one runs.

    `finished` are the ids of snapshots that were completed, until those who asked are told.
    """

    position: Position
    snapshots: tuple[SnapshotTask, ...] = ()
    finished: tuple[str, ...] = ()

    @property
    def running(self) -> SnapshotTask | None:
        """The snapshot that is being read."""
        return self.snapshots[0] if self.snapshots else None

    def at(self, position: Position) -> Self:
        """Further on in the stream."""
        # Made for every change, and so without the detour of `replace`.
        return type(self)(position=position, snapshots=self.snapshots, finished=self.finished)

    def with_task(self, task: SnapshotTask | None) -> Self:
        """With one more snapshot, behind the others; None is none."""
        return self if task is None else replace(self, snapshots=(*self.snapshots, task))

    def with_progress(self, task: SnapshotTask) -> Self:
        """With the running snapshot as far as `task` tells."""
        return replace(self, snapshots=(task, *self.snapshots[1:]))

    def without_running(self) -> Self:
        """With the running snapshot completed."""
        done = (*self.finished, self.snapshots[0].id)
        return replace(self, snapshots=self.snapshots[1:], finished=done)

    def forgetting(self, answered: Collection[str]) -> Self:
        """Without the finished ones whose askers were told."""
        if not self.finished or not answered:
            return self
        return replace(self, finished=tuple(one for one in self.finished if one not in answered))

    def will_read(self, collections: Collection[str]) -> bool:
        """Whether a snapshot is to be made that has all of `collections` before it."""
        return any(
            task.keys is None and set(collections) <= set(task.remaining) for task in self.snapshots
        )

    def knows(self, request: str) -> bool:
        """Whether a snapshot was begun for `request`, or completed."""
        return request in self.finished or any(task.id == request for task in self.snapshots)

    def only(self, captured: Collection[str]) -> Self:
        """Without snapshots of what is no longer captured."""
        tasks = (task.only(captured) for task in self.snapshots)
        return replace(self, snapshots=tuple(task for task in tasks if task is not None))
