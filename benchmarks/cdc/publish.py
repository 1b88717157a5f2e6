"""How fast a backlog of changes gets from MongoDB to confirmed messages.

In each round, on the same queue and with the same bodies: data_cdc works off a
backlog that was written while it was stopped; pika alone publishes the same
messages; then some of them travel by one connection each. data_cdc and pika alone
are timed by the queue's depth, without their beginning and end, so that starting
a process does not count.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass

from benchmarks.documents import articles
from benchmarks.figures import Aim, Row, Samples, rate
from benchmarks.publishers import one_connection_each, publish_pipelined
from benchmarks.stage import COLLECTION, Scene, Stage, TooSlow

_BATCH = 1000
_TIMEOUT_S = 120.0
_EACH = 100


@dataclass(frozen=True)
class _Round:
    captured: float
    pipelined: float
    each: float


def measure_publish(stage: Stage, quick: bool) -> list[Row]:
    """Two rows: against pika alone, and against one connection per message."""
    count, rounds = (10_000, 2) if quick else (30_000, 4)
    with stage.scene() as scene:
        done = [_round(scene, number, count) for number in range(rounds)]
    captured = Samples.of(one.captured for one in done)
    figure = "publish rate, 1 KB documents"
    return [
        Row(
            figure=figure,
            unit="/s",
            measured=captured,
            against="one connection per message",
            baseline=Samples.of(one.each for one in done),
            aim=Aim(40),
        ),
        Row(
            figure=figure,
            unit="/s",
            measured=captured,
            against="pika alone, 512 unconfirmed",
            baseline=Samples.of(one.pipelined for one in done),
            aim=Aim(0.6),
        ),
    ]


def _round(scene: Scene, number: int, count: int) -> _Round:
    for first in range(number * count, (number + 1) * count, _BATCH):
        scene.collection.insert_many(articles(first, _BATCH))
    captured = _work_off(scene, count)
    bodies = scene.queue.take(count)
    pipelined = _pipelined(scene, bodies)
    scene.queue.purge()
    each = one_connection_each(scene.queue.parameters, scene.queue.name, bodies[:_EACH])
    scene.queue.purge()
    return _Round(captured, pipelined, each)


def _work_off(scene: Scene, count: int) -> float:
    scene.capture.begin()
    try:
        return _watched(scene, count)
    finally:
        scene.capture.stop()


def _pipelined(scene: Scene, bodies: list[bytes]) -> float:
    queue, key = scene.queue, f"{scene.database}.{COLLECTION}"
    process = multiprocessing.get_context("spawn").Process(
        target=publish_pipelined, args=(queue.parameters, queue.exchange, key, bodies)
    )
    process.start()
    try:
        return _watched(scene, len(bodies))
    finally:
        process.join(_TIMEOUT_S)
        process.kill()


def _watched(scene: Scene, count: int) -> float:
    points = scene.queue.watch(count, _TIMEOUT_S)
    if points[-1][1] < count:
        raise TooSlow(f"{count} messages", _TIMEOUT_S)
    return rate(points, count)
