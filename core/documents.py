"""Documents as MongoDB holds them, read into one shape whatever program wrote them.

Any field but `_id` may be missing or null, and `content` may be text or nested
dicts and lists. Nothing here raises on an unexpected shape: what is no text is
left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from bson import Binary, ObjectId, json_util
from bson.binary import UUID_SUBTYPE
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError

# What a content dict holds beside text worth finding.
_METADATA_FIELDS = frozenset({"language", "lang"})
# The order in which a reader meets them, whatever order they are stored in.
_LEADING_FIELDS = ("Title", "Subtitle", "Content")
_FILES_TYPE = "repositories"

_READING = json_util.JSONOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=True
)


@dataclass(frozen=True)
class Section:
    """One stretch of a document's text. A chunk never spans two sections."""

    path: str | None
    text: str


@dataclass(frozen=True)
class SourceDocument:
    """What the pipeline knows of one document before cleaning."""

    key: str
    entry_id: str
    type: str
    platform: str | None
    link: str | None
    name: str | None
    repository_id: str | None
    path: str | None
    author_id: str | None
    author_full_name: str | None
    title: str | None
    sections: tuple[Section, ...]

    def source_hash(self) -> str:
        """SHA-256 in hex of all that points in Qdrant are made from."""
        canonical = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


# What bson raises for text that is JSON, or not even that, but no extended JSON.
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    BSONError,
    ArithmeticError,
)


def document_key(identifier: Any) -> str:
    """The identity of a document: canonical extended JSON of its `_id`, without spaces.

    https://github.com/mongodb/specifications/blob/master/source/extended-json.md
    """
    return json_util.dumps(
        identifier,
        json_options=json_util.CANONICAL_JSON_OPTIONS,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def identifier_of(key: str) -> Any:
    """The `_id` that `document_key` wrote. Raises ValueError for text that is no such key."""
    try:
        return json_util.loads(key, json_options=_READING)
    except _UNREADABLE as error:
        raise _no_extended_json(key, error) from error


def parse_extended(text: str) -> Any:
    """Extended JSON of any mode as BSON types; dates beyond Python's range are carried.

    MongoDB takes any field name, `$date` and `$oid` too: an object that only looks like
    a type of extended JSON stays an object. Raises ValueError for what is no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_typed)
    except _UNREADABLE as error:
        raise _no_extended_json(text, error) from error


def _typed(pairs: Sequence[tuple[str, Any]]) -> Any:
    try:
        return json_util.object_pairs_hook(pairs, _READING)
    except _UNREADABLE:
        return dict(pairs)


def _no_extended_json(text: str, error: Exception) -> ValueError:
    return ValueError(f"no extended JSON: {text[:200]!r} ({error})")


def entry_id(identifier: Any) -> str:
    """An `_id` as people write it: a string as it is, hex, decimal, or hyphened UUID."""
    match identifier:
        case str():
            return identifier
        case ObjectId():
            return str(identifier)
        case bool():
            return document_key(identifier)
        case int():
            return str(int(identifier))
        case UUID():
            return str(identifier)
        case Binary(subtype=subtype) if subtype == UUID_SUBTYPE and len(identifier) == 16:
            return str(UUID(bytes=bytes(identifier)))
        case _:
            return document_key(identifier)


def read_document(collection: str, key: str, raw: Mapping[str, Any]) -> SourceDocument:
    """Read the MongoDB document `raw` of `collection` into one shape."""
    content = raw.get("content")
    path = _text(raw.get("path"))
    return SourceDocument(
        key=key,
        entry_id=entry_id(identifier_of(key)),
        type=collection,
        platform=_text(raw.get("platform")),
        link=_text(raw.get("link")),
        name=_text(raw.get("name")),
        repository_id=_reference(raw.get("repository_id")),
        path=path,
        author_id=_reference(_first(raw, "author_id", "owner_id")),
        author_full_name=_text(raw.get("author_full_name")),
        title=_title(content),
        sections=tuple(_sections(collection, path, content)),
    )


def _sections(collection: str, path: str | None, content: Any) -> Iterator[Section]:
    if collection == _FILES_TYPE and isinstance(content, Mapping):
        for name, value in content.items():
            text = "\n".join(_texts(value))
            if text.strip():
                yield Section(str(name), text)
        return
    text = "\n\n".join(part for part in _texts(content) if part.strip())
    if text:
        yield Section(path, text)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield printable(value)
        case Mapping():
            for name in _reading_order(value):
                if name not in _METADATA_FIELDS:
                    yield from _texts(value[name])
        case bytes():
            return
        case Sequence():
            for item in value:
                yield from _texts(item)


def _reading_order(content: Mapping[str, Any]) -> list[str]:
    leading = [name for name in _LEADING_FIELDS if name in content]
    return leading + [name for name in content if name not in _LEADING_FIELDS]


def _title(content: Any) -> str | None:
    if isinstance(content, Mapping):
        return _text(content.get("Title"))
    return None


def _first(raw: Mapping[str, Any], *names: str) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _reference(value: Any) -> str | None:
    match value:
        case None:
            return None
        case Mapping() | list() | tuple():
            return printable(entry_id(_as_it_arrives(value)))
        case _:
            return printable(entry_id(value))


def _as_it_arrives(value: Any) -> Any:
    """Events are relaxed extended JSON, which does not tell a small int64 from an int32."""
    return parse_extended(
        json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False)
    )


def _text(value: Any) -> str | None:
    match value:
        case None | "":
            return None
        case str():
            return printable(value)
        case Mapping() | list() | tuple():
            return None
        case _:
            return entry_id(value)


def printable(text: str) -> str:
    """`text` without what UTF-8 or JSON cannot carry: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")
