"""A mark on the queue, by which a missing queue is noticed even if somebody made it anew.

The feature pipeline declares the same queue, so that it exists tells little. The
mark is a binding that only data_cdc makes; it goes with the queue. A message to
it that no queue takes tells that the queue which our checkpoint knows is gone.
That message is a JSON null, which every consumer of change events skips.
"""

from __future__ import annotations

import pika
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import NackError, UnroutableError

from core.logging import get_logger
from core.mq.topology import EXCHANGE, Topology

_NOTHING = b"null"

log = get_logger()


def bind_mark(connection: BlockingConnection, topology: Topology) -> None:
    """Mark the queue. Idempotent."""
    channel = connection.channel()
    channel.queue_bind(topology.queue, EXCHANGE, _key(topology))
    channel.close()


def has_mark(connection: BlockingConnection, topology: Topology) -> bool:
    """Whether the queue is the one that was marked."""
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/json", type="mark")
    try:
        channel.basic_publish(EXCHANGE, _key(topology), _NOTHING, properties, mandatory=True)
    except UnroutableError:
        return False
    except NackError:
        log.debug("mark.refused", queue=topology.queue)  # by a queue that is there, and full
    channel.close()
    return True


def _key(topology: Topology) -> str:
    return f"{topology.db}.position.{topology.queue}"
