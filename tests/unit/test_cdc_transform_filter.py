"""Filters, whose replica stays true, and the flat form."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bson import Decimal128, Int64
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from core.events import ChangeEvent, Op, decode, encode
from data_cdc.transforms import as_delete
from data_cdc.transforms.plain import plain
from tests.transform_cases import (
    OID,
    PUBLIC,
    SECRET,
    change,
    described,
    failure,
    only,
)


@pytest.mark.parametrize("op", [Op.CREATE, Op.UPDATE, Op.READ])
def test_what_does_not_pass_is_told_as_deleted(op: Op) -> None:
    """It may have passed before: same key, same version, and nothing of what it holds."""
    passing = change({"state": "public"}, op=op)
    event = change(
        {"state": "draft"}, op=op, before={"x": 1}, update_description=described(updated={"x": 1})
    )
    assert only(passing, PUBLIC) == passing
    made = only(event, PUBLIC)
    assert made == as_delete(event)
    assert (made.op, made.key, made.version) == (Op.DELETE, event.key, event.version)
    assert (made.document, made.before, made.update_description) == (None, None, None)


def test_deletes_pass_and_what_did_not_pass_before_stays_untold() -> None:
    """A former state is told only where it would have been told then."""
    draft, public = {"_id": "k", "state": "draft"}, {"_id": "k", "state": "public"}
    for op in (Op.DELETE, Op.UPDATE):
        event = change({"state": "public"}, op=op)
        assert only(replace(event, before=draft), PUBLIC) == event
        assert only(replace(event, before=public), PUBLIC) == replace(event, before=public)


@given(st.lists(st.sampled_from(["public", "draft", "gone"]), max_size=8))
def test_a_filter_keeps_the_replica_true(states: list[str]) -> None:
    """Whatever a document went through, it is told in the end exactly if it passes in the end."""
    held = None
    for state in states:
        event = change(op=Op.DELETE) if state == "gone" else change({"state": state})
        held = only(event, PUBLIC).document
    assert (held is not None) == (states[-1:] == ["public"])


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("op == 'u' && db == 'twin' && collection == 'articles'", True),
        ("""key == '"k"'""", True),
        ("document.at >= '2026-01-01'", True),
        ("document.at >= '2027-01-01'", False),
        ("document.price > `9`", True),
        ("document.likes", True),  # 0 is a value
        ("document.none", False),
        ("document.empty", False),
        ("document.missing == `null`", True),
        ("length(document.tags[?@ == 'a']) == `1`", True),
        ("document.owner == '6b000512b5d1714ad0f5bf3b'", True),
        ("document._id == 'k'", True),
        ("before.state != document.state", True),
        ("contains(document.title, 'Qdrant')", True),
    ],
)
def test_expressions_see_plain_values(expression: str, passes: bool) -> None:
    """Dates are RFC 3339, ids are text, numbers are numbers; absent is null."""
    event = change(
        {
            "at": datetime(2026, 5, 1, 12, 30, tzinfo=UTC),
            "price": Decimal128("9.5"),
            "likes": Int64(0),
            "none": None,
            "empty": [],
            "tags": ["a", "b"],
            "owner": OID,
            "state": "public",
            "title": "About Qdrant",
        },
        before={"state": "draft"},
    )
    made = only(event, {"type": "filter", "expression": expression})
    assert (made.op is not Op.DELETE) == passes


def test_an_expression_that_cannot_be_evaluated_parks_the_event() -> None:
    """Neither passing nor deleting is right where nobody can tell; content is not quoted."""
    spec = {"type": "filter", "expression": "length(document.title) > `3`"}
    error = failure(change({"title": None}), spec)
    assert (error.reason, error.stage) == ("transform", "filter")
    assert "length() was given null" in str(error)
    numbers = {"type": "filter", "expression": "abs(document.title) > `3`"}
    assert SECRET not in str(failure(change({"title": SECRET}), numbers))


def test_an_expression_that_fails_on_the_former_state_only_withholds_it() -> None:
    """What was before is no reason to set aside what is."""
    spec = {"type": "filter", "expression": "length(document.title) > `3`"}
    event = change({"title": "long"}, before={"_id": "k"})
    assert only(event, spec) == replace(event, before=None)


def test_dates_out_of_python_s_range_and_any_other_type_are_plain_too() -> None:
    """Nothing that BSON has ends an expression."""
    assert plain(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)) == "2026-01-02T03:04:05.678Z"
    assert plain(DatetimeMS(1 << 50)) == 1 << 50
    values = plain({"b": b"x", "l": [OID, (1, None)], "i": Int64(1)})
    assert json.loads(json.dumps(values))["l"] == [str(OID), [1, None]]


# -- flatten ------------------------------------------------------------------------------


def test_flatten_has_the_event_travel_as_the_course_s_message() -> None:
    """The same body as CDC_MESSAGE_FORMAT=flat, and the headers that keep order and identity."""
    event = change({"content": "x"})
    made = only(event, {"type": "flatten"})
    assert encode(made) == encode(event, "flat")
    assert json.loads(encode(made).body) == {"content": "x", "entry_id": "k", "type": "articles"}
    message = encode(made)
    back = decode(message.body, message.headers, message.routing_key, message.message_id)
    assert isinstance(back, ChangeEvent)
    assert (back.key, back.version, back.document) == (event.key, event.version, {"content": "x"})


def test_flatten_flattens_deletes() -> None:
    """Those of the filter behind which it stands too."""
    for event in (change(op=Op.DELETE), change({"state": "draft"})):
        made = only(event, PUBLIC, {"type": "flatten"})
        assert json.loads(encode(made).body)["__deleted"] is True
