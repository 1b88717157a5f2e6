"""The queue that data_cdc fills, seen as any client of the broker sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pika
from pika.adapters.blocking_connection import BlockingChannel

from core.mq.topology import EXCHANGE

_LOOK_EVERY_S = 0.05
_PREFETCH = 1000


class Queue:
    """One queue. A connection of its own for each call."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.parameters = pika.ConnectionParameters(
            environment["RABBITMQ_HOST"], int(environment["RABBITMQ_PORT"])
        )
        self.name = environment["RABBITMQ_QUEUE_NAME"]
        self.exchange = EXCHANGE

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel for a moment."""
        with pika.BlockingConnection(self.parameters) as connection:
            yield connection.channel()

    def depth(self) -> int:
        """How many messages wait: each was confirmed."""
        with self.channel() as channel:
            return depth(channel, self.name)

    def purge(self) -> int:
        """Throw away what waits; how many that were."""
        with self.channel() as channel:
            return purge(channel, self.name)

    @contextmanager
    def purging(self) -> Iterator[Callable[[], int]]:
        """`purge` again and again, on one connection."""
        with self.channel() as channel:
            yield lambda: purge(channel, self.name)

    def watch(self, until: int, timeout_s: float) -> list[tuple[float, int]]:
        """(time, messages) from now on, until so many wait or time is up."""
        points: list[tuple[float, int]] = []
        deadline = time.perf_counter() + timeout_s
        with self.channel() as channel:
            while not points or (points[-1][1] < until and points[-1][0] < deadline):
                waiting = depth(channel, self.name)
                points.append((time.perf_counter(), waiting))
                time.sleep(_LOOK_EVERY_S)
        return points

    def take(self, count: int) -> list[bytes]:
        """The bodies of the first `count` messages, which are gone afterwards."""
        bodies: list[bytes] = []
        with self.channel() as channel:
            channel.basic_qos(prefetch_count=_PREFETCH)
            for method, _, body in channel.consume(self.name):
                bodies.append(body)
                done = len(bodies) == count
                if done or len(bodies) % _PREFETCH == 0:
                    channel.basic_ack(method.delivery_tag, multiple=True)
                if done:
                    channel.cancel()
                    return bodies
        raise ValueError("the queue is gone")


def depth(channel: BlockingChannel, name: str) -> int:
    """How many messages wait in the queue `name`."""
    count: int = channel.queue_declare(name, passive=True).method.message_count
    return count


def purge(channel: BlockingChannel, name: str) -> int:
    """Throw away what waits in the queue `name`; how many that were."""
    count: int = channel.queue_purge(name).method.message_count
    return count
