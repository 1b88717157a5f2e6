"""What becomes of a message that is too large for the broker.

The broker's limit is not asked for: it is learned from the first refusal, which costs
one connection.
"""

from __future__ import annotations

from typing import Literal

from core.events import Message
from core.events.encode import by_reference
from core.logging import get_logger

log = get_logger()


class Oversize:
    """Makes messages fit: by reference, which the consumer resolves, or not at all."""

    def __init__(self, treatment: Literal["reference", "park"]) -> None:
        self._treatment = treatment
        self._limit: int | None = None

    def learn(self, limit: int) -> None:
        """The broker takes no more than `limit` bytes."""
        self._limit = limit

    def fitting(self, message: Message) -> Message | None:
        """What can be sent for `message`; None where it must be set aside."""
        if self._fits(message):
            return message
        if self._treatment == "park":
            return None
        short = by_reference(message)
        if short is None or not self._fits(short):
            return None
        log.warning("event.by_reference", event_id=message.message_id, bytes=len(message.body))
        return short

    def _fits(self, message: Message) -> bool:
        return self._limit is None or len(message.body) <= self._limit
