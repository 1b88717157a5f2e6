"""What flows: a delivery, what it was decoded to, and batches without superseded events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.errors import MalformedEvent, PoisonError
from core.events import ChangeEvent, Event, Purge, SnapshotCompleted, decode
from core.mq.consumer import Delivery
from core.qdrant.schema import FAMILY_OF


@dataclass(frozen=True)
class Incoming:
    """One message: its event, the reason why it has none, or neither (nothing to do)."""

    delivery: Delivery
    event: Event | None
    error: PoisonError | None = None


@dataclass(frozen=True)
class Segment:
    """Events of distinct documents that may be written together."""

    incoming: tuple[Incoming, ...]
    superseded: int = 0


Step = Segment | Incoming
"""A segment of changes, or one message that stands alone: a control event or a poison."""


def read(delivery: Delivery) -> Incoming:
    """Decode one message. Never raises: a poison travels on with its reason."""
    try:
        event = decode(delivery.body, delivery.headers, delivery.routing_key, delivery.message_id)
        if isinstance(event, ChangeEvent) and event.collection not in FAMILY_OF:
            raise MalformedEvent(
                f"no points are made of collection {event.collection!r}",
                reason="unknown_collection",
            )
    except PoisonError as error:
        return Incoming(delivery, None, error)
    except Exception as error:  # noqa: BLE001 - whatever a message does to us, the next must flow
        return Incoming(delivery, None, MalformedEvent(repr(error), reason="unreadable"))
    return Incoming(delivery, event)


def reduce(batch: Iterable[Incoming]) -> list[Step]:
    """Keep the newest event of each document; never reduce across a control event."""
    steps: list[Step] = []
    open_run: list[Incoming] = []
    for item in batch:
        if isinstance(item.event, ChangeEvent):
            open_run.append(item)
        elif item.event is not None:
            steps += _segment(open_run)
            open_run = []
            steps.append(item)
        elif item.error is not None:
            steps.append(item)
    return [*steps, *_segment(open_run)]


def is_control(item: Incoming) -> bool:
    """Whether a message speaks of collections rather than of one document."""
    return isinstance(item.event, Purge | SnapshotCompleted)


def _segment(run: Sequence[Incoming]) -> list[Step]:
    if not run:
        return []
    newest: dict[tuple[str, str], Incoming] = {}
    for item in run:
        event = _change(item)
        name = (event.collection, event.key)
        rival = newest.pop(name, None)
        newest[name] = item if rival is None or not _older(event, _change(rival)) else rival
    return [Segment(tuple(newest.values()), superseded=len(run) - len(newest))]


def _older(event: ChangeEvent, rival: ChangeEvent) -> bool:
    """Whether `event`, which came later, tells an older state. Without versions it does not."""
    return event.version is not None and rival.version is not None and event.version < rival.version


def _change(item: Incoming) -> ChangeEvent:
    assert isinstance(item.event, ChangeEvent)  # noqa: S101 - reduce() let nothing else in
    return item.event
