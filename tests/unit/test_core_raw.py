"""Documents as bytes: their `_id`, whatever it and the other fields are."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp

from core.raw import identity, is_max_key

_IDENTIFIERS = [
    "a",
    "",
    1,
    Int64(1),
    1.5,
    True,
    None,
    ObjectId(),
    datetime(2026, 1, 1, tzinfo=UTC),
    Timestamp(1, 2),
    Decimal128("1.50"),
    Binary(b"\x00\x01", 128),
    Binary(b"\x00\x01", 2),
    Code("f"),
    Code("f", {"_id": 1}),
    DBRef("c", 1),
    {"_id": {"_id": 2}},
    MinKey(),
    MaxKey(),
]


@pytest.mark.parametrize("identifier", _IDENTIFIERS, ids=lambda one: type(one).__name__)
def test_the_identity_is_the_document_with_no_other_field(identifier: Any) -> None:
    """Wherever `_id` stands, and whatever types stand before it, its bytes are cut out whole."""
    alone = bson.encode({"_id": identifier})
    others = {f"f{n}": value for n, value in enumerate([*_IDENTIFIERS, [1], re.compile("a|_id")])}
    assert identity(bson.encode({"_id": identifier, **others})) == alone
    # The driver moves `_id` to the front of a document, but not of one within another.
    nested = bson.encode({"d": {**others, "_id": identifier, "z": 1}})
    assert identity(nested[7:-1]) == alone
    assert is_max_key(alone) == isinstance(identifier, MaxKey)


def test_what_cannot_be_decoded_keeps_its_bytes() -> None:
    """Text that is no UTF-8, and a binary whose inner length is wrong, are carried as they are."""
    text = b"\x02_id\x00\x02\x00\x00\x00\x80\x00"
    wrong = b"\x05a\x00" + struct.pack("<i", 5) + b"\x02" + struct.pack("<i", 99) + b"x"
    for elements in (text + wrong, wrong + text):
        document = struct.pack("<i", len(elements) + 5) + elements + b"\x00"
        assert identity(document) == struct.pack("<i", len(text) + 5) + text + b"\x00"


def test_a_document_without_an_identity_is_an_error() -> None:
    """What comes out of a view may have none."""
    with pytest.raises(ValueError, match="without _id"):
        identity(bson.encode({"a": 1}))
