"""What data_cdc's rate is compared with: the course's way to publish, and pika alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection

_PERSISTENT = pika.BasicProperties(delivery_mode=2)


def one_connection_each(
    parameters: pika.ConnectionParameters, queue: str, bodies: Sequence[bytes]
) -> float:
    """Messages a second where each has a connection, a channel and a confirm of its own."""
    begun = time.perf_counter()
    for body in bodies:
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.queue_declare(queue, passive=True)
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, _PERSISTENT, mandatory=True)
        connection.close()
    return len(bodies) / (time.perf_counter() - begun)


class Pipelined:
    """pika and nothing else: one connection, `window` messages without a confirm."""

    def __init__(
        self,
        parameters: pika.ConnectionParameters,
        exchange: str,
        routing_key: str,
        bodies: Sequence[bytes],
        window: int = 512,
    ) -> None:
        self._parameters = parameters
        self._target = exchange, routing_key
        self._bodies = bodies
        self._window = window
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._channel: Any = None

    def run(self) -> None:
        """Publish everything; returns when the last one is confirmed."""
        self._connection = SelectConnection(self._parameters, on_open_callback=self._open)
        self._connection.ioloop.start()

    def _open(self, connection: SelectConnection) -> None:
        connection.add_on_close_callback(lambda connection, _: connection.ioloop.stop())
        connection.channel(on_open_callback=self._confirm)

    def _confirm(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._fill())

    def _fill(self) -> None:
        while self._sent < len(self._bodies) and len(self._unconfirmed) < self._window:
            self._channel.basic_publish(
                *self._target, self._bodies[self._sent], _PERSISTENT, mandatory=True
            )
            self._sent += 1
            self._unconfirmed.add(self._sent)

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        if frame.method.multiple:
            self._unconfirmed = {other for other in self._unconfirmed if other > tag}
        else:
            self._unconfirmed.discard(tag)
        self._fill()
        if not self._unconfirmed:
            self._connection.close()


def publish_pipelined(
    parameters: pika.ConnectionParameters, exchange: str, routing_key: str, bodies: Sequence[bytes]
) -> None:
    """For a process of its own."""
    Pipelined(parameters, exchange, routing_key, bodies).run()
