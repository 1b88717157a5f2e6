"""How much slower the primary takes inserts while data_cdc follows.

Windows with and without data_cdc take turns, in changing order. One client inserts
as fast as it can, each write acknowledged by a majority: first a document at a
time, then a hundred at a time. All that on one machine, where MongoDB shares the
processors with its own client, the broker and data_cdc; so the same again with
the broker and data_cdc kept to one half of the processors, MongoDB and the client
to the other, in both windows. That ratio is what following costs the database.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.documents import article
from benchmarks.figures import Aim, Row, Samples
from benchmarks.processes import can_part, parted
from benchmarks.stage import Scene, Stage, wait_until

_MANY = 100
_CATCH_UP_S = 120.0
_TEXTS = 1000


@dataclass(frozen=True)
class _Plan:
    rounds: int
    window_s: float


def measure_insert(stage: Stage, quick: bool) -> list[Row]:
    """One row for each size of a write and each division of the processors."""
    plan = _Plan(2, 3.0) if quick else _Plan(4, 8.0)
    with stage.scene() as scene:
        writer = _Writer(scene)
        rows = [_row(writer, plan, size, apart=False) for size in (1, _MANY)]
        if can_part():
            with parted(scene.stack) as other_half:
                scene.capture.processors = other_half
                rows += [_row(writer, plan, size, apart=True) for size in (1, _MANY)]
    return rows


def _row(writer: _Writer, plan: _Plan, size: int, *, apart: bool) -> Row:
    pairs = [
        writer.pair(plan.window_s, size, followed_first=n % 2 == 1) for n in range(plan.rounds)
    ]
    how = "one at a time" if size == 1 else f"{size} at a time"
    where = "MongoDB with processors of its own" if apart else "all on shared processors"
    return Row(
        figure=f"insert rate, {how}, {where}",
        unit="/s",
        measured=Samples.of(followed for followed, _ in pairs),
        against="without data_cdc",
        baseline=Samples.of(alone for _, alone in pairs),
        aim=Aim(0.9),
    )


class _Writer:
    """One client of MongoDB."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._numbers = itertools.count()
        self._texts = [article(number) for number in range(_TEXTS)]
        self._written = 0

    def pair(self, seconds: float, size: int, *, followed_first: bool) -> tuple[float, float]:
        """The rates with data_cdc and without it."""
        if followed_first:
            followed = self._followed(seconds, size)
            return followed, self._alone(seconds, size)
        alone = self._alone(seconds, size)
        return self._followed(seconds, size), alone

    def _alone(self, seconds: float, size: int) -> float:
        return self._insert(seconds, size)

    def _followed(self, seconds: float, size: int) -> float:
        self._scene.capture.start()
        self._await_events()
        rate = self._insert(seconds, size)
        self._await_events()
        self._scene.capture.stop()
        return rate

    def _await_events(self) -> None:
        """Until all that was written is in the queue, which is emptied then."""
        queue = self._scene.queue
        wait_until(lambda: queue.depth() >= self._written, "data_cdc to catch up", _CATCH_UP_S)
        self._written = 0
        queue.purge()

    def _insert(self, seconds: float, size: int) -> float:
        begun = time.perf_counter()
        count = 0
        for documents in self._batches(size):
            self._scene.collection.insert_many(documents)
            count += size
            if time.perf_counter() - begun >= seconds:
                break
        self._written += count
        return count / (time.perf_counter() - begun)

    def _batches(self, size: int) -> Iterator[list[dict[str, object]]]:
        while True:
            yield [
                {**self._texts[number % _TEXTS], "_id": f"{os.getpid()}-{number}"}
                for number in itertools.islice(self._numbers, size)
            ]
