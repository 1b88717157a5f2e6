"""Reading what is there: in chunks by `_id`, each at one exact clusterTime.

A chunk is one `find` with read concern "snapshot", whose reply tells the time it
was read at, so every document read has a place among the stream's events. The
server keeps a chunk below 16 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bson.max_key import MaxKey
from bson.timestamp import Timestamp
from pymongo.database import Database

from core.documents import document_key
from core.errors import TransientError
from core.events import ChangeEvent, Op, SnapshotCompleted
from core.versions import READ_POSITION, Version
from data_cdc.translate import message_id

_CHUNK = 500


class ReadTooEarly(TransientError):
    """The server's snapshot is older than the position that the stream will begin at."""

    def __init__(self, at: Timestamp, not_before: Timestamp) -> None:
        super().__init__(f"the server reads as of {at}, not yet as of {not_before}.")


@dataclass(frozen=True)
class Chunk:
    """Documents in the order of `_id`. `at` is None where the collection does not exist."""

    documents: tuple[Mapping[str, Any], ...]
    at: Timestamp | None


def read_chunk(
    database: Database[dict[str, Any]],
    collection: str,
    after: Mapping[str, Any] | None,
    not_before: Timestamp,
    size: int = _CHUNK,
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


def _read(
    database: Database[dict[str, Any]], command: dict[str, Any], not_before: Timestamp
) -> Chunk:
    reply = database.command(command, codec_options=database.codec_options)
    cursor = reply["cursor"]
    at: Timestamp | None = cursor.get("atClusterTime")
    if at is not None and at < not_before:
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


def read_events(snapshot_id: str, db: str, collection: str, chunk: Chunk) -> Iterator[ChangeEvent]:
    """An event for each document of `chunk`."""
    at = chunk.at or Timestamp(0, 0)
    for document in chunk.documents:
        key = document_key(document["_id"])
        yield ChangeEvent(
            op=Op.READ,
            db=db,
            collection=collection,
            key=key,
            document=document,
            version=Version.of(at.time, at.inc, READ_POSITION),
            wall_ms=at.time * 1000,
            message_id=message_id(snapshot_id, collection, key),
            snapshot="true",
        )


def completed(
    snapshot_id: str, db: str, collections: tuple[str, ...], at: Timestamp
) -> SnapshotCompleted:
    """The marker behind a snapshot whose earliest read was at `at`."""
    return SnapshotCompleted(
        db=db,
        collections=collections,
        snapshot_id=snapshot_id,
        version=Version.of(at.time, at.inc, READ_POSITION),
        wall_ms=at.time * 1000,
        message_id=message_id(snapshot_id, "completed"),
    )
