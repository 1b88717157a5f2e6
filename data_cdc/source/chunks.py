"""Reading what is there: in chunks by `_id`, or by given keys, each at one exact clusterTime.

A chunk is one `find` with read concern "snapshot", whose reply tells the time it
was read at, so every document read has a place among the stream's events. The
server keeps a reply below 16 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.max_key import MaxKey
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo.database import Database
from pymongo.errors import OperationFailure

from core.documents import document_key, identifier_of
from core.errors import TransientError
from core.events import ChangeEvent, Op
from core.raw import identity, is_max_key
from core.versions import READ_POSITION, Version
from data_cdc.keeping.parked import LONGEST_NAME, Parked
from data_cdc.source.translate import message_id

CHUNK = 500
_RAW = "raw"


class ReadTooEarly(TransientError):
    """The server's snapshot is older than the position that the stream will begin at."""

    def __init__(self, at: Timestamp, not_before: Timestamp) -> None:
        super().__init__(f"the server reads as of {at}, not yet as of {not_before}.")


@dataclass(frozen=True)
class Found:
    """A document of a chunk. `content` is None where its bytes cannot be decoded.

    `place` is what `read_chunk` takes as `after`, to read on behind this document.
    """

    key: str
    place: Mapping[str, Any]
    content: Mapping[str, Any] | None
    size: int


@dataclass(frozen=True)
class Chunk:
    """Documents of `collection` in the order of `_id`, all as of `at`."""

    db: str
    collection: str
    at: Timestamp
    documents: tuple[Found, ...]

    @property
    def ends(self) -> bool:
        """Whether no document can be behind these."""
        return bool(self.documents) and is_max_key(self.documents[-1].place[_RAW])

    def read(self, snapshot_id: str, found: Found) -> ChangeEvent:
        """The event that tells `found`."""
        return self._event(Op.READ, snapshot_id, found.key, found.content)

    def answer(self, snapshot_id: str, key: str) -> ChangeEvent | None:
        """The event that tells the document `key`, or that there is none; see `undecodable`."""
        found = self._by_key.get(key)
        if found is None:
            return self._event(Op.DELETE, snapshot_id, key, None)
        return None if found.content is None else self.read(snapshot_id, found)

    def beside(self, snapshot_id: str, keys: Sequence[str]) -> list[ChangeEvent]:
        """What MongoDB takes to be equal to one of `keys`, such as 5 to 5.0, has its own key."""
        others = self._by_key.keys() - keys
        found = (self._by_key[key] for key in sorted(others))
        return [self.read(snapshot_id, one) for one in found if one.content is not None]

    def undecodable(self, snapshot_id: str) -> list[Parked]:
        """What is known of the documents that no event can tell."""
        return [
            Parked(
                id=message_id(snapshot_id, self.collection, found.key),
                collection=self.collection,
                key=found.key,
                reason="undecodable",
                op=Op.READ.value,
                size=found.size,
            )
            for found in self.documents
            if found.content is None
        ]

    @cached_property
    def _by_key(self) -> Mapping[str, Found]:
        return {found.key: found for found in self.documents}

    def _event(
        self, op: Op, snapshot_id: str, key: str, document: Mapping[str, Any] | None
    ) -> ChangeEvent:
        return ChangeEvent(
            op=op,
            db=self.db,
            collection=self.collection,
            key=key,
            document=document,
            version=Version.of(self.at.time, self.at.inc, READ_POSITION),
            wall_ms=self.at.time * 1000,
            message_id=message_id(snapshot_id, self.collection, key),
            snapshot="true",
        )


def read_chunk(
    database: Database[dict[str, Any]],
    collection: str,
    after: Mapping[str, Any] | None,
    not_before: Timestamp,
    size: int = CHUNK,
) -> Chunk:
    """Up to `size` documents behind the place `after`, read no earlier than `not_before`.

    Raises pymongo's errors and ReadTooEarly: try again.
    """
    command = {**_find(collection, size), "singleBatch": True}
    if after is not None:
        # A plain {_id: {$gt: …}} sees only values of the same BSON type. `min` bounds the index
        # across types and includes `after`; the expression leaves that one out. Both take the
        # bytes as they are, for decoded and encoded again they might be another place.
        place = _identity_at(after)
        beyond = {"$expr": {"$gt": [{"_id": "$_id"}, {"$literal": place}]}}
        command |= {"min": place, "filter": beyond}
    return _chunk(database, collection, _run(database, command), not_before)


def read_last(database: Database[dict[str, Any]], collection: str, not_before: Timestamp) -> Chunk:
    """The document whose `_id` is MaxKey, if there is one. Raises as `read_chunk`.

    `min` reads up to the end of the index, and MaxKey is that end.
    """
    command = {**_find(collection, 1), "filter": {"_id": MaxKey()}, "singleBatch": True}
    return _chunk(database, collection, _run(database, command), not_before)


def read_keys(
    database: Database[dict[str, Any]],
    collection: str,
    keys: Sequence[str],
    not_before: Timestamp,
) -> tuple[Chunk, Sequence[str]]:
    """Those of the documents `keys` that exist, and the keys, in our words, that were looked for.

    These are the first of `keys`, as many as one reply has room for: a document that
    is merely left out of a full reply must not pass for one that is gone. Raises as
    `read_chunk`.
    """
    asked = [identifier_of(key) for key in keys[:CHUNK]]
    while True:
        command = {**_find(collection, len(asked)), "filter": {"_id": {"$in": asked}}}
        cursor = _run(database, command)
        if not cursor["id"]:
            chunk = _chunk(database, collection, cursor, not_before)
            return chunk, [document_key(identifier) for identifier in asked]
        database.command({"killCursors": collection, "cursors": [cursor["id"]]})
        asked = asked[: len(asked) // 2]


def _find(collection: str, size: int) -> dict[str, Any]:
    return {
        "find": collection,
        "sort": {"_id": 1},
        "hint": {"_id": 1},
        "limit": size,
        "batchSize": size,
        "readConcern": {"level": "snapshot"},
    }


def _run(database: Database[dict[str, Any]], command: dict[str, Any]) -> RawBSONDocument:
    """The cursor in the reply, with its documents as bytes."""
    options = database.codec_options.with_options(document_class=RawBSONDocument)
    # The driver would take a refusal in bytes for one that tells nothing of the server's state,
    # and look for another primary.
    reply = database.command(command, check=False, codec_options=options)
    if not reply["ok"]:
        raise OperationFailure(reply["errmsg"], reply.get("code"))
    cursor: RawBSONDocument = reply["cursor"]
    return cursor


def _chunk(
    database: Database[dict[str, Any]],
    collection: str,
    cursor: RawBSONDocument,
    not_before: Timestamp,
) -> Chunk:
    # A collection that does not exist is read at no time, but surely after `not_before`.
    at: Timestamp = cursor.get("atClusterTime") or not_before
    if at < not_before:
        raise ReadTooEarly(at, not_before)
    options = database.codec_options
    documents = (_found(bytes(document.raw), options) for document in cursor["firstBatch"])
    return Chunk(database.name, collection, at, tuple(documents))


def _found(document: bytes, options: CodecOptions[Any]) -> Found:
    alone = identity(document)
    try:
        content = bson.decode(document, options)
        key = document_key(content["_id"])
    except InvalidBSON:
        content, key = None, _key_alone(alone, options)
    return Found(key, {_RAW: alone}, content, len(document))


def _key_alone(alone: bytes, options: CodecOptions[Any]) -> str:
    try:
        return document_key(bson.decode(alone, options)["_id"])
    except InvalidBSON:
        return f"bson:{alone.hex()[:LONGEST_NAME]}"


def _identity_at(after: Mapping[str, Any]) -> RawBSONDocument:
    """`{"_id": …}` of the document at a place. Checkpoints of earlier versions hold it decoded."""
    return RawBSONDocument(after[_RAW] if _RAW in after else bson.encode(after))
