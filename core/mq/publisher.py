"""A publisher with confirms: one connection, many messages in flight, in order.

The connection lives in an I/O thread, so heartbeats and confirms go on while the
caller does something else. On a refusal, a return or a lost connection the
publisher breaks once and for good: the caller opens another and sends again all
that follows the last confirmed message (go-back-N). Nothing is sent twice behind
the caller's back, and nothing is forgotten.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self

import pika
from pika.adapters.select_connection import SelectConnection
from pika.exceptions import ChannelWrongStateError

from core.config import RabbitConfig
from core.errors import ServiceUnavailable, TransientError, TwinError
from core.events.encode import Message
from core.logging import get_logger
from core.mq.connection import HEARTBEAT_S, explain, parameters, reason_of
from core.mq.frames import Framing
from core.mq.topology import EXCHANGE

_OPEN_TIMEOUT_S = 15.0
_CLOSE_TIMEOUT_S = 5.0
_EXCLUSIVE_HEARTBEAT_S = 3

log = get_logger()


# RabbitMQ closes the channel on one, and tells its limit only in the text.
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


class Unroutable(ServiceUnavailable):
    """The broker returned a message that no queue takes."""

    def __init__(self, address: str, routing_key: str) -> None:
        self.routing_key = routing_key
        super().__init__("RabbitMQ", address, f"no queue takes routing key {routing_key!r}")


class Refused(ServiceUnavailable):
    """The broker did not take a message: its queue is full, or lost."""


class PublishInterrupted(TransientError):
    """What was sent after the last confirmed message may not have arrived.

    `cause` tells why. `size_limit` is the broker's limit in bytes where a message
    was too large for it: sending that one again would break every connection.
    """

    def __init__(self, cause: TwinError) -> None:
        super().__init__(f"publishing was interrupted. {cause} Send again from the last confirm.")
        self.cause = cause
        limit = _TOO_LARGE.search(str(cause))
        self.size_limit = int(limit[1]) if limit else None


class _Connection(SelectConnection):  # type: ignore[misc]  # pika publishes no types
    """One that takes frames as bytes, many at a time."""

    def write(self, frames: bytes) -> None:
        """Send whole frames. Only from the loop's thread."""
        self._output_marshaled_frames([frames])

    def cut(self) -> None:
        """End it without a word to the broker. Only from the loop's thread."""
        if not self.is_closed:
            self._adapter_disconnect_stream()


class Publisher:
    """Publishes to one exchange. Use from one thread; open it with `with`.

    `window` bounds the messages without a confirm. `exclusive_queue` names a queue that
    the connection holds while it lives, so that no second publisher with the same one
    can be open at any time: the broker sees to it, whatever clocks and processes do.
    Raises ServiceUnavailable, also while another holds that queue, or ConfigurationError
    when the broker cannot be reached.
    """

    def __init__(
        self,
        config: RabbitConfig,
        *,
        exchange: str = EXCHANGE,
        window: int = 512,
        name: str = "llm-twin-publisher",
        exclusive_queue: str | None = None,
    ) -> None:
        self._config = config
        self._exchange = exchange
        self._exclusive_queue = exclusive_queue
        self._window = window
        self._name = name
        self._state = threading.Condition()
        self._outbox: deque[Message] = deque()
        self._draining = False
        self._confirmed = 0
        self._early: set[int] = set()
        self._awaited = 0
        self._ready = False
        self._blocked = False
        self._closing = False
        self._failure: TwinError | None = None
        self._sent = 0
        self._connection: _Connection | None = None
        self._channel: Any = None
        self._framing: Framing | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        with self._state:
            self._state.wait_for(lambda: self._ready or self._failure, _OPEN_TIMEOUT_S)
            failure = self._failure
            if failure is None and not self._ready:
                failure = ServiceUnavailable("RabbitMQ", self._config.address, "no answer in time")
        if failure is not None:
            self.close()
            raise failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def confirmed(self) -> int:
        """How many messages, counted from the first one sent, the broker has confirmed."""
        with self._state:
            return self._confirmed

    @property
    def sent(self) -> int:
        """How many messages were taken by `send`."""
        with self._state:
            return self._sent

    @property
    def blocked(self) -> bool:
        """Whether the broker holds back publishers (a memory or disk alarm)."""
        with self._state:
            return self._blocked

    def check(self) -> None:
        """Raise PublishInterrupted once anything went wrong; an idle caller learns it here."""
        with self._state:
            self._raise_failure()

    def send(self, message: Message, timeout_s: float) -> bool:
        """Take `message` for sending; False when the window stays full for `timeout_s`.

        Raises PublishInterrupted once anything went wrong.
        """
        with self._state:
            if not self._has_room():
                self._awaited = self._sent - self._window + 1
            self._state.wait_for(lambda: self._failure or self._has_room(), timeout_s)
            self._raise_failure()
            if not self._has_room():
                return False
            self._sent += 1
            self._outbox.append(message)
            self._wake()
            return True

    def wait_confirmed(self, count: int, timeout_s: float) -> bool:
        """Wait until the first `count` messages are confirmed; False when they are not in time.

        Raises PublishInterrupted once anything went wrong.
        """
        deadline = monotonic() + timeout_s
        with self._state:
            self._awaited = count
            self._state.wait_for(
                lambda: self._failure or self._confirmed >= count, max(0.0, deadline - monotonic())
            )
            if self._confirmed >= count:
                return True
            self._raise_failure()
            return False

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was sent is confirmed."""
        return self.wait_confirmed(self.sent, timeout_s)

    def interrupt(self, cause: TwinError) -> None:
        """End the connection, and so the exclusive queue, as soon as may be. From any thread."""
        with self._state:
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(partial(self._fail, cause))

    def close(self) -> None:
        """End the connection and the thread. What is unconfirmed stays so. Idempotent."""
        with self._state:
            self._closing = True
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._shut)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            # A broker that does not answer a close would let us hold the exclusive queue for ever.
            self._cut()
            self._thread.join(_CLOSE_TIMEOUT_S)

    # -- the caller's side, with the state locked ------------------------------

    def _has_room(self) -> bool:
        return self._sent - self._confirmed < self._window and not self._blocked

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise PublishInterrupted(self._failure)

    def _wake(self) -> None:
        if not self._draining and self._connection is not None:
            self._draining = True
            self._connection.ioloop.add_callback_threadsafe(self._drain)

    def _cut(self) -> None:
        with self._state:
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._connection.cut)

    # -- the I/O thread --------------------------------------------------------

    def _run(self) -> None:
        try:
            connection = _Connection(
                parameters(self._config, self._name, heartbeat_s=self._heartbeat_s()),
                on_open_callback=self._on_open,
                on_open_error_callback=lambda _, error: self._fail(explain(error, self._config)),
                on_close_callback=lambda _, error: self._fail(explain(error, self._config)),
            )
            with self._state:
                self._connection = connection
            connection.ioloop.start()
        except Exception as error:  # noqa: BLE001 - a thread's end must reach its owner
            self._fail(explain(error, self._config))
        with self._state:
            last, self._connection = self._connection, None
        if last is not None:
            last.ioloop.close()

    def _on_open(self, connection: SelectConnection) -> None:
        if self._closing:
            self._shut()
            return
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        frame_max = channel.connection.params.frame_max
        self._framing = Framing(self._exchange, channel.channel_number, frame_max)
        channel.add_on_close_callback(lambda _, error: self._fail(explain(error, self._config)))
        channel.add_on_return_callback(self._on_return)
        if self._exclusive_queue is None:
            self._await_confirms(None)
            return
        channel.queue_declare(
            self._exclusive_queue,
            exclusive=True,
            arguments={"x-queue-type": "classic"},
            callback=self._await_confirms,
        )

    def _await_confirms(self, _frame: Any) -> None:
        self._channel.confirm_delivery(self._on_confirm, callback=self._on_ready)

    def _heartbeat_s(self) -> int:
        """A process that was paused keeps its exclusive queue for two of these."""
        return HEARTBEAT_S if self._exclusive_queue is None else _EXCLUSIVE_HEARTBEAT_S

    def _on_ready(self, _frame: Any) -> None:
        with self._state:
            self._ready = True
            self._state.notify_all()

    def _drain(self) -> None:
        with self._state:
            batch = list(self._outbox)
            self._outbox.clear()
            self._draining = False
            if self._failure is not None:
                return
        try:
            self._publish(batch)
        except Exception as error:  # noqa: BLE001 - the loop goes on, to close what is open
            self._fail(explain(error, self._config))

    def _publish(self, batch: list[Message]) -> None:
        if not self._channel.is_open or self._connection is None or self._framing is None:
            raise ChannelWrongStateError("the channel is closed")
        for frames in self._framing.writes(batch):
            self._connection.write(frames)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._fail(Refused("RabbitMQ", self._config.address, "it refused a message"))
            return
        with self._state:
            # After a return comes a confirm for the very message that no queue took.
            if self._failure is None:
                self._settle(method.delivery_tag, multiple=method.multiple)
                # Waking the caller for each confirm would cost more than the confirm.
                if self._confirmed >= self._awaited:
                    self._state.notify_all()

    def _settle(self, tag: int, *, multiple: bool) -> None:
        if multiple:
            self._confirmed = max(self._confirmed, tag)
            self._early = {other for other in self._early if other > tag}
        else:
            self._early.add(tag)
        while self._confirmed + 1 in self._early:
            self._confirmed += 1
            self._early.discard(self._confirmed)

    def _on_return(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._fail(Unroutable(self._config.address, method.routing_key))

    def _set_blocked(self, blocked: bool) -> None:
        log.warning("broker.blocked" if blocked else "broker.unblocked", publisher=self._name)
        with self._state:
            self._blocked = blocked
            self._state.notify_all()

    def _fail(self, failure: TwinError) -> None:
        with self._state:
            first = self._failure is None and not self._closing
            self._failure = self._failure or failure
            self._outbox.clear()
            self._state.notify_all()
        if first:
            log.warning("publisher.interrupted", publisher=self._name, reason=str(failure))
        self._shut()

    def _shut(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.is_closed:
            connection.ioloop.stop()
        elif not connection.is_closing:
            try:
                connection.close()
            except Exception as error:  # noqa: BLE001 - closing what is half closed
                log.debug("publisher.close_failed", reason=reason_of(error))
                connection.ioloop.stop()
