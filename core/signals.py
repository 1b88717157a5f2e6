"""What services and people ask of data_cdc, through the state database."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Regex
from bson.codec_options import CodecOptions
from bson.errors import BSONError, InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

from core.documents import document_key, entry_id, identifier_of
from core.logging import get_logger
from core.raw import identity

SIGNALS = "signals"
_GAP = "gap"
# A request is kept in the checkpoint, which has at most 16 MB for all of them.
MOST_KEYS = 10_000
_MOST_BYTES = 1 << 20
_LONGEST_NAME = 200

log = get_logger()


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """A snapshot that somebody asks for.

    Of all captured collections where `collections` is empty; of the documents `keys`
    of one collection alone where there are any, each as `document_key` writes it.
    `is_gap` tells that something was lost, so that documents are missing until it is
    answered.
    """

    id: str
    why: str
    collections: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    is_gap: bool = False


def ask_for_snapshot(
    state: Database[dict[str, Any]],
    why: str,
    *,
    collections: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> str:
    """Ask data_cdc to read collections, or the documents `keys` of one, again. Returns an id.

    Raises ValueError for more keys than `too_many` allows.
    """
    if problem := too_many(keys):
        raise ValueError(problem)
    request = _new_id()
    asked = {"collections": list(collections), "keys": list(keys)}
    state[SIGNALS].insert_one({"_id": request, "why": why, "at": datetime.now(UTC), **asked})
    return request


def too_many(keys: Sequence[str]) -> str | None:
    """Why these are too many documents for one request, if they are."""
    if len(keys) > MOST_KEYS:
        return f"{len(keys)} documents are more than the {MOST_KEYS} of one request"
    if (size := sum(len(key.encode("utf-8", "replace")) for key in keys)) > _MOST_BYTES:
        return f"keys of {size} bytes are more than the {_MOST_BYTES} of one request"
    return None


def declare_gap(state: Database[dict[str, Any]], why: str) -> None:
    """Ask data_cdc to read everything again, for something was lost.

    Until it has begun to, another call changes nothing but the reason.
    """
    asked = {"request": _new_id(), "why": why, "at": datetime.now(UTC)}
    state[SIGNALS].replace_one({"_id": _GAP}, asked, upsert=True)


def requests(
    state: Database[dict[str, Any]], known: Callable[[str], bool] = lambda _: False
) -> list[SnapshotRequest]:
    """What is asked for, not yet answered and not `known`: a gap first, then the oldest.

    Anybody may write here: what is no request is told in the log and removed.
    """
    found: list[SnapshotRequest] = []
    for signal in _raw(state).find().sort("at", 1):
        try:
            found += _request(bson.decode(signal.raw, state.codec_options), known)
        except (ValueError, OverflowError, BSONError) as error:
            _remove(state, signal, str(error))
    return sorted(found, key=lambda request: not request.is_gap)


def answer(state: Database[dict[str, Any]], request: str) -> None:
    """The request with this id is fulfilled. A gap declared anew meanwhile stays."""
    for signal in _raw(state).find({}, {"_id": 1, "request": 1}):
        # These two fields, byte for byte, are the filter as well: no `_id` is lost in decoding.
        with suppress(InvalidBSON):
            if _id(bson.decode(signal.raw, state.codec_options)) == request:
                _raw(state).delete_one(signal)


def answer_gap(state: Database[dict[str, Any]]) -> None:
    """Everything will be read from the beginning, which answers a gap, too."""
    state[SIGNALS].delete_one({"_id": _GAP})


def _raw(state: Database[dict[str, Any]]) -> Collection[RawBSONDocument]:
    options = CodecOptions(document_class=RawBSONDocument)
    return state[SIGNALS].with_options(codec_options=options)


def _remove(state: Database[dict[str, Any]], signal: RawBSONDocument, reason: str) -> None:
    alone = RawBSONDocument(identity(bytes(signal.raw)))
    _raw(state).delete_one(alone)
    log.warning("signal.refused", signal_id=repr(alone.raw)[:_LONGEST_NAME], reason=reason)


def _request(signal: Mapping[str, Any], known: Callable[[str], bool]) -> Iterator[SnapshotRequest]:
    """The request in `signal`, unless it is known. Raises ValueError where it is none."""
    request, why = _id(signal), str(signal.get("why") or "")[:_LONGEST_NAME]
    if known(request):
        return
    if signal["_id"] == _GAP:
        yield SnapshotRequest(id=request, why=why, is_gap=True)
        return
    if len(request) > _LONGEST_NAME:
        raise ValueError("its _id is too long")
    collections, keys = _texts(signal, "collections"), _texts(signal, "keys")
    if keys and len(collections) != 1:
        raise ValueError("keys need one collection, for a key may occur in several")
    if problem := too_many(keys):
        raise ValueError(problem)
    canonical = dict.fromkeys(_canonical(key) for key in keys)
    yield SnapshotRequest(id=request, why=why, collections=collections, keys=tuple(canonical))


def _id(signal: Mapping[str, Any]) -> str:
    """What a request is called. People may leave the `_id` to MongoDB."""
    return entry_id(signal.get("request", signal["_id"]))


def _texts(signal: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = signal.get(field, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{field} is no list of text")
    return tuple(value)


def _canonical(key: str) -> str:
    """`key` as `document_key` writes it. Raises ValueError where no `_id` can be so."""
    identifier = identifier_of(key)
    if isinstance(identifier, list | Regex | re.Pattern) or _is_operator(identifier):
        raise ValueError(f"no _id can be {key[:_LONGEST_NAME]!r}")
    bson.encode({"_id": identifier})
    return document_key(identifier)


def _is_operator(identifier: object) -> bool:
    return isinstance(identifier, dict) and any(name.startswith("$") for name in identifier)


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
