"""Reading what is there: in chunks by `_id`, or by given keys, each at one exact clusterTime.

A chunk is one `find` with read concern "snapshot", whose reply tells the time it
was read at, so every document read has a place among the stream's events. The
server keeps a chunk below 16 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.max_key import MaxKey
from bson.timestamp import Timestamp
from pymongo.database import Database

from core.documents import document_key, identifier_of
from core.errors import TransientError
from core.events import ChangeEvent, Op, SnapshotCompleted
from core.versions import READ_POSITION, Version
from data_cdc.keeping.offset import SnapshotTask
from data_cdc.source.translate import message_id

CHUNK = 500


class ReadTooEarly(TransientError):
    """The server's snapshot is older than the position that the stream will begin at."""

    def __init__(self, at: Timestamp, not_before: Timestamp) -> None:
        super().__init__(f"the server reads as of {at}, not yet as of {not_before}.")


@dataclass(frozen=True)
class Chunk:
    """Documents in the order of `_id`, all as of `at`."""

    documents: tuple[Mapping[str, Any], ...]
    at: Timestamp


def read_chunk(
    database: Database[dict[str, Any]],
    collection: str,
    after: Mapping[str, Any] | None,
    not_before: Timestamp,
    size: int = CHUNK,
) -> Chunk:
    """Up to `size` documents behind the document `after`, read no earlier than `not_before`.

    Raises pymongo's errors and ReadTooEarly: try again.
    """
    return _read(database, _find(collection, after, size), not_before)


def read_last(database: Database[dict[str, Any]], collection: str, not_before: Timestamp) -> Chunk:
    """The document whose `_id` is MaxKey, if there is one. Raises as `read_chunk`.

    `min` reads up to the end of the index, and MaxKey is that end.
    """
    command = {**_find(collection, None, 1), "filter": {"_id": MaxKey()}}
    return _read(database, command, not_before)


def read_keys(
    database: Database[dict[str, Any]],
    collection: str,
    keys: Sequence[str],
    not_before: Timestamp,
) -> Chunk:
    """Those of the documents `keys` that exist. Raises as `read_chunk`."""
    wanted = {"_id": {"$in": [identifier_of(key) for key in keys]}}
    return _read(database, {**_find(collection, None, len(keys)), "filter": wanted}, not_before)


def _read(
    database: Database[dict[str, Any]], command: dict[str, Any], not_before: Timestamp
) -> Chunk:
    reply = database.command(command, codec_options=database.codec_options)
    cursor = reply["cursor"]
    # A collection that does not exist is read at no time, but surely after `not_before`.
    at: Timestamp = cursor.get("atClusterTime") or not_before
    if at < not_before:
        raise ReadTooEarly(at, not_before)
    return Chunk(tuple(cursor["firstBatch"]), at)


def _find(collection: str, after: Mapping[str, Any] | None, size: int) -> dict[str, Any]:
    command = {
        "find": collection,
        "sort": {"_id": 1},
        "hint": {"_id": 1},
        "limit": size,
        "batchSize": size,
        "singleBatch": True,
        "readConcern": {"level": "snapshot"},
    }
    if after is None:
        return command
    # A plain {_id: {$gt: …}} sees only values of the same BSON type. `min` bounds the index
    # across types and includes `after`; the expression leaves that one out.
    beyond = {"$expr": {"$gt": ["$_id", {"$literal": after["_id"]}]}}
    return {**command, "min": {"_id": after["_id"]}, "filter": beyond}


def read_events(snapshot_id: str, db: str, collection: str, chunk: Chunk) -> list[ChangeEvent]:
    """An event for each document of `chunk`."""
    return [
        _event(Op.READ, snapshot_id, db, collection, document_key(document["_id"]), chunk, document)
        for document in chunk.documents
    ]


def missing_events(
    snapshot_id: str, db: str, collection: str, chunk: Chunk, keys: Sequence[str]
) -> list[ChangeEvent]:
    """A delete, as of the read, for each of `keys` that `chunk` does not hold."""
    found = {document_key(document["_id"]) for document in chunk.documents}
    return [
        _event(Op.DELETE, snapshot_id, db, collection, key, chunk, None)
        for key in keys
        if key not in found
    ]


def completed(task: SnapshotTask, db: str) -> SnapshotCompleted:
    """The marker behind a snapshot of whole collections."""
    at = task.earliest or task.not_before
    return SnapshotCompleted(
        db=db,
        collections=task.collections,
        snapshot_id=task.id,
        version=Version.of(at.time, at.inc, READ_POSITION),
        wall_ms=at.time * 1000,
        message_id=message_id(task.id, "completed"),
    )


def _event(
    op: Op,
    snapshot_id: str,
    db: str,
    collection: str,
    key: str,
    chunk: Chunk,
    document: Mapping[str, Any] | None,
) -> ChangeEvent:
    return ChangeEvent(
        op=op,
        db=db,
        collection=collection,
        key=key,
        document=document,
        version=Version.of(chunk.at.time, chunk.at.inc, READ_POSITION),
        wall_ms=chunk.at.time * 1000,
        message_id=message_id(snapshot_id, collection, key),
        snapshot="true",
    )
