"""States of documents that `python -m data_cdc` tells: before, after, and too large to tell."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument

from core.events import ChangeEvent, Op
from local_stack.stack import LocalStack
from tests.cdc_harness import (
    Cdc,
    Queue,
    Received,
    await_snapshots,
    contents,
    finish,
    replay,
)
from tests.twin_harness import open_twin, until


def changes(received: list[Received], key: str) -> list[ChangeEvent]:
    events = [one.event for one in received if isinstance(one.event, ChangeEvent)]
    return [event for event in events if event.key == f'"{key}"']


@pytest.fixture
def with_images(database: Any) -> None:
    """Articles keep images of each state; posts do not."""
    database.create_collection("articles", changeStreamPreAndPostImages={"enabled": True})
    database.create_collection("posts")


@pytest.mark.usefixtures("with_images")
def test_a_collection_with_images_tells_each_state_exactly(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """Updates made while nothing ran carry their own state, not the last; before by setting."""
    cdc.start(ready=True)
    await_snapshots(database)
    assert cdc.end() == 0
    database.articles.insert_one({"_id": "a", "n": 0})
    for number in (1, 2):
        database.articles.update_one({"_id": "a"}, {"$set": {"n": number}})
    database.articles.delete_one({"_id": "a"})
    database.posts.insert_one({"_id": "p", "n": 0})
    database.posts.update_one({"_id": "p"}, {"$set": {"n": 1}})
    cdc.start(CDC_PRE_IMAGES="true")
    received = finish(database, queue)
    states = [(event.op, event.before, event.document) for event in changes(received, "a")]
    zero, one, two = ({"_id": "a", "n": number} for number in range(3))
    assert states == [
        (Op.CREATE, None, zero),
        (Op.UPDATE, zero, one),
        (Op.UPDATE, one, two),
        (Op.DELETE, two, None),
    ]
    # Without images there is the state of the look-up, and none before.
    assert [event.document for event in changes(received, "p")][1] == {"_id": "p", "n": 1}
    assert {event.before for event in changes(received, "p")} == {None}


def test_an_update_whose_document_is_gone_since_is_left_to_its_delete(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """The look-up finds nothing: no event of an unknown state travels."""
    cdc.start(ready=True)
    await_snapshots(database)
    assert cdc.end() == 0
    database.articles.insert_one({"_id": "a"})
    database.articles.update_one({"_id": "a"}, {"$set": {"n": 1}})
    database.articles.delete_one({"_id": "a"})
    cdc.start()
    received = finish(database, queue)
    assert [event.op for event in changes(received, "a")] == [Op.CREATE, Op.DELETE]
    assert replay(received) == contents(database)


@pytest.mark.fault(10)
def test_what_mongodb_cannot_send_at_all_is_set_aside(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """An `_id` of 6 MB fills the event by itself: it is parked, and those behind it flow."""
    cdc.start(ready=True)
    database.articles.insert_one({"_id": "x" * 6_000_000})
    received = finish(database, queue)
    assert not changes(received, "x" * 6_000_000)
    assert state.cdc_parked.find_one()["reason"] == "unreadable"
    assert cdc.text().count("event.parked") == 1


def test_what_is_no_valid_bson_is_set_aside(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """A document that an old driver wrote wrongly is parked by its key; those behind it flow."""
    cdc.start(ready=True)
    # A binary of the old subtype 2, whose inner length says more than there is.
    binary = b"\x05a\0" + struct.pack("<i", 5) + b"\x02" + struct.pack("<i", 99) + b"x"
    wrong = b"\x02_id\0" + struct.pack("<i", 6) + b"wrong\0" + binary + b"\0"
    database.articles.insert_one(RawBSONDocument(struct.pack("<i", len(wrong) + 4) + wrong))
    received = finish(database, queue)
    assert replay(received).keys() == {("articles", '"sentinel"')}
    parked = state.cdc_parked.find_one()
    assert (parked["key"], parked["reason"]) == ('"wrong"', "undecodable")


@pytest.fixture
def narrow_broker(infra: LocalStack, twin_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A broker whose channels, opened from now on, take bodies of 2 KB at most."""
    allowed = "application:set_env(rabbit, max_message_size, {})."
    infra.rabbitmqctl("eval", allowed.format(2000))
    try:
        yield twin_env
    finally:
        infra.rabbitmqctl("eval", allowed.format(134_217_728))


@pytest.mark.model
@pytest.mark.fault(11)
def test_a_document_by_reference_is_found_and_deleted_like_any_other(
    narrow_broker: dict[str, str], tmp_path: Path
) -> None:
    """What is too large for the broker is read from MongoDB by the pipeline, in its last state."""
    with open_twin(narrow_broker, tmp_path) as twin:
        twin.cdc.start()
        twin.pipeline.start()
        for entry in ("long", "longer"):
            text = "A sentence of a long article about tides and lamps. " * 60
            twin.db.articles.insert_one({"_id": entry, "content": text})
        twin.db.articles.update_one({"_id": "long"}, {"$set": {"platform": "medium"}})
        twin.cdc.says("event.by_reference", times=3)
        until(lambda: (twin.manifest("articles", "long") or {}).get("platform"), "the update")
        assert twin.report().in_step
        twin.db.articles.delete_one({"_id": "long"})
        assert twin.report().in_step
        assert not twin.dead_letters()


@pytest.mark.parametrize(("treatment", "told"), [("reference", [Op.CREATE]), ("park", [])])
@pytest.mark.usefixtures("with_images", "narrow_broker")
def test_a_delete_is_told_though_the_state_before_is_too_large(
    cdc: Cdc, database: Any, state: Any, queue: Queue, treatment: str, told: list[Op]
) -> None:
    """It travels without that state, also where what does not fit is set aside."""
    cdc.start(ready=True, CDC_PRE_IMAGES="true", CDC_OVERSIZE_MESSAGES=treatment)
    database.articles.insert_one({"_id": "a", "content": "x" * 5000})
    database.articles.delete_one({"_id": "a"})
    events = changes(finish(database, queue), "a")
    assert [event.op for event in events] == [*told, Op.DELETE]
    assert events[-1].before is None
    assert state.cdc_parked.count_documents({}) == 1 - len(told)
