"""Documents of any shape, their keys, and what people call them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from bson.binary import UUID_SUBTYPE
from hypothesis import given
from hypothesis import strategies as st

from core.documents import (
    document_key,
    entry_id,
    identifier_of,
    parse_extended,
    read_document,
)

_OID = ObjectId("65f0c0ffee00000000000001")
_UUID = uuid.UUID("2cc6bb01-141f-4a1a-9d8b-000000000001")
_BINARY_UUID = Binary.from_uuid(_UUID)

_IDENTIFIERS = [
    ("abc", '"abc"', "abc"),
    ("1", '"1"', "1"),
    ("é 你", '"é 你"', "é 你"),
    (1, '{"$numberInt":"1"}', "1"),
    (Int64(2**40), '{"$numberLong":"1099511627776"}', "1099511627776"),
    (_OID, '{"$oid":"65f0c0ffee00000000000001"}', "65f0c0ffee00000000000001"),
    (
        _BINARY_UUID,
        '{"$binary":{"base64":"LMa7ARQfShqdiwAAAAAAAQ==","subType":"04"}}',
        "2cc6bb01-141f-4a1a-9d8b-000000000001",
    ),
    (1.5, '{"$numberDouble":"1.5"}', '{"$numberDouble":"1.5"}'),
    (True, "true", "true"),
    ({"a": 1}, '{"a":{"$numberInt":"1"}}', '{"a":{"$numberInt":"1"}}'),
]


@pytest.mark.parametrize(("identifier", "key", "name"), _IDENTIFIERS)
def test_a_key_is_canonical_extended_json(identifier: Any, key: str, name: str) -> None:
    """Each kind of `_id` has its own key, which reads back as the same value, and a plain name."""
    assert document_key(identifier) == key
    assert identifier_of(key) == identifier
    assert entry_id(identifier) == name


def test_one_and_the_text_one_are_two_documents() -> None:
    """An integer and a string that look alike have different keys."""
    assert document_key(1) != document_key("1")


def test_a_binary_that_is_no_uuid_is_named_by_its_key() -> None:
    """Only 16 bytes of subtype 4 are a UUID."""
    short = Binary(b"abc", UUID_SUBTYPE)
    assert entry_id(short) == document_key(short)


@given(st.text() | st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False) | st.booleans())
def test_any_scalar_key_reads_back(identifier: Any) -> None:
    """document_key and identifier_of are inverse."""
    assert identifier_of(document_key(identifier)) == identifier


def test_text_that_is_no_key_is_refused() -> None:
    """A key that is no extended JSON raises ValueError."""
    with pytest.raises(ValueError, match="no extended JSON"):
        identifier_of('{"$oid":"xyz"}')


@pytest.mark.parametrize(
    "value",
    [
        {"$oid": "none"},
        {"$date": "tomorrow", "t": "x"},
        {"a": [{"$numberLong": "many"}]},
        {"$binary": 5},
        {"$uuid": "none"},
        {"$regularExpression": {"pattern": 5}},
    ],
)
def test_what_only_looks_like_a_type_stays_an_object(value: Any) -> None:
    """MongoDB takes field names that begin with a dollar sign, whatever they hold."""
    assert parse_extended(json.dumps({"content": value})) == {"content": value}


@pytest.mark.parametrize("value", [{"a": Int64(5)}, [Int64(5)], {"a": {"b": [Int64(5), 5]}}])
def test_a_reference_reads_the_same_here_and_from_an_event(value: Any) -> None:
    """Relaxed extended JSON does not carry that a small integer was an int64."""
    raw = {"author_id": value, "repository_id": value}
    arrived = parse_extended(
        json_util.dumps(raw, json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False)
    )
    here, there = (read_document("posts", '"p"', one) for one in (raw, arrived))
    assert here.source_hash() == there.source_hash()


def test_a_dict_reads_title_first_and_leaves_metadata_out() -> None:
    """Title, Subtitle and Content lead whatever their order; language is no text."""
    raw = {"content": {"language": "fr", "Content": "body", "Title": "T", "Subtitle": "S"}}
    document = read_document("articles", '"a"', raw)
    assert document.title == "T"
    assert [section.text for section in document.sections] == ["T\n\nS\n\nbody"]


def test_nulls_numbers_and_dates_in_content_are_no_text() -> None:
    """What is no text is left out and crashes nothing, nested lists and dicts included."""
    raw = {"content": {"Title": None, "n": 5, "d": datetime.now(UTC), "x": [{"y": "deep"}, None]}}
    assert read_document("posts", '"a"', raw).sections[0].text == "deep"


@pytest.mark.parametrize("content", [None, "", {}, [], 7, {"Title": None}])
def test_a_document_without_text_has_no_section(content: Any) -> None:
    """Nothing to find is nothing to chunk."""
    assert read_document("articles", '"a"', {"content": content}).sections == ()


def test_every_field_but_the_id_may_be_missing() -> None:
    """A document of `_id` alone reads into one with nothing else."""
    document = read_document("articles", '"a"', {"_id": "a"})
    assert (document.entry_id, document.link, document.author_id) == ("a", None, None)


def test_an_owner_is_an_author() -> None:
    """`owner_id` of repositories is read as `author_id`, as a plain name."""
    raw = {"owner_id": _OID, "repository_id": _BINARY_UUID}
    document = read_document("repository_files", '"a"', raw)
    assert document.author_id == str(_OID)
    assert document.repository_id == str(_UUID)


def test_files_of_a_repository_are_sections_of_their_own() -> None:
    """The course's {path: text} keeps each file apart, with its path."""
    raw = {"content": {"a.py": "x = 1", "b/c.py": "y = 2", "empty": ""}}
    sections = read_document("repositories", '"r"', raw).sections
    assert [(section.path, section.text) for section in sections] == [
        ("a.py", "x = 1"),
        ("b/c.py", "y = 2"),
    ]


def test_the_source_hash_tells_every_change_that_readers_see() -> None:
    """Text and metadata change it; a counter that nobody indexes does not."""
    raw = {"content": "text", "link": "https://a.example"}
    base = read_document("posts", '"p"', raw).source_hash()
    assert read_document("posts", '"p"', {**raw, "content": "texts"}).source_hash() != base
    assert read_document("posts", '"p"', {**raw, "link": None}).source_hash() != base
    assert read_document("posts", '"p"', {**raw, "claps": Decimal128("5")}).source_hash() == base


def test_lone_surrogates_and_nul_are_dropped() -> None:
    """What UTF-8 cannot carry would be refused by Qdrant."""
    text = read_document("posts", '"p"', {"content": "a\ud800b\x00c"}).sections[0].text
    assert text == "a?bc"
