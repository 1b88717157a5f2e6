"""Batches: the newest event of each document, and control events in their place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.events import ChangeEvent, Op, SnapshotCompleted, encode
from core.mq.consumer import Delivery
from core.versions import Version
from feature_pipeline.plan import DocumentRef
from feature_pipeline.store import Manifest
from feature_pipeline.work import Incoming, Segment, Step, read, reduce
from feature_pipeline.writer import effective_version


def _delivery(body: bytes) -> Delivery:
    return Delivery(body=body, headers={}, routing_key="", message_id="m", generation=1, tag=1)


def _event(key: str, number: int | None, collection: str = "posts") -> ChangeEvent:
    return ChangeEvent(
        op=Op.UPDATE,
        db="twin",
        collection=collection,
        key=key,
        document={"content": str(number)},
        version=None if number is None else Version(number, "82"),
        version_hint=7,
        wall_ms=0,
        message_id=f"{key}-{number}",
    )


def _incoming(event: Any) -> Incoming:
    return Incoming(_delivery(b""), event)


_MARKER = SnapshotCompleted(
    db="twin",
    collections=("posts",),
    snapshot_id="s",
    version=Version(1, "~"),
    wall_ms=0,
    message_id="marker",
)


def _ids(step: Step) -> list[str]:
    assert isinstance(step, Segment)
    return [item.event.message_id for item in step.incoming if item.event]


@pytest.mark.fault(25)
def test_the_newest_event_of_each_document_is_kept() -> None:
    """Older versions of a document are dropped, whatever order they come in."""
    events = [_event("a", 1), _event("b", 5), _event("a", 3), _event("a", 2)]
    [segment] = reduce(map(_incoming, events))
    assert sorted(_ids(segment)) == ["a-3", "b-5"]
    assert isinstance(segment, Segment)
    assert segment.superseded == 2


def test_events_without_version_apply_by_arrival() -> None:
    """Where nothing tells the order, the last one counts."""
    [segment] = reduce(map(_incoming, [_event("a", 9), _event("a", None)]))
    assert _ids(segment) == ["a-None"]


def test_the_same_key_in_two_collections_is_two_documents() -> None:
    """A key counts within its collection."""
    [segment] = reduce(map(_incoming, [_event("a", 1), _event("a", 2, "articles")]))
    assert len(_ids(segment)) == 2


def test_nothing_is_reduced_across_a_control_event() -> None:
    """A marker splits a batch: what was before it stays before it."""
    steps = reduce(map(_incoming, [_event("a", 1), _MARKER, _event("a", 2)]))
    assert [type(step).__name__ for step in steps] == ["Segment", "Incoming", "Segment"]


def test_a_tombstone_of_debezium_is_nothing_to_do() -> None:
    """A message without an event disappears, and is acknowledged with its batch."""
    assert reduce([read(_delivery(b"default"))]) == []


def test_any_message_at_all_is_read_without_an_exception() -> None:
    """What is no event carries the reason why."""
    for body in (b"\xff\xfe", b"[" * 100_000, b"{}", b"7", b'{"op":"c","source":7}'):
        incoming = read(_delivery(body))
        assert incoming.event is None
        assert incoming.error is not None
        assert incoming.error.stage == "decode"


def test_a_collection_without_points_is_poison() -> None:
    """Users are no documents to search."""
    body = json.dumps({"type": "users", "entry_id": "u"}).encode()
    error = read(_delivery(body)).error
    assert error is not None
    assert error.reason == "unknown_collection"


def test_our_own_messages_read_back() -> None:
    """What data_cdc encodes is what the pipeline decodes."""
    event = _event('"a"', 5)
    message = encode(event)
    delivery = Delivery(
        body=message.body,
        headers=message.headers,
        routing_key=message.routing_key,
        message_id=message.message_id,
        generation=1,
        tag=1,
    )
    read_back = read(delivery).event
    assert isinstance(read_back, ChangeEvent)
    assert (read_back.key, read_back.version) == ('"a"', event.version)
    assert DocumentRef(read_back.collection, read_back.key) == ("posts", '"a"')


def test_an_event_without_version_is_never_older_than_what_is_stored() -> None:
    """It takes the stored version, or its hint where that is later."""
    event = _event("a", None)
    stored = Manifest(Version(9, "82FF"), deleted=False)
    assert effective_version(event, None) == Version(7, "")
    assert effective_version(event, stored) == Version(9, "82FF")
    assert effective_version(_event("a", 3), stored) == Version(3, "82")
