"""Change events: what they are, how they travel, and the forms that are accepted."""

from core.events.decode import decode
from core.events.encode import Message, encode
from core.events.model import ChangeEvent, Event, Op, Purge, SnapshotCompleted

__all__ = [
    "ChangeEvent",
    "Event",
    "Message",
    "Op",
    "Purge",
    "SnapshotCompleted",
    "decode",
    "encode",
]
