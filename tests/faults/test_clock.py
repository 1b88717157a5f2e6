"""Order comes from MongoDB's logical clock: the wall clock may say what it likes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.documents import document_key
from core.events import decode, encode
from core.events.encode import MessageFormat
from data_cdc.source.translate import translate
from tests.cdc_harness import COLLECTIONS, Received, replay

_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_STEP = st.tuples(
    st.sampled_from(["insert", "replace", "delete"]),
    st.integers(0, 3),
    st.integers(-(10**6), 10**6),
)


@pytest.mark.fault(25, 26)
@pytest.mark.parametrize("form", ["envelope", "flat"])
@given(steps=st.lists(_STEP, min_size=1, max_size=30), shuffle=st.randoms(use_true_random=False))
def test_a_clock_that_steps_back_changes_no_order(
    form: MessageFormat, steps: list[tuple[str, int, int]], shuffle: random.Random
) -> None:
    """Whatever the wall times, and in whatever order messages come, the last write wins."""
    expected: dict[tuple[str, str], Any] = {}
    messages = []
    for number, (operation, identifier, wall_s) in enumerate(steps):
        key = ("articles", document_key(str(identifier)))
        expected[key] = None if operation == "delete" else number
        messages += _received(_change(number, operation, str(identifier), wall_s), form)
    again = [*messages, *shuffle.choices(messages, k=len(messages) // 2)]
    shuffle.shuffle(again)
    found = {key: document["n"] for key, document in replay(again).items()}
    assert found == {key: number for key, number in expected.items() if number is not None}


def _change(number: int, operation: str, identifier: str, wall_s: int) -> dict[str, Any]:
    """A change document as MongoDB sends it; two and two share their time, as in transactions."""
    document = None if operation == "delete" else {"_id": identifier, "n": number}
    return {
        "_id": {"_data": f"82{1000 + number // 2:08X}00000001{number:08X}"},
        "operationType": operation,
        "clusterTime": Timestamp(1000 + number // 2, 1),
        "wallTime": _NOW + timedelta(seconds=wall_s),
        "ns": {"db": "twin", "coll": "articles"},
        "documentKey": {"_id": identifier},
        "fullDocument": document,
    }


def _received(change: dict[str, Any], form: MessageFormat) -> list[Received]:
    """What a consumer gets for one change."""
    found = []
    for event in translate(change, COLLECTIONS).events:
        message = encode(event, form)
        told = decode(message.body, message.headers, message.routing_key, message.message_id)
        assert told is not None
        found.append(Received(message.message_id, message.headers, told))
    return found
