"""One step of a snapshot: the next chunk as events, and the task as it stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bson.max_key import MaxKey
from pymongo.database import Database

from core.events import ChangeEvent, Event
from data_cdc.keeping.offset import SnapshotTask
from data_cdc.source.chunks import (
    CHUNK,
    Chunk,
    completed,
    missing_events,
    read_chunk,
    read_events,
    read_keys,
    read_last,
)


@dataclass(frozen=True)
class Portion:
    """Events to tell, and what is left to do afterwards: None at the end of the snapshot."""

    events: Sequence[Event]
    task: SnapshotTask | None


def next_portion(database: Database[dict[str, Any]], task: SnapshotTask) -> Portion:
    """Read on where `task` stands. Raises pymongo's errors and ReadTooEarly: try again.

    The same task gives the events of the same documents, as of a later time.
    """
    collection = task.collection
    if collection is None:
        return Portion([] if task.keys is not None else [completed(task, database.name)], None)
    if task.keys is not None:
        return _keys(database, collection, task, task.keys)
    return _chunk(database, collection, task)


def _chunk(database: Database[dict[str, Any]], collection: str, task: SnapshotTask) -> Portion:
    chunk = read_chunk(database, collection, task.after, task.not_before)
    if chunk.documents:
        last = chunk.documents[-1]["_id"]
        further = task.read(len(chunk.documents), chunk.at, {"_id": last})
        ended = further.next_collection() if isinstance(last, MaxKey) else further
        return Portion(_told(task, database, collection, chunk), ended)
    if task.after is None:
        return Portion([], task.seen(0, chunk.at).next_collection())
    chunk = read_last(database, collection, task.not_before)
    ended = task.seen(len(chunk.documents), chunk.at).next_collection()
    return Portion(_told(task, database, collection, chunk), ended)


def _keys(
    database: Database[dict[str, Any]],
    collection: str,
    task: SnapshotTask,
    keys: Sequence[str],
) -> Portion:
    now, later = keys[:CHUNK], tuple(keys[CHUNK:])
    chunk = read_keys(database, collection, now, task.not_before)
    events = [
        *_told(task, database, collection, chunk),
        *missing_events(task.id, database.name, collection, chunk, now),
    ]
    further = task.seen(len(now), chunk.at)
    return Portion(events, further.left_with(later) if later else further.next_collection())


def _told(
    task: SnapshotTask, database: Database[dict[str, Any]], collection: str, chunk: Chunk
) -> list[ChangeEvent]:
    return read_events(task.id, database.name, collection, chunk)
