"""Change events on the wire: what we send comes back, and what others send is understood."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Int64, ObjectId, json_util
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from core.documents import document_key, entry_id, identifier_of
from core.errors import MalformedEvent
from core.events import ChangeEvent, Event, Op, Purge, SnapshotCompleted, decode, encode
from core.events.encode import by_reference, without_before
from core.versions import MAX_INCREMENT, READ_POSITION, Version, version_number, version_seconds

TOKEN = "826B000512000000042B022C0100296E5A1004"
OID = ObjectId("6b000512b5d1714ad0f5bf3b")
UUID = Binary(uuid.UUID("8b2347ff-8732-447d-9a4e-341e35b37274").bytes, 4)

VERSIONS = st.builds(
    Version.of,
    st.integers(0, 2**32),
    st.integers(0, MAX_INCREMENT),
    st.text("0123456789ABCDEF", min_size=1, max_size=80) | st.just(READ_POSITION),
)
IDS = st.one_of(
    st.text(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.uuids().map(lambda value: Binary(value.bytes, 4)),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
FIELDS = st.text().filter(lambda name: not name.startswith("$"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.binary(min_size=12, max_size=12).map(ObjectId),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(FIELDS, VALUES, max_size=5)


def change(**fields: Any) -> ChangeEvent:
    facts: dict[str, Any] = {
        "op": Op.UPDATE,
        "db": "twin",
        "collection": "articles",
        "key": document_key("a"),
        "document": {"_id": "a", "content": "x"},
        "version": Version.of(1795163410, 4, TOKEN),
        "wall_ms": 1795163410123,
        "message_id": f"twin:{TOKEN}",
    }
    return ChangeEvent(**{**facts, **fields})


def sent(event: Event, form: Any = "envelope") -> Event | None:
    message = encode(event, form)
    return decode(message.body, message.headers, message.routing_key, message.message_id)


def without_hint(event: Event | None) -> Event:
    """What stands in for a version where there is none is not part of the event."""
    assert isinstance(event, ChangeEvent)
    return replace(event, version_hint=0)


def received(body: Any, **carrier: Any) -> ChangeEvent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    event = decode(raw, **carrier)
    assert isinstance(event, ChangeEvent)
    return event


# -- ours ----------------------------------------------------------------------


@given(IDS, DOCUMENTS, VERSIONS, st.sampled_from([Op.CREATE, Op.UPDATE, Op.READ]))
def test_our_envelope_comes_back_as_it_was(
    identifier: Any, fields: dict[str, Any], version: Version, op: Op
) -> None:
    """Whatever a document holds and whatever its `_id` is, the consumer sees the same event."""
    document = {**fields, "_id": identifier}
    event = change(op=op, key=document_key(identifier), document=document, version=version)
    assert without_hint(sent(event)) == event


@given(IDS, VERSIONS)
def test_a_delete_comes_back_with_its_key(identifier: Any, version: Version) -> None:
    """A delete has no document, and still names one and its place in the order."""
    event = change(op=Op.DELETE, key=document_key(identifier), document=None, version=version)
    assert without_hint(sent(event)) == event


@given(IDS, VERSIONS)
def test_our_flat_body_keeps_key_and_version(identifier: Any, version: Version) -> None:
    """The course's body says less; our headers beside it carry identity and order."""
    event = sent(
        change(key=document_key(identifier), version=version, document={"_id": identifier, "n": 1}),
        "flat",
    )
    assert isinstance(event, ChangeEvent)
    assert (event.key, event.version) == (document_key(identifier), version)
    assert event.document == {"n": 1}


def test_our_flat_delete_comes_back_as_a_delete() -> None:
    """`__deleted` in the flat body is a delete."""
    event = sent(change(op=Op.DELETE, document=None), "flat")
    assert isinstance(event, ChangeEvent)
    assert (event.op, event.document, event.key) == (Op.DELETE, None, '"a"')


@pytest.mark.parametrize("form", ["envelope", "flat"])
@given(document=DOCUMENTS)
def test_a_message_by_reference_names_the_document_and_nothing_of_it(
    form: Any, document: dict[str, Any]
) -> None:
    """Key, version and op are those of the whole message; the states are left out."""
    whole = encode(change(document={**document, "_id": OID, "secret": "s3cret"}), form)
    short = by_reference(whole)
    assert short is not None
    assert b"s3cret" not in short.body
    event, told = (decode(m.body, m.headers, m.routing_key, m.message_id) for m in (short, whole))
    assert isinstance(event, ChangeEvent)
    assert isinstance(told, ChangeEvent)
    assert event.by_reference
    assert event.document is None
    assert (event.key, event.version, event.op, event.collection) == (
        (told.key, told.version, told.op, told.collection)
    )


def test_a_message_without_the_state_before_is_otherwise_the_same() -> None:
    """A delete stays a delete of its document, of its version."""
    whole = encode(change(op=Op.DELETE, document=None, before={"_id": OID, "secret": "s3cret"}))
    bare = without_before(whole)
    assert bare is not None
    told, event = (decode(m.body, m.headers, m.routing_key, m.message_id) for m in (whole, bare))
    assert isinstance(told, ChangeEvent)
    assert event == replace(told, before=None)


@pytest.mark.parametrize("form", ["envelope", "flat"])
def test_where_no_state_before_is_there_is_none_to_leave_out(form: Any) -> None:
    """A document's own field of that name, which the flat form holds as it is, stays."""
    assert without_before(encode(change(document={"_id": OID, "before": "noon"}), form)) is None


@pytest.mark.parametrize("form", ["envelope", "flat"])
def test_what_has_no_document_has_no_reference(form: Any) -> None:
    """A delete cannot be made smaller by leaving out what it does not carry."""
    assert by_reference(encode(change(op=Op.DELETE, document=None), form)) is None


@pytest.mark.parametrize("collection", ["articles", None])
def test_a_purge_comes_back(collection: str | None) -> None:
    """A purge keeps what it purges, why, and as of when."""
    purge = Purge(
        db="twin",
        collection=collection,
        reason="drop",
        version=Version.of(5, 6, TOKEN),
        wall_ms=5000,
        message_id="m",
    )
    assert sent(purge) == purge


def test_a_snapshot_marker_comes_back() -> None:
    """The marker keeps its collections and the smallest time read at."""
    marker = SnapshotCompleted(
        db="twin",
        collections=("articles", "posts"),
        snapshot_id="s",
        version=Version.of(5, 6, READ_POSITION),
        wall_ms=5000,
        message_id="s:completed",
    )
    assert sent(marker) == marker


def test_the_message_carries_what_routing_and_order_need() -> None:
    """Routing key, type and headers tell namespace, operation, key and version without the body."""
    message = encode(change())
    assert message.routing_key == "twin.articles"
    assert message.type == "u"
    assert message.headers["x-cdc-key"] == 'twin.articles/"a"'
    assert message.headers["x-cdc-version"] == version_number(1795163410, 4)
    assert message.headers["x-cdc-pos"] == TOKEN


def test_what_amqp_cannot_carry_in_a_header_is_left_out() -> None:
    """All properties of a message must fit one frame; the body still tells the key."""
    key = document_key("x" * 200_000)
    message = encode(change(key=key, document={"_id": "x" * 200_000}))
    assert sum(len(str(value)) for value in message.headers.values()) < 100_000
    event = decode(message.body, message.headers)
    assert isinstance(event, ChangeEvent)
    assert event.key == key


# -- Debezium's ------------------------------------------------------------------

SOURCE = {
    "connector": "mongodb",
    "name": "dbz",
    "db": "twin",
    "collection": "articles",
    "ts_ms": 1795163410123,
    "ord": 3,
    "snapshot": "false",
}


def debezium(**fields: Any) -> dict[str, Any]:
    after = json_util.dumps({"_id": OID, "content": "x"})
    return {"op": "u", "before": None, "after": after, "source": SOURCE, "ts_ms": 1, **fields}


@pytest.mark.parametrize("wrap", [False, True])
def test_debezium_s_event_is_taken_bare_and_wrapped(wrap: bool) -> None:
    """With and without schemas it is the same event, ordered by its source's time as a hint."""
    body = {"schema": {"type": "struct"}, "payload": debezium()} if wrap else debezium()
    event = received(body)
    assert event.key == document_key(OID)
    assert event.document == {"_id": OID, "content": "x"}
    assert event.version is None
    assert event.version_hint == version_number(1795163410, 3)


@pytest.mark.parametrize(
    "mode",
    [
        json_util.LEGACY_JSON_OPTIONS,
        json_util.RELAXED_JSON_OPTIONS,
        json_util.CANONICAL_JSON_OPTIONS,
    ],
    ids=["legacy", "relaxed", "canonical"],
)
def test_each_mode_of_extended_json_is_read(mode: json_util.JSONOptions) -> None:
    """`after` may be extended JSON of version 1 or 2, relaxed or canonical."""
    document = {"_id": OID, "n": 5, "at": datetime(2026, 1, 1, tzinfo=UTC)}
    event = received(debezium(after=json_util.dumps(document, json_options=mode)))
    assert event.document is not None
    assert event.document["n"] == 5
    assert event.key == document_key(OID)


@pytest.mark.parametrize("snapshot", [True, "true", "first", "last", "incremental"])
def test_a_read_of_debezium_s_snapshot_is_a_read(snapshot: Any) -> None:
    """`r` is a read whatever form its snapshot flag has."""
    event = received(debezium(op="r", source={**SOURCE, "snapshot": snapshot}))
    assert event.op is Op.READ
    assert event.snapshot == str(snapshot).lower()


def test_a_routing_key_may_be_the_record_key() -> None:
    """Debezium told to route by key sends a delete's only identity there."""
    key = json.dumps({"id": json.dumps({"$oid": str(OID)})})
    for routing_key in (key, json.dumps({"schema": {}, "payload": json.loads(key)})):
        event = received(debezium(op="d", after=None), routing_key=routing_key)
        assert (event.op, event.key) == (Op.DELETE, document_key(OID))


def test_a_delete_with_a_pre_image_is_known_by_it() -> None:
    """`before` names the document where nothing else does."""
    before = json_util.dumps({"_id": 7})
    assert received(debezium(op="d", after=None, before=before)).key == document_key(7)


def test_an_update_without_a_document_is_nothing() -> None:
    """A look-up that raced a delete; the delete follows."""
    assert decode(json.dumps(debezium(after=None)).encode()) is None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"default", b" null\n", b'{"schema":null,"payload":null}']
)
def test_tombstones_are_nothing(body: bytes) -> None:
    """Empty, JSON null, wrapped or not, and Debezium Server's default value tell nothing."""
    assert decode(body) is None


def test_a_flattened_event_is_read() -> None:
    """ExtractNewDocumentState leaves the document with `__` fields of its own."""
    body = {
        "_id": {"$oid": str(OID)},
        "content": "x",
        "__op": "c",
        "__source_collection": "articles",
        "__source_db": "twin",
        "__source_ts_ms": 1795163410123,
        "__source_ord": 2,
    }
    event = received(body)
    assert (event.op, event.collection, event.key) == (Op.CREATE, "articles", document_key(OID))
    assert event.document == {"_id": OID, "content": "x"}


def test_a_flattened_delete_is_a_delete() -> None:
    """`__deleted` comes as a boolean or as text, and the collection from the topic's name."""
    for deleted in (True, "true"):
        event = received({"_id": "a", "__deleted": deleted}, routing_key="dbz.twin.posts")
        assert (event.op, event.collection, event.db) == (Op.DELETE, "posts", "twin")


# -- the course's ----------------------------------------------------------------


def test_the_course_s_body_is_read() -> None:
    """The document with `type` and `entry_id`, which is a string `_id`."""
    event = received({"entry_id": "a", "type": "articles", "content": {"Title": "t"}})
    assert (event.collection, event.key, event.version) == ("articles", '"a"', None)
    assert event.document == {"content": {"Title": "t"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "walk", "source": "web"},
        {"op": "d", "source": {"db": "x"}},
        {"schema": 1, "payload": {"op": "c"}},
    ],
    ids=str,
)
def test_a_flat_document_may_have_fields_of_any_name(fields: dict[str, Any]) -> None:
    """The names of an envelope's fields in a document do not make the message one."""
    course = received({"entry_id": "a", "type": "articles", **fields})
    assert (course.op, course.document) == (Op.CREATE, fields)
    flattened = received({"_id": "a", **fields}, routing_key="dbz.twin.posts")
    assert (flattened.op, flattened.document) == (Op.UPDATE, {"_id": "a", **fields})


def test_a_flattened_document_may_have_the_course_s_fields() -> None:
    """Debezium's own fields beside `_id` tell it from the course's body."""
    body = {"_id": "a", "entry_id": "b", "type": "c", "__op": "u", "__source_collection": "posts"}
    event = received(body)
    assert (event.collection, event.key) == ("posts", '"a"')


def test_a_field_named_deleted_deletes_nothing() -> None:
    """Flat bodies mark a delete by `__deleted`; a living document may have such a field."""
    event = sent(change(document={"_id": "a", "content": "x", "__deleted": True}), "flat")
    assert isinstance(event, ChangeEvent)
    assert event.document == {"content": "x"}


# -- neither ---------------------------------------------------------------------


def time_of(seconds: int) -> dict[str, Any]:
    return {**SOURCE, "cluster_t": seconds, "cluster_i": 1, "pos": TOKEN}


MARKER = {"op": "m", "collections": ["posts"], "source": time_of(1)}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"7", "malformed"),
        (b"{}", "malformed"),
        (json.dumps({"op": "x", "source": {}}).encode(), "malformed"),
        (json.dumps({"op": "u", "source": 3}).encode(), "malformed"),
        (json.dumps(debezium(after="{")).encode(), "malformed"),
        (json.dumps(debezium(after="[]")).encode(), "malformed"),
        (json.dumps(debezium(after='{"_id":{"$oid":"zz"}}')).encode(), "malformed"),
        (json.dumps(debezium(op="d", after=None)).encode(), "no_key"),
        (json.dumps(debezium(after="{}")).encode(), "no_key"),
        (json.dumps(debezium(source={"db": "twin"})).encode(), "no_collection"),
        (json.dumps({"entry_id": 5, "type": "articles"}).encode(), "no_key"),
        (json.dumps(debezium(after='{"_id":"\\ud800"}')).encode(), "no_key"),
        (json.dumps({"entry_id": "\ud800", "type": "articles"}).encode(), "no_key"),
        (json.dumps(debezium(source={**SOURCE, "ts_ms": 10**300})).encode(), "malformed"),
        (json.dumps(debezium(source={**SOURCE, "wallTime": -1})).encode(), "malformed"),
        (json.dumps(debezium(source=time_of(1 << 33))).encode(), "malformed"),
        (
            json.dumps({"op": "t", "source": {**time_of(1), "wallTime": 10**30}}).encode(),
            "malformed",
        ),
        (json.dumps({**MARKER, "version": 1 << 53}).encode(), "malformed"),
        (json.dumps({"op": "m", "source": {}}).encode(), "malformed"),
        (json.dumps({"op": "t", "source": {}, "collection": "a"}).encode(), "malformed"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    """A message that can never work is poison with a fixed code, never another error."""
    with pytest.raises(MalformedEvent) as caught:
        decode(body)
    assert caught.value.reason == reason


@given(st.binary(max_size=200) | VALUES.map(lambda value: json_util.dumps(value).encode()))
def test_no_body_breaks_the_decoder(body: bytes) -> None:
    """Any bytes are an event, nothing, or poison."""
    event = None
    with suppress(MalformedEvent):
        event = decode(body)
    assert event is None or event.message_id


# -- identity and order ----------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "key", "shown"),
    [
        ("abc", '"abc"', "abc"),
        (OID, '{"$oid":"6b000512b5d1714ad0f5bf3b"}', "6b000512b5d1714ad0f5bf3b"),
        (1, '{"$numberInt":"1"}', "1"),
        (Int64(1), '{"$numberLong":"1"}', "1"),
        (2**40, '{"$numberLong":"1099511627776"}', "1099511627776"),
        (1.5, '{"$numberDouble":"1.5"}', '{"$numberDouble":"1.5"}'),
        (True, "true", "true"),
        (
            UUID,
            '{"$binary":{"base64":"iyNH/4cyRH2aTjQeNbNydA==","subType":"04"}}',
            "8b2347ff-8732-447d-9a4e-341e35b37274",
        ),
        (Decimal128("1.0"), '{"$numberDecimal":"1.0"}', '{"$numberDecimal":"1.0"}'),
        ({"a": 1}, '{"a":{"$numberInt":"1"}}', '{"a":{"$numberInt":"1"}}'),
        ("été 中", '"été 中"', "été 中"),
    ],
)
def test_a_key_tells_value_and_type(identifier: Any, key: str, shown: str) -> None:
    """The key is canonical extended JSON, and people see it as they write it."""
    assert document_key(identifier) == key
    assert entry_id(identifier) == shown
    assert document_key(identifier_of(key)) == key


@given(IDS, IDS)
def test_two_documents_have_two_keys(one: Any, other: Any) -> None:
    """Identifiers of different type or value never share a key: 1 and "1" are two."""
    if type(one) is not type(other) or one != other:
        assert document_key(one) != document_key(other)


@given(VERSIONS)
def test_a_version_fits_a_float(version: Version) -> None:
    """Qdrant compares as float64, which is exact below 2**53 only."""
    assert version.number < 2**53
    assert int(float(version.number)) == version.number


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**32))
def test_versions_order_as_cluster_times_do(a: int, b: int, c: int, d: int) -> None:
    """A later clusterTime is never a smaller version, and seconds can be read back."""
    earlier, later = sorted([(a, b), (c, d)])
    assert version_number(*earlier) <= version_number(*later)
    assert version_seconds(version_number(a, b)) == a


def test_a_read_comes_after_every_event_of_its_time() -> None:
    """A read at a time already contains what the stream tells of it."""
    stream, read = Version.of(5, 6, TOKEN), Version.of(5, 6, READ_POSITION)
    assert stream < read < Version.of(5, 7, TOKEN)
