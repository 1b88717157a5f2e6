"""Exchanges, queues and bindings: declared the same by every service, from here.

    llm_twin.cdc (topic) ──<db>.<collection>──► <queue> ──rejected──► llm_twin.dlx ──► <queue>.dead
                         ──<db>.control──────►
                         ──*.<db>.<collection> (Debezium's topic names)

Queues are quorum queues with one active consumer, so order holds and a message
survives the broker. What the broker itself must give up goes to the dead-letter
queue at least once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker

from core.events.encode import CONTROL
from core.logging import get_logger

EXCHANGE = "llm_twin.cdc"
DEAD_LETTER_EXCHANGE = "llm_twin.dlx"
_NOT_FOUND, _PRECONDITION_FAILED = 404, 406
# What the broker also says with 404, of a queue that is there and without its process or leader.
_UNREACHABLE = re.compile("inaccessible|stopped by supervisor|failed to restart|due to timeout")

# A crashing consumer returns its whole prefetch, so a small limit would
# dead-letter the innocent: this is a backstop only.
DELIVERY_LIMIT = 1000
# RabbitMQ 4 drops a message of a quorum queue after 20 deliveries, unless told otherwise.
_LOOKS = 1_000_000
# Longer than the slowest batch. RabbitMQ before 3.12 ignores it and has 30 minutes.
CONSUMER_TIMEOUT_MS = 3_600_000

log = get_logger()


@dataclass(frozen=True)
class Topology:
    """What must exist on the broker for one database and one queue."""

    db: str
    collections: tuple[str, ...]
    queue: str

    @property
    def dead_queue(self) -> str:
        """Where messages go that can never work."""
        return f"{self.queue}.dead"

    def bindings(self) -> Sequence[str]:
        """The routing keys that end in the queue."""
        own = [f"{self.db}.{collection}" for collection in self.collections]
        return [*own, f"{self.db}.{CONTROL}", *(f"*.{key}" for key in own)]

    def arguments(self) -> dict[str, Any]:
        """The queue's arguments, each a part of the guarantee."""
        return {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
            "x-dead-letter-routing-key": self.dead_queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
        }

    def dead_arguments(self) -> dict[str, Any]:
        """Whoever looks into the dead-letter queue gives back what he saw, and that counts."""
        return {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS}


def declare(connection: BlockingConnection, topology: Topology) -> bool:
    """Make everything exist, and tell whether the queue was there before.

    Idempotent. A queue that exists with other arguments is used as it is, with a
    warning that names what it may lack.
    """
    existed = queue_exists(connection, topology.queue)
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.exchange_declare(DEAD_LETTER_EXCHANGE, "direct", durable=True)
    channel.close()
    _declare_queue(connection, topology.dead_queue, topology.dead_arguments())
    _declare_queue(connection, topology.queue, topology.arguments())
    channel = connection.channel()
    channel.queue_bind(topology.dead_queue, DEAD_LETTER_EXCHANGE, topology.dead_queue)
    for key in topology.bindings():
        channel.queue_bind(topology.queue, EXCHANGE, key)
    channel.close()
    return existed


def queue_exists(connection: BlockingConnection, queue: str) -> bool:
    """Whether the broker holds `queue`, whatever its arguments."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as error:
        if error.reply_code != _NOT_FOUND or _UNREACHABLE.search(error.reply_text):
            raise
        return False
    channel.close()
    return True


def queue_depth(channel: BlockingChannel, queue: str) -> int:
    """Messages that wait in `queue`, those in a consumer's hands not counted."""
    depth: int = channel.queue_declare(queue, passive=True).method.message_count
    return depth


def _declare_queue(connection: BlockingConnection, queue: str, arguments: dict[str, Any]) -> None:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, durable=True, arguments=arguments)
    except ChannelClosedByBroker as error:
        if error.reply_code != _PRECONDITION_FAILED:
            raise
        _warn(queue, error.reply_text)
        return
    channel.close()


def _warn(queue: str, reply: str) -> None:
    log.warning(
        "queue.other_arguments",
        queue=queue,
        broker=reply,
        lacks="survival of a lost broker node, order under several consumers, or dead-lettering",
        remedy="stop the services, drain and delete the queue, start them again",
    )
