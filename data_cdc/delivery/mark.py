"""A mark on the queue, by which a missing queue is noticed even if somebody made it anew.

The feature pipeline declares the same queue, so that it exists tells little. The
mark is a binding that only data_cdc makes; it goes with the queue. A message to
it that no queue takes tells that the queue which our checkpoint knows is gone.
That message is a JSON null, which every consumer of change events skips.
"""

from __future__ import annotations

from pika.adapters.blocking_connection import BlockingConnection

from core.errors import ServiceUnavailable
from core.events import Message
from core.mq.publisher import Publisher, PublishInterrupted, Unroutable
from core.mq.topology import EXCHANGE, Topology
from data_cdc.errors import GapFound

MARK = "mark"
_NOTHING = b"null"
# A quorum queue that has just come back may swallow what comes before it has a leader.
_CONFIRM_S = 5.0
_REMEDY = (
    "If it stays so, the queue has lost its leader: delete it, and data_cdc declares a gap "
    "and reads everything again, where CDC_SNAPSHOT_MODE lets it."
)


def bind_mark(connection: BlockingConnection, topology: Topology) -> None:
    """Mark the queue. Idempotent."""
    channel = connection.channel()
    channel.queue_bind(topology.queue, EXCHANGE, mark_key(topology))
    channel.close()


def expect_mark(publisher: Publisher, topology: Topology, address: str) -> None:
    """Return once the queue that was marked has confirmed a message, the first of `publisher`.

    Raises GapFound when it is not there, and TransientError: open another publisher.
    """
    try:
        publisher.send(mark(topology), _CONFIRM_S)
        confirmed = publisher.flush(_CONFIRM_S)
    except PublishInterrupted as error:
        if isinstance(error.cause, Unroutable):
            raise GapFound(mark_gone(topology)) from None
        raise
    if not confirmed:
        cause = f"queue {topology.queue!r} confirms nothing"
        raise ServiceUnavailable("RabbitMQ", address, cause, _REMEDY)


def mark(topology: Topology) -> Message:
    """What comes back where the marked queue is gone, and is nothing to a consumer."""
    return Message(
        routing_key=mark_key(topology),
        body=_NOTHING,
        message_id="",
        type=MARK,
        timestamp=0,
        headers={},
    )


def mark_gone(topology: Topology) -> str:
    """What it means that the mark came back."""
    return f"queue {topology.queue!r} is gone, or was made anew"


def mark_key(topology: Topology) -> str:
    """The routing key that only the marked queue is bound to."""
    return f"{topology.db}.position.{topology.queue}"
