"""A consumer whose connection lives in an I/O thread.

Heartbeats go on while the model runs. What arrives is buffered; the caller takes
it in batches and acknowledges up to a delivery once everything it caused is
written. After a lost connection the broker delivers again what was not
acknowledged: the buffer is dropped, and acknowledgements that belong to the old
channel are too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

from core.config import RabbitConfig
from core.errors import ServiceUnavailable, TerminalError, TransientError, TwinError
from core.logging import get_logger
from core.mq.connection import explain, open_blocking
from core.retry import Backoff

_PUMP_S = 1.0
_JOIN_S = 10.0
_DELIVERY_COUNT = "x-delivery-count"

log = get_logger()


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message, and what is needed to acknowledge it on the channel it came by."""

    body: bytes
    headers: Mapping[str, Any]
    routing_key: str
    message_id: str | None
    generation: int
    tag: int

    @property
    def deliveries(self) -> int:
        """How often the broker delivered this message before."""
        count = self.headers.get(_DELIVERY_COUNT)
        return count if isinstance(count, int) else 0


class Consumer:
    """Consumes one queue. `prepare` runs on each new connection, to declare the topology.

    The thread starts at once, waits for a broker that is not up, and comes back
    after a lost connection. What ends it for good is raised by `fetch`.
    """

    def __init__(
        self,
        config: RabbitConfig,
        queue: str,
        *,
        prepare: Callable[[BlockingConnection], object],
        prefetch: int = 128,
        name: str = "llm-twin-consumer",
    ) -> None:
        self._config = config
        self._queue = queue
        self._prepare = prepare
        self._prefetch = prefetch
        self._name = name
        self._state = threading.Condition()
        self._buffer: deque[Delivery] = deque()
        self._generation = 0
        self._acknowledge: tuple[int, int] | None = None
        self._closing = False
        self._fatal: TwinError | None = None
        self._connection: BlockingConnection | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the broker is there and knows us as a consumer of the queue."""
        with self._state:
            return self._connection is not None

    def fetch(self, limit: int, timeout_s: float, *, suspect_after: int) -> list[Delivery]:
        """At most `limit` deliveries in the order of the queue; waits up to `timeout_s` for one.

        A delivery that came back `suspect_after` times comes alone: it may be what
        ends the process, and must not take others with it. Raises TerminalError
        when the broker refuses us for good.
        """
        with self._state:
            self._state.wait_for(lambda: self._buffer or self._fatal, timeout_s)
            if self._fatal is not None:
                raise self._fatal
            batch: list[Delivery] = []
            while self._buffer and len(batch) < limit:
                suspect = self._buffer[0].deliveries >= suspect_after
                if suspect and batch:
                    break
                batch.append(self._buffer.popleft())
                if suspect:
                    break
            return batch

    def acknowledge(self, last: Delivery) -> None:
        """Acknowledge `last` and all before it on its channel. Does not wait for the broker."""
        with self._state:
            self._acknowledge = (last.generation, last.tag)
            connection = self._connection
        if connection is not None:
            _call(connection, self._flush)

    def close(self) -> None:
        """End the connection and the thread, after sending what was acknowledged. Idempotent."""
        with self._state:
            self._closing = True
            self._state.notify_all()
            connection = self._connection
        if connection is not None:
            _call(connection, lambda: None)
        self._thread.join(_JOIN_S)

    # -- the I/O thread --------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        while not self._closing:
            try:
                self._consume(backoff)
            except TransientError as error:
                delay = backoff.next_delay()
                log.warning("broker.unavailable", reason=str(error), retry_in_s=round(delay, 1))
                self._sleep(delay)
            except TwinError as error:
                self._stop_for_good(error)
            except Exception as error:  # noqa: BLE001 - a thread's end must reach its owner
                self._stop_for_good(
                    TerminalError(f"consuming {self._queue!r} ended: {error!r}. Start it again.")
                )

    def _consume(self, backoff: Backoff) -> None:
        connection = open_blocking(self._config, self._name)
        try:
            self._prepare(connection)
            self._subscribe(connection)
            backoff.reset()
            log.info("broker.connected", queue=self._queue, address=self._config.address)
            while not self._closing:
                connection.process_data_events(time_limit=_PUMP_S)
                if self._channel.is_closed:
                    raise self._gone("the broker closed the channel")
            self._flush()
        except (AMQPError, OSError) as error:
            raise explain(error, self._config) from error
        finally:
            self._forget()
            _close(connection)

    def _subscribe(self, connection: BlockingConnection) -> None:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.add_on_cancel_callback(lambda _: channel.close())
        with self._state:
            self._generation += 1
            self._connection = connection
            self._channel: BlockingChannel = channel
        channel.basic_consume(self._queue, self._on_message, auto_ack=False)

    def _on_message(
        self, _channel: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes
    ) -> None:
        delivery = Delivery(
            body=body,
            headers=properties.headers or {},
            routing_key=method.routing_key,
            message_id=properties.message_id,
            generation=self._generation,
            tag=method.delivery_tag,
        )
        with self._state:
            self._buffer.append(delivery)
            self._state.notify_all()

    def _flush(self) -> None:
        with self._state:
            wanted, self._acknowledge = self._acknowledge, None
            current = self._generation
        if wanted is not None and wanted[0] == current and self._channel.is_open:
            self._channel.basic_ack(wanted[1], multiple=True)

    def _forget(self) -> None:
        with self._state:
            self._connection = None
            self._buffer.clear()
            self._acknowledge = None

    def _gone(self, cause: str) -> ServiceUnavailable:
        return ServiceUnavailable("RabbitMQ", self._config.address, cause)

    def _sleep(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._closing, seconds)

    def _stop_for_good(self, error: TwinError) -> None:
        with self._state:
            self._fatal = error
            self._closing = True
            self._state.notify_all()


def _call(connection: BlockingConnection, callback: Callable[[], object]) -> None:
    """Run `callback` in the I/O thread; a connection that just closed needs it no more."""
    try:
        connection.add_callback_threadsafe(callback)
    except AMQPError as error:
        log.debug("consumer.connection_gone", reason=type(error).__name__)


def _close(connection: BlockingConnection) -> None:
    try:
        if connection.is_open:
            connection.close()
    except (AMQPError, OSError) as error:
        log.debug("consumer.close_failed", reason=type(error).__name__)
