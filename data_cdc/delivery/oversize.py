"""What becomes of a message that is too large for the broker.

The broker's limit is not asked for: it is learned from the first refusal, which costs
one connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from core.events import Message
from core.events.encode import by_reference, without_before
from core.logging import get_logger

log = get_logger()


class Oversize:
    """Makes messages fit: without the state before, by reference, or not at all."""

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
        for said, short in self._shorter(message):
            if self._fits(short):
                log.warning(said, event_id=message.message_id, bytes=len(message.body))
                return short
        return None

    def _shorter(self, message: Message) -> Iterator[tuple[str, Message]]:
        """The ways to tell it, the fullest first."""
        # A delete that is not told would leave its document at the consumer's for ever.
        bare = without_before(message)
        if bare is not None:
            yield "event.without_before", bare
        short = by_reference(message) if self._treatment == "reference" else None
        if short is not None:
            yield "event.by_reference", short

    def _fits(self, message: Message) -> bool:
        return self._limit is None or len(message.body) <= self._limit
