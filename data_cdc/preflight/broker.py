"""What RabbitMQ tells over AMQP: its version, and whether exchanges and queue are as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from core.config import CdcConfig
from core.errors import ConfigurationError
from core.mq.topology import DEAD_LETTER_EXCHANGE, EXCHANGE, Topology
from data_cdc.preflight.findings import Finding, error

_QUORUM_SINCE, _DEAD_LETTERS_SINCE, _SMALL_SINCE = (3, 8), (3, 10), (4, 0)
_REFUSED, _NOT_FOUND, _OTHER = 403, 404, 406

Declare = Callable[[BlockingChannel], object]


def look_at_broker(
    connection: BlockingConnection, topology: Topology, cdc: CdcConfig
) -> Iterator[Finding]:
    """All findings. Raises pika's errors when the connection breaks."""
    yield from look_at_server(connection, topology, cdc)
    yield _queue(connection, topology)
    yield Finding(
        "policies",
        "info",
        f"policies cannot be seen from here: none may set max-length, message-ttl or expires "
        f"on queue {topology.queue}",
    )


def look_at_server(
    connection: BlockingConnection, topology: Topology, cdc: CdcConfig
) -> Iterator[Finding]:
    """What must be right before anything is declared."""
    # The only place where pika keeps what the broker says of itself.
    told = connection._impl.server_properties or {}  # noqa: SLF001
    yield from server(str(told.get("product", "")), str(told.get("version", "")), topology, cdc)
    yield from _exchanges(connection)


def server(product: str, version: str, topology: Topology, cdc: CdcConfig) -> Iterator[Finding]:
    """What follows from the broker's name and version."""
    numbers = _numbers(version)
    if product != "RabbitMQ" or not numbers:
        said = f"{product or 'the broker'} {version} is not RabbitMQ, which this was tested with"
        yield Finding("broker", "info", said)
        return
    if numbers < _QUORUM_SINCE:
        problem = f"RabbitMQ {version} is older than 3.8 and has no quorum queues"
        yield error("broker", ConfigurationError("RABBITMQ_HOST", problem, "Use a newer one."))
        return
    if numbers < _DEAD_LETTERS_SINCE:
        said = f"RabbitMQ {version} is older than 3.10 and may lose a message on its way to "
        yield Finding("broker", "warning", said + topology.dead_queue)
    else:
        yield Finding("broker", "ok", f"RabbitMQ {version}")
    yield _size_limit(numbers, version, topology, cdc)


def _size_limit(
    numbers: tuple[int, ...], version: str, topology: Topology, cdc: CdcConfig
) -> Finding:
    limit = "16 MiB" if numbers >= _SMALL_SINCE else "128 MiB"
    fate = {
        "reference": "a larger one is sent without its document, which the consumer reads",
        "park": f"a larger one is set aside in {topology.db}_state.cdc_parked",
    }[cdc.oversize_messages]
    return Finding(
        "size limit",
        "info",
        f"RabbitMQ {version} takes messages of up to {limit}, unless its max_message_size says "
        f"otherwise; {fate} (CDC_OVERSIZE_MESSAGES={cdc.oversize_messages})",
    )


def _exchanges(connection: BlockingConnection) -> Iterator[Finding]:
    yield _exchange(connection, "exchange", EXCHANGE, "topic")
    yield _exchange(connection, "dead letters", DEAD_LETTER_EXCHANGE, "direct")


def _exchange(connection: BlockingConnection, check: str, name: str, kind: str) -> Finding:
    what = f"exchange {name}"
    if not _exists(connection, lambda channel: channel.exchange_declare(name, passive=True)):
        return Finding(check, "info", f"{what} is not there yet; data_cdc makes it")
    refusal = _declare(connection, lambda c: c.exchange_declare(name, kind, durable=True))
    if refusal is None:
        return Finding(check, "ok", f"{what} is as it should be")
    if refusal.reply_code == _OTHER:
        cause = f"{what} is not a durable {kind} exchange ({refusal.reply_text})"
        return error(
            check, ConfigurationError("RABBITMQ_HOST", cause, "Delete it, or use another vhost.")
        )
    return _not_allowed(check, what)


def _queue(connection: BlockingConnection, topology: Topology) -> Finding:
    check, name = "queue", topology.queue
    if not _exists(connection, lambda channel: channel.queue_declare(name, passive=True)):
        return Finding(check, "info", f"queue {name} is not there yet; data_cdc makes it")
    arguments: dict[str, Any] = topology.arguments()
    refusal = _declare(
        connection, lambda c: c.queue_declare(name, durable=True, arguments=arguments)
    )
    if refusal is None:
        return Finding(check, "ok", f"queue {name} has every argument that the guarantees need")
    if refusal.reply_code == _OTHER:
        said = f"queue {name} lacks a guarantee and is used as it is ({refusal.reply_text})"
        return Finding(check, "warning", said)
    return _not_allowed(check, f"queue {name}")


def _not_allowed(check: str, what: str) -> Finding:
    remedy = "Grant it configure, write and read on it."
    problem = f"the user may not declare {what}"
    return error(check, ConfigurationError("RABBITMQ_DEFAULT_USERNAME", problem, remedy))


def _exists(connection: BlockingConnection, look: Declare) -> bool:
    refusal = _declare(connection, look)
    return refusal is None or refusal.reply_code != _NOT_FOUND


def _declare(connection: BlockingConnection, declare: Declare) -> ChannelClosedByBroker | None:
    """What the broker says against it, in a channel of its own: a refusal closes the channel."""
    channel = connection.channel()
    try:
        declare(channel)
    except ChannelClosedByBroker as refusal:
        if refusal.reply_code not in (_REFUSED, _NOT_FOUND, _OTHER):
            raise
        return refusal
    channel.close()
    return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
