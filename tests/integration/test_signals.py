"""What data_cdc is asked for: requests as they are kept, and what is no request."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from structlog.testing import capture_logs

from core.mongo import connect
from core.signals import (
    MOST_KEYS,
    SnapshotRequest,
    answer,
    ask_for_snapshot,
    declare_gap,
    requests,
)
from tests.twin_harness import settings_of

State = Any
_OID = ObjectId("65f0c0ffee00000000000001")


@pytest.fixture
def state(environment: Mapping[str, str]) -> Iterator[State]:
    """The state database as data_cdc sees it."""
    settings = settings_of(environment)
    with connect(settings.mongo) as client:
        yield client[settings.mongo.state_database]


def test_a_request_is_there_until_it_is_answered(state: State) -> None:
    """The oldest first, with what it asks for; a known one is not told again."""
    first = ask_for_snapshot(state, "w", collections=["posts"], keys=['"a"'])
    second = ask_for_snapshot(state, "w")
    assert requests(state) == [
        SnapshotRequest(id=first, why="w", collections=("posts",), keys=('"a"',)),
        SnapshotRequest(id=second, why="w"),
    ]
    assert [one.id for one in requests(state, lambda name: name == first)] == [second]
    answer(state, first)
    assert [one.id for one in requests(state)] == [second]


def test_a_gap_comes_first_and_one_declared_anew_stays(state: State) -> None:
    """An answer to the first does not answer the second."""
    ask_for_snapshot(state, "w")
    declare_gap(state, "lost")
    [first, _] = requests(state)
    assert (first.is_gap, first.why) == (True, "lost")
    declare_gap(state, "lost again")
    answer(state, first.id)
    [second, _] = requests(state)
    assert (second.is_gap, second.why) == (True, "lost again")
    answer(state, second.id)
    assert not any(one.is_gap for one in requests(state))


@pytest.mark.parametrize(
    "identifier", [_OID, 7, {"a": 1}, "by hand"], ids=lambda one: type(one).__name__
)
def test_a_request_by_hand_may_have_any_id(state: State, identifier: Any) -> None:
    """It is found again under the name that it was given, and taken off the list."""
    state.signals.insert_one({"_id": identifier, "collections": ["posts"]})
    [request] = requests(state)
    assert request.collections == ("posts",)
    answer(state, request.id)
    assert state.signals.count_documents({}) == 0


def test_an_id_that_is_no_utf8_is_answered_too(state: State) -> None:
    """What decoding makes of it would match nothing."""
    elements = b"\x02_id\0\x02\0\0\0\x80\0\0"
    state.signals.insert_one(RawBSONDocument(struct.pack("<i", len(elements) + 4) + elements))
    [request] = requests(state)
    answer(state, request.id)
    assert state.signals.count_documents({}) == 0


def test_keys_are_told_in_one_way(state: State) -> None:
    """However they were written, and however often."""
    written = [f'{{"$oid": "{_OID}"}}', f'{{"$oid":"{_OID}"}}', "1", ' "a" ']
    state.signals.insert_one({"_id": "x", "collections": ["posts"], "keys": written})
    [request] = requests(state)
    assert request.keys == (f'{{"$oid":"{_OID}"}}', '{"$numberInt":"1"}', '"a"')


_MALFORMED: Mapping[str, Mapping[str, Any]] = {
    "collections null": {"collections": None},
    "collections a name": {"collections": "posts"},
    "collections numbers": {"collections": [1]},
    "keys null": {"keys": None},
    "keys an object": {"collections": ["posts"], "keys": {"a": 1}},
    "keys identifiers": {"collections": ["posts"], "keys": [_OID]},
    "no JSON": {"collections": ["posts"], "keys": ["not json"]},
    "no extended JSON": {"collections": ["posts"], "keys": ['{"$oid":"x"}']},
    "a list": {"collections": ["posts"], "keys": ["[1]"]},
    "a pattern": {
        "collections": ["posts"],
        "keys": ['{"$regularExpression":{"pattern":"a","options":""}}'],
    },
    "an operator": {"collections": ["posts"], "keys": ['{"$gt":1}']},
    "a number beyond BSON": {"collections": ["posts"], "keys": [str(1 << 70)]},
    "text beyond UTF-8": {"collections": ["posts"], "keys": ['"\\ud800"']},
    "several collections": {"collections": ["posts", "articles"], "keys": ["1"]},
    "all collections": {"keys": ["1"]},
    "too many keys": {
        "collections": ["posts"],
        "keys": [str(number) for number in range(MOST_KEYS + 1)],
    },
    "too large keys": {"collections": ["posts"], "keys": [f'"{"x" * 2_000_000}"']},
    "a long id": {"_id": "x" * 1000},
}


@pytest.mark.parametrize("signal", _MALFORMED.values(), ids=_MALFORMED.keys())
def test_what_is_no_request_is_told_once_and_removed(
    state: State, signal: Mapping[str, Any]
) -> None:
    """With its reason; the others are not held up by it."""
    state.signals.insert_one(dict(signal))
    good = ask_for_snapshot(state, "w")
    with capture_logs() as lines:
        assert [one.id for one in requests(state)] == [good]
        assert [one.id for one in requests(state)] == [good]
    [line] = lines
    assert line["event"] == "signal.refused"
    assert line["reason"]
    assert state.signals.count_documents({}) == 1


def test_a_signal_that_cannot_be_decoded_is_removed(state: State) -> None:
    """A binary whose inner length is wrong is no reason to end."""
    bad = b"\x05a\0" + struct.pack("<i", 5) + b"\x02" + struct.pack("<i", 99) + b"x"
    elements = b"\x10_id\0\x01\0\0\0" + bad + b"\0"
    state.signals.insert_one(RawBSONDocument(struct.pack("<i", len(elements) + 4) + elements))
    with capture_logs() as lines:
        assert requests(state) == []
    assert [line["event"] for line in lines] == ["signal.refused"]
    assert state.signals.count_documents({}) == 0


def test_nobody_can_ask_for_too_much_at_once(state: State) -> None:
    """Who asks learns it, and nothing is written."""
    with pytest.raises(ValueError, match="more than the 10000 of one request"):
        ask_for_snapshot(state, "w", collections=["posts"], keys=["1"] * (MOST_KEYS + 1))
    assert state.signals.count_documents({}) == 0
