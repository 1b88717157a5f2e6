"""One step of a snapshot: the next chunk as events, and the task as it stands behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from core.events import Event, SnapshotCompleted
from core.versions import READ_POSITION, Version
from data_cdc.keeping.offset import SnapshotTask
from data_cdc.keeping.parked import Parked
from data_cdc.source.chunks import read_chunk, read_keys, read_last
from data_cdc.source.translate import message_id

_TOLD = "told"
# BadValue, InvalidOptions, CommandNotSupportedOnView and, as a view answers to `singleBatch`,
# InvalidPipelineOperator.
_NEVER = frozenset({2, 72, 166, 168})
# It stands for a time that is not to be had yet as well as for a capped collection.
_SNAPSHOT_UNAVAILABLE = 246

Told = tuple[Event, SnapshotTask | None]


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What to tell, and what is left to do afterwards: `task`, None at the end of the snapshot.

    `steps` are the events, each with the task as it stands once that one is told.
    `undecodable` are documents that no event can tell. `refused` is a collection that
    MongoDB will never let us read, and `reason` what it says; `task` goes on without it.
    """

    task: SnapshotTask | None
    steps: Sequence[Told] = ()
    undecodable: Sequence[Parked] = ()
    refused: str | None = None
    reason: str = ""


def next_portion(database: Database[dict[str, Any]], task: SnapshotTask) -> Portion:
    """Read on where `task` stands. Raises pymongo's errors and ReadTooEarly: try again.

    The same task gives the events of the same documents, as of a later time.
    """
    collection = task.collection
    if collection is None:
        return Portion(task=None, steps=_end(task, database.name))
    try:
        if task.keys is not None:
            return _keys(database, collection, task, task.keys)
        return _chunk(database, collection, task)
    except OperationFailure as error:
        if not _is_for_ever(error, database, collection):
            raise
        return Portion(task=_without_current(task), refused=collection, reason=str(error))


def _chunk(database: Database[dict[str, Any]], collection: str, task: SnapshotTask) -> Portion:
    chunk = read_chunk(database, collection, task.after, task.not_before)
    ends = chunk.ends or not chunk.documents
    if not chunk.documents and task.after is not None:
        chunk = read_last(database, collection, task.not_before)
    begun = task.seen(0, chunk.at)
    behind = _behind_each(begun, [found.place for found in chunk.documents], ends=ends)
    steps = [
        (chunk.read(task.id, found), further)
        for found, further in zip(chunk.documents, behind, strict=True)
        if found.content is not None
    ]
    left = behind[-1] if behind else begun.next_collection()
    return Portion(task=left, steps=steps, undecodable=chunk.undecodable(task.id))


def _keys(
    database: Database[dict[str, Any]],
    collection: str,
    task: SnapshotTask,
    keys: Sequence[str],
) -> Portion:
    """The next of `keys`, in their order. `after` counts those that are told."""
    told: int = (task.after or {}).get(_TOLD, 0)
    chunk, asked = read_keys(database, collection, keys[told:], task.not_before)
    begun, counts = task.seen(0, chunk.at), range(told + 1, told + len(asked) + 1)
    ends = counts.stop > len(keys)
    behind = _behind_each(begun, [{_TOLD: count} for count in counts], ends=ends)
    steps = [(event, begun) for event in chunk.beside(task.id, asked)]
    for key, further in zip(asked, behind, strict=True):
        event = chunk.answer(task.id, key)
        steps += [] if event is None else [(event, further)]
    return Portion(task=behind[-1], steps=steps, undecodable=chunk.undecodable(task.id))


def _behind_each(
    begun: SnapshotTask, places: Sequence[Mapping[str, Any]], *, ends: bool
) -> list[SnapshotTask]:
    """The task behind each place; with `ends` the last one ends the collection."""
    behind = [
        replace(begun, rows=begun.rows + number, after=place)
        for number, place in enumerate(places, 1)
    ]
    return [*behind[:-1], behind[-1].next_collection()] if ends and behind else behind


def _is_for_ever(
    error: OperationFailure, database: Database[dict[str, Any]], collection: str
) -> bool:
    """Whether MongoDB refuses this collection however often it is asked."""
    if error.code == _SNAPSHOT_UNAVAILABLE:
        return bool(database[collection].options().get("capped"))
    return error.code in _NEVER


def _without_current(task: SnapshotTask) -> SnapshotTask:
    """What is refused must not be in the marker: all that was told of it would be swept."""
    left = (*task.collections[: task.current], *task.collections[task.current + 1 :])
    return replace(task, collections=left, after=None)


def _end(task: SnapshotTask, db: str) -> Sequence[Told]:
    """The marker behind a snapshot of whole collections."""
    if task.keys is not None or not task.collections:
        return ()
    at = task.earliest or task.not_before
    marker = SnapshotCompleted(
        db=db,
        collections=task.collections,
        snapshot_id=task.id,
        version=Version.of(at.time, at.inc, READ_POSITION),
        wall_ms=at.time * 1000,
        message_id=message_id(task.id, "completed"),
    )
    return [(marker, None)]
