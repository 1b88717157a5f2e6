"""Whether data_cdc keeps its size over a million events.

Documents are replaced again and again, so MongoDB and the queue stay small. The
writer stays at most a few thousand events ahead: no window of the oplog is outrun.
"""

from __future__ import annotations

import time
from typing import Any

from pymongo import ReplaceOne
from pymongo.collection import Collection

from benchmarks.documents import articles
from benchmarks.figures import Aim, Row, Samples, growth
from benchmarks.processes import resident_mb
from benchmarks.stage import Scene, Stage, TooSlow

_DOCUMENTS = 5000
_BATCH = 500
_AHEAD = 20_000
_LOOK_EVERY_S = 0.5
_STALLED_S = 60.0


def measure_memory(stage: Stage, quick: bool) -> list[Row]:
    """The largest size, and how much it grew in the second half."""
    total = 100_000 if quick else 1_000_000
    with stage.scene() as scene:
        scene.capture.start()
        points = _sizes(scene, total)
    late = [point for point in points if point[0] >= total / 2]
    return [
        Row(
            figure=f"memory of data_cdc over {total:,} events, largest",
            unit="MB",
            measured=Samples.of([max(size for _, size in points)]),
            aim=Aim(120, at_most=True),
        ),
        Row(
            figure="memory of data_cdc, growth over the second half",
            unit="MB",
            measured=Samples.of([growth(late)]),
            aim=Aim(5, at_most=True),
        ),
    ]


def _sizes(scene: Scene, total: int) -> list[tuple[float, float]]:
    """(events arrived, MB) every half second, until `total` events have arrived."""
    writer = _Writer(scene.collection)
    points: list[tuple[float, float]] = []
    arrived, arrived_at = 0, time.monotonic()
    with scene.queue.purging() as purge:
        while arrived < total:
            writer.write_for(_LOOK_EVERY_S, up_to=min(total + _BATCH, arrived + _AHEAD))
            if fresh := purge():
                arrived, arrived_at = arrived + fresh, time.monotonic()
            elif time.monotonic() - arrived_at > _STALLED_S:
                raise TooSlow(f"event {arrived + 1} of {total}", _STALLED_S)
            points.append((arrived, resident_mb(scene.capture.pid)))
    return points


class _Writer:
    """Replaces documents in turn."""

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        self._collection = collection
        self._documents = articles(0, _DOCUMENTS)
        self._count = 0

    def write_for(self, seconds: float, *, up_to: int) -> None:
        """Return after `seconds`; write no more than `up_to` changes in all."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._count < up_to:
            self._collection.bulk_write([self._next() for _ in range(_BATCH)], ordered=False)
        time.sleep(max(0.0, deadline - time.monotonic()))

    def _next(self) -> ReplaceOne[dict[str, Any]]:
        document = self._documents[self._count % _DOCUMENTS]
        self._count += 1
        changed = {**document, "edition": self._count}
        return ReplaceOne({"_id": document["_id"]}, changed, upsert=True)
