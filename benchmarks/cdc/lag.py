"""How long after the primary wrote a change its message is in a consumer's hands.

The wall time in the event is the primary's clock when it wrote, so the figure
holds replication to a majority, capture, publishing and delivery. The consumer is
a process that does nothing but look at the clock and acknowledge in bulk.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

import pika

from benchmarks.documents import article
from benchmarks.figures import Row, Samples, percentile
from benchmarks.stage import Scene, Stage

_RATES = (100, 1000, 5000)
_TICK_S = 0.01
_WARM_UP_S = 1.0
_SETTLE_S = 1.0
_PREFETCH = 5000
_ACKNOWLEDGE_EVERY_S = 0.05
_WALL_TIME = re.compile(rb'"wallTime":(\d+)')
_TEXTS = 1000


@dataclass(frozen=True)
class _Window:
    median_ms: float
    p99_ms: float
    fed: float


def measure_lag(stage: Stage, quick: bool) -> list[Row]:
    """Two rows for each rate: the median, and what 99 of 100 keep."""
    rounds, seconds = (1, 4.0) if quick else (3, 8.0)
    with stage.scene() as scene:
        scene.capture.start()
        feeder = _Feeder(scene)
        windows = {
            rate: [_window(scene, feeder, rate, seconds) for _ in range(rounds)] for rate in _RATES
        }
    return [row for rate in _RATES for row in _rows(rate, windows[rate])]


def _rows(rate: int, windows: list[_Window]) -> list[Row]:
    fed = min(window.fed for window in windows)
    name = f"lag at {rate:,} events/s" + (
        f" (only {fed:,.0f} written)" if fed < 0.95 * rate else ""
    )
    return [
        Row(figure=f"{name}, p50", unit="ms", measured=Samples.of(w.median_ms for w in windows)),
        Row(figure=f"{name}, p99", unit="ms", measured=Samples.of(w.p99_ms for w in windows)),
    ]


def _window(scene: Scene, feeder: _Feeder, rate: int, seconds: float) -> _Window:
    with _consumer(scene) as collect:
        begun = time.time()
        fed = feeder.feed(rate, seconds)
        time.sleep(_SETTLE_S)
        seen = collect()
    lags = [1000 * (at - written) for written, at in seen if written - begun >= _WARM_UP_S]
    return _Window(percentile(lags, 0.5), percentile(lags, 0.99), fed)


class _Feeder:
    """Writes at a steady rate, in small batches."""

    def __init__(self, scene: Scene) -> None:
        self._collection = scene.collection.with_options(write_concern=None)
        self._texts = [article(number) for number in range(_TEXTS)]
        self._number = 0

    def feed(self, rate: int, seconds: float) -> float:
        """Insert `rate` documents a second; how many a second it came to."""
        begun = time.perf_counter()
        count = 0
        while (elapsed := time.perf_counter() - begun) < seconds:
            due = int(elapsed * rate) - count
            if due > 0:
                self._collection.insert_many(self._documents(due), ordered=False)
                count += due
            time.sleep(max(0.0, _TICK_S - (time.perf_counter() - begun - elapsed)))
        return count / (time.perf_counter() - begun)

    def _documents(self, count: int) -> list[dict[str, Any]]:
        first, self._number = self._number, self._number + count
        return [
            {**self._texts[number % _TEXTS], "_id": f"lag-{number}"}
            for number in range(first, first + count)
        ]


@contextmanager
def _consumer(scene: Scene) -> Iterator[Any]:
    """Consumes until the function it yields is called, which returns what arrived, and when."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    stop = context.Event()
    process = context.Process(
        target=consume, args=(scene.queue.parameters, scene.queue.name, theirs, stop)
    )
    process.start()

    def collect() -> list[tuple[float, float]]:
        stop.set()
        seen: list[tuple[float, float]] = ours.recv()
        return seen

    try:
        ours.recv()
        yield collect
    finally:
        stop.set()
        process.join(10)
        process.kill()


def consume(
    parameters: pika.ConnectionParameters, queue: str, pipe: Connection, stop: Event
) -> None:
    """For a process of its own: sends (written, received) of each message once told to stop."""
    seen: list[tuple[float, float]] = []
    tags = [0]

    def take(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        at = time.time()
        tags.append(method.delivery_tag)
        match = _WALL_TIME.search(body)
        if match:
            seen.append((int(match[1]) / 1000, at))

    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=_PREFETCH)
        channel.basic_consume(queue, take)
        pipe.send("ready")
        while not stop.is_set():
            connection.process_data_events(_ACKNOWLEDGE_EVERY_S)
            if tags:
                channel.basic_ack(tags[-1], multiple=True)
                tags.clear()
    pipe.send(seen)
