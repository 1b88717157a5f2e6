"""Extended JSON: the quick way tells what json_util tells, for all that BSON can hold."""

from __future__ import annotations

import json
import math
from datetime import UTC
from typing import Any

import pytest
from bson import (
    SON,
    Binary,
    Code,
    DBRef,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from core.events.encode import extended_json

TEXT = st.text() | st.sampled_from(["null", "NaN", "\x00\x1f\x7f", "\u2028", '"\\'])
FIELDS = TEXT | st.sampled_from(["$date", "$numberDouble", "$ref", "_id"])
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT
TYPED = st.one_of(
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes().map(lambda moment: moment.replace(tzinfo=UTC)),
    st.integers(-(2**62), 2**62).map(DatetimeMS),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.binary(max_size=20).map(lambda value: Binary(value, 4 if len(value) == 16 else 128)),
    TEXT.map(Code),
    st.builds(Code, TEXT, st.dictionaries(FIELDS, PLAIN, max_size=2)),
    st.builds(DBRef, TEXT, PLAIN),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.decimals().map(lambda value: Decimal128(f"{value:.6E}") if value.is_finite() else None),
    st.sampled_from([MinKey(), MaxKey(), Regex("^a", "im"), Decimal128("NaN")]),
)
VALUES = st.recursive(
    PLAIN | TYPED,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(FIELDS, inner, max_size=4)
        | st.dictionaries(FIELDS, inner, max_size=2).map(SON)
    ),
    max_leaves=12,
)


def by_json_util(value: Any) -> str:
    return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)


@given(st.dictionaries(FIELDS, VALUES, max_size=5))
def test_the_quick_way_tells_what_json_util_tells(document: dict[str, Any]) -> None:
    """Any document, of any types, reads the same from either, its fields in the same order."""
    ours, theirs = json.loads(extended_json(document)), json.loads(by_json_util(document))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_turns_into_null(number: float) -> None:
    """NaN and infinity travel as extended JSON has them, wherever they stand."""
    for value in (number, [None, number], {"a": {"b": [number]}, "c": None}):
        assert json.loads(extended_json(value)) == json.loads(by_json_util(value))


def test_text_that_no_json_can_carry_is_refused_later() -> None:
    """A lone surrogate is kept as it is, so that encoding the message raises ValueError."""
    with pytest.raises(ValueError, match="surrogates"):
        extended_json({"a": "\ud800"}).encode()
