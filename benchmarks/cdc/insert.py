"""How much slower the primary takes inserts while data_cdc follows.

Windows with and without data_cdc take turns, in changing order. One client inserts
as fast as it can, each write acknowledged by a majority. A document at a time is
how programs write, and what the aim is for. A hundred at a time is a bulk load,
which takes all the processor there is: on one machine MongoDB then has to share it
with data_cdc and the broker, which do as much work for each document. So the
same is measured with those two kept to one half of the processors, and MongoDB
and the client to the other, in both windows: what is left is what being followed
costs the database.
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
    """One at a time, a hundred at a time, and that again with the processors divided."""
    plan = _Plan(2, 3.0) if quick else _Plan(5, 8.0)
    with stage.scene() as scene:
        writer = _Writer(scene)
        rows = [
            _row("insert rate, one at a time", writer, plan, 1, Aim(0.9)),
            _row(f"insert rate, {_MANY} at a time", writer, plan, _MANY),
        ]
        if can_part():
            with parted(scene.stack) as other_half:
                scene.capture.processors = other_half
                rows.append(_row(f"{rows[1].figure}, processors divided", writer, plan, _MANY))
    return rows


def _row(figure: str, writer: _Writer, plan: _Plan, size: int, aim: Aim | None = None) -> Row:
    pairs = [
        writer.pair(plan.window_s, size, followed_first=number % 2 == 1)
        for number in range(plan.rounds)
    ]
    return Row(
        figure=figure,
        unit="/s",
        measured=Samples.of(followed for followed, _ in pairs),
        against="without data_cdc",
        baseline=Samples.of(alone for _, alone in pairs),
        aim=aim,
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
            return followed, self._insert(seconds, size)
        alone = self._insert(seconds, size)
        return self._followed(seconds, size), alone

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
