"""Setting aside what can never work: confirmed, with its reason, never in the way."""

from __future__ import annotations

from core.config import RabbitConfig
from core.documents import printable
from core.errors import PoisonError, ServiceUnavailable
from core.events.encode import Message
from core.mq.consumer import Delivery
from core.mq.publisher import Publisher
from core.mq.topology import DEAD_LETTER_EXCHANGE

HEADER_REASON, HEADER_STAGE, HEADER_ERROR = "x-reason", "x-stage", "x-error"
HEADER_ROUTING_KEY = "x-original-routing-key"

_ERROR_LENGTH = 2000
_CONFIRM_TIMEOUT_S = 30.0


class DeadLetters:
    """Publishes to one dead-letter queue; returns only when the broker confirmed.

    Opens its connection when first needed. Use from one thread.
    """

    def __init__(
        self, config: RabbitConfig, dead_queue: str, timeout_s: float = _CONFIRM_TIMEOUT_S
    ) -> None:
        self._config = config
        self._dead_queue = dead_queue
        self._timeout_s = timeout_s
        self._publisher: Publisher | None = None

    def put(self, delivery: Delivery, error: PoisonError) -> None:
        """Set `delivery` aside. Raises TransientError without a confirm: try again."""
        publisher = self._open()
        try:
            message = dead_letter(delivery, error, self._dead_queue)
            taken = publisher.send(message, self._timeout_s)
            confirmed = taken and publisher.flush(self._timeout_s)
        except BaseException:
            self.close()
            raise
        if not confirmed:
            self.close()
            raise ServiceUnavailable("RabbitMQ", self._config.address, "no confirm in time")

    def close(self) -> None:
        """End the connection. Idempotent."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _open(self) -> Publisher:
        if self._publisher is None:
            self._publisher = Publisher(
                self._config, exchange=DEAD_LETTER_EXCHANGE, name="llm-twin-dead-letters"
            ).__enter__()
        return self._publisher


def dead_letter(delivery: Delivery, error: PoisonError, dead_queue: str) -> Message:
    """The message as it came, with why it is here in its headers."""
    headers = {
        name: value for name, value in delivery.headers.items() if isinstance(value, str | int)
    }
    return Message(
        routing_key=dead_queue,
        body=delivery.body,
        message_id=delivery.message_id or "",
        type="dead-letter",
        timestamp=0,
        headers={
            **headers,
            HEADER_REASON: error.reason,
            HEADER_STAGE: error.stage,
            HEADER_ERROR: printable(str(error))[:_ERROR_LENGTH],
            HEADER_ROUTING_KEY: delivery.routing_key,
        },
    )
