"""Change documents as MongoDB sends them, told as events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from core.events import ChangeEvent, Op, Purge, encode
from core.versions import Version
from data_cdc.source.translate import message_id, pipeline, translate

CAPTURED = ("articles", "posts")
TOKEN = "826B000512000000042B022C0100296E5A1004"
WALL = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def change(operation: str, **fields: Any) -> dict[str, Any]:
    return {
        "_id": {"_data": TOKEN},
        "operationType": operation,
        "clusterTime": Timestamp(1795163410, 4),
        "wallTime": WALL,
        "ns": {"db": "twin", "coll": "articles"},
        "documentKey": {"_id": "a"},
        **fields,
    }


def the_event(document: dict[str, Any]) -> ChangeEvent:
    (event,) = translate(document, CAPTURED).events
    assert isinstance(event, ChangeEvent)
    return event


@pytest.mark.parametrize(
    ("operation", "op"),
    [("insert", Op.CREATE), ("update", Op.UPDATE), ("replace", Op.UPDATE), ("delete", Op.DELETE)],
)
def test_each_operation_has_its_op(operation: str, op: Op) -> None:
    """Insert is c, update and replace are u, delete is d."""
    event = the_event(change(operation, fullDocument={"_id": "a", "content": "x"}))
    assert (event.op, event.db, event.collection, event.key) == (op, "twin", "articles", '"a"')


def test_the_version_is_the_cluster_time_and_the_token() -> None:
    """Order comes from the server's clock and the token, wall time is only carried."""
    event = the_event(change("insert", fullDocument={"_id": "a"}))
    assert event.version == Version.of(1795163410, 4, TOKEN)
    assert event.wall_ms == int(WALL.timestamp() * 1000)


@pytest.mark.parametrize(
    ("wall", "expected"),
    [(None, 1795163410_000), (DatetimeMS(12), 12), (DatetimeMS(-(2**60)), 0)],
)
def test_a_wall_time_may_be_missing_or_absurd(wall: Any, expected: int) -> None:
    """MongoDB before 6.0 sends none; what AMQP cannot carry is not carried."""
    assert the_event(change("delete", wallTime=wall)).wall_ms == expected


def test_an_update_whose_document_is_gone_tells_nothing() -> None:
    """updateLookup that raced a delete finds null; the delete's own event follows."""
    assert translate(change("update", fullDocument=None), CAPTURED).events == ()


def test_a_delete_names_its_document() -> None:
    """A delete carries the key, and no document."""
    event = the_event(change("delete", documentKey={"_id": ObjectId("6b000512b5d1714ad0f5bf3b")}))
    assert event.key == '{"$oid":"6b000512b5d1714ad0f5bf3b"}'
    assert event.document is None


def test_what_changed_is_described_as_debezium_does() -> None:
    """Updated fields travel as extended JSON in a string, truncated arrays by field and size."""
    description = {
        "updatedFields": {"at": WALL, "n": 1},
        "removedFields": ["old"],
        "truncatedArrays": [{"field": "tags", "newSize": 2}],
    }
    event = the_event(change("update", fullDocument={"_id": "a"}, updateDescription=description))
    body = json.loads(encode(event).body)
    assert json.loads(body["updateDescription"]["updatedFields"])["n"] == 1
    assert body["updateDescription"]["removedFields"] == ["old"]
    assert body["updateDescription"]["truncatedArrays"] == [{"field": "tags", "size": 2}]


def test_a_transaction_travels_as_json() -> None:
    """Session ids are binary in MongoDB, and must not break the message."""
    lsid = {"id": Binary(b"0123456789abcdef", 4), "uid": b"x"}
    event = the_event(change("insert", fullDocument={"_id": "a"}, lsid=lsid, txnNumber=7))
    source = json.loads(encode(event).body)["source"]
    assert source["txnNumber"] == 7
    assert "$binary" in source["lsid"] or "$uuid" in source["lsid"]


@pytest.mark.parametrize("operation", ["drop", "dropDatabase"])
def test_a_drop_purges(operation: str) -> None:
    """A dropped collection purges it, a dropped database all of it."""
    namespace = {"db": "twin"} if operation == "dropDatabase" else {"db": "twin", "coll": "posts"}
    (purge,) = translate(change(operation, ns=namespace), CAPTURED).events
    assert isinstance(purge, Purge)
    assert (purge.collection, purge.reason) == (namespace.get("coll"), operation)
    assert purge.version == Version.of(1795163410, 4, TOKEN)


def test_renaming_away_purges_the_old_name() -> None:
    """The documents of a collection that has another name now are no longer captured."""
    step = translate(change("rename", to={"db": "twin", "coll": "archive"}), CAPTURED)
    assert [event.collection for event in step.events if isinstance(event, Purge)] == ["articles"]
    assert step.reread is None


def test_renaming_into_a_captured_name_purges_it_and_reads_it_again() -> None:
    """A rename and $out bring documents that no insert event told of."""
    document = change(
        "rename",
        ns={"db": "twin", "coll": "tmp.agg_out.1"},
        to={"db": "twin", "coll": "posts"},
    )
    step = translate(document, CAPTURED)
    assert [event.collection for event in step.events if isinstance(event, Purge)] == ["posts"]
    assert step.reread == "posts"


def test_one_captured_name_into_another_purges_both_under_two_ids() -> None:
    """Two events of one change must not be taken for duplicates of each other."""
    step = translate(change("rename", to={"db": "twin", "coll": "posts"}), CAPTURED)
    assert len({event.message_id for event in step.events}) == 2
    assert step.reread == "posts"


def test_renaming_into_another_database_only_purges() -> None:
    """A name that is captured here is nothing to us elsewhere."""
    step = translate(change("rename", to={"db": "other", "coll": "posts"}), CAPTURED)
    assert step.reread is None


def test_an_invalidate_tells_nothing() -> None:
    """The end of a stream is no event for a consumer."""
    assert translate({**change("invalidate"), "ns": {}}, CAPTURED).events == ()


def test_the_filter_names_what_is_captured() -> None:
    """Only captured collections, renames into them, and what ends everything leave the server."""
    (stage,) = pipeline(CAPTURED)
    assert "articles" in str(stage)
    assert "to.coll" in str(stage)
    assert "dropDatabase" in str(stage)


def test_a_long_identifier_still_has_a_message_id_that_amqp_carries() -> None:
    """A token contains the whole `_id`; AMQP's message id ends at 255 bytes."""
    assert message_id("twin", TOKEN) == f"twin:{TOKEN}"
    assert len(message_id("twin", "é" * 5000).encode()) <= 255
    assert message_id("twin", "x" * 5000) != message_id("twin", "x" * 5001)
