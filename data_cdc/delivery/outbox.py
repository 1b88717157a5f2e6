"""What is on its way to the broker, and the offset that is safe to keep.

A message waits, is in flight, then confirmed. The safe offset is that of the
last event of the contiguous confirmed prefix. Pure: no client in sight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

from core.events import Message
from data_cdc.keeping.offset import Offset
from data_cdc.keeping.parked import Parked

MAX_MESSAGES = 1024
MAX_BYTES = 16 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Entry:
    """One message. `offset` is None while what it belongs to is not complete (a chunk).

    `wall_ms` is when the change was made, in milliseconds since 1970; `sent_at` when it
    was last sent, on the monotonic clock.
    """

    message: Message
    collection: str
    key: str
    offset: Offset | None
    wall_ms: int = 0
    sent_at: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, near enough."""
        return len(self.message.body)

    def parked(self, reason: str) -> Parked:
        """What to keep of it where it cannot travel."""
        return Parked(
            id=self.message.message_id,
            collection=self.collection,
            key=self.key,
            reason=reason,
            op=self.message.type,
            size=self.size,
        )


class Outbox:
    """A bounded window in order. Not safe for use from several threads."""

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Entry] = deque()
        self._in_flight: deque[Entry] = deque()
        self._bytes = 0
        self._safe: Offset | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def size(self) -> int:
        """Bytes of all bodies that are not confirmed."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether the next message must wait; one message always fits, whatever its size."""
        return len(self) >= self._max_messages or self._bytes >= self._max_bytes

    @property
    def safe(self) -> Offset | None:
        """Everything up to here is confirmed. None while nothing is."""
        return self._safe

    @property
    def worth_waiting_for(self) -> int:
        """How many confirms make enough room for it to be worth going on."""
        return max(1, min(len(self._in_flight), len(self) // 4))

    def oldest(self) -> Entry | None:
        """The first message without a confirm."""
        return next(iter(self._in_flight or self._waiting), None)

    def append(self, entry: Entry) -> None:
        """Take `entry` behind all others."""
        self._waiting.append(entry)
        self._bytes += entry.size

    def advance(self, offset: Offset) -> None:
        """All up to `offset` is done once what is here now is confirmed."""
        last = self._waiting or self._in_flight
        if last:
            last[-1].offset = offset
        else:
            self._safe = offset

    def to_send(self) -> Iterator[Entry]:
        """What waits, in order; each is in flight once the next is asked for."""
        while self._waiting:
            yield self._waiting[0]
            self._waiting[0].sent_at = monotonic()
            self._in_flight.append(self._waiting.popleft())

    def confirm(self, count: int) -> list[Entry]:
        """The broker has the first `count` in flight."""
        confirmed = [self._in_flight.popleft() for _ in range(count)]
        for entry in confirmed:
            self._bytes -= entry.size
            self._safe = entry.offset or self._safe
        return confirmed

    def rewind(self) -> int:
        """Nothing is in flight any more: what is unconfirmed must be sent again, in order.

        Returns how many that are.
        """
        count = len(self._in_flight)
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        return count

    def larger_than(self, size: int) -> list[Entry]:
        """The unconfirmed entries whose body has more than `size` bytes."""
        return [e for e in (*self._in_flight, *self._waiting) if e.size > size]

    def replace(self, entry: Entry, message: Message) -> None:
        """Send `message` in place of the one that `entry` holds. Only after `rewind`."""
        self._bytes -= entry.size
        entry.message = message
        self._bytes += entry.size

    def remove(self, entry: Entry) -> None:
        """Give up on `entry`, once it is kept elsewhere. Only after `rewind`."""
        index = self._waiting.index(entry)
        self._waiting.remove(entry)
        self._bytes -= entry.size
        if entry.offset is None:
            return
        if index == 0:
            self._safe = entry.offset
        else:
            before = self._waiting[index - 1]
            before.offset = entry.offset

    def clear(self) -> None:
        """Forget everything, the safe offset too."""
        self._waiting.clear()
        self._in_flight.clear()
        self._bytes = 0
        self._safe = None
