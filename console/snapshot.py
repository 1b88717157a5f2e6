"""`twin snapshot`: have data_cdc read collections, or some documents, again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any

import click
from bson import Binary
from bson.errors import InvalidId
from bson.objectid import ObjectId
from pymongo.database import Database
from pymongo.errors import PyMongoError

from console.output import console, fail, print_json
from core.config import Settings
from core.documents import document_key, identifier_of
from core.mongo import connect, explain
from core.signals import SIGNALS, ask_for_snapshot, too_many
from data_cdc.keeping.state import CHECKPOINTS, snapshots_of

NOT_COMPLETED = 4
_LOOK_EVERY_S = 0.5
_LARGEST_INT = 1 << 63


@click.command()
@click.option("--collection", "collections", multiple=True, help="One of the captured; repeatable.")
@click.option("--ids", multiple=True, help="Documents of one collection, separated by commas.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    default=0.0,
    show_default=True,
    help="Seconds to wait for its end.",
)
@click.option("--json", "as_json", is_flag=True, help="{snapshot_id, collections, ids, state}.")
@click.pass_obj
def snapshot(
    settings: Settings,
    collections: tuple[str, ...],
    ids: tuple[str, ...],
    wait: float,
    as_json: bool,
) -> int:
    """Have data_cdc read documents again, while it goes on following changes.

    Without options all captured collections; what MongoDB does not hold any more is
    then removed from Qdrant. An id is what `twin search` shows as entry_id, or the
    _id as extended JSON. Exit status 4 when it did not end within --wait.
    """
    _check(settings, collections, ids)
    client = connect(settings.mongo, app="twin-snapshot")
    try:
        keys = _within(_keys(client[settings.mongo.database], collections, ids))
        state = client[settings.mongo.state_database]
        request = ask_for_snapshot(
            state, "asked for by twin snapshot", collections=collections, keys=keys
        )
        reached = _await(state, request, wait)
    except PyMongoError as error:
        raise explain(error, settings.mongo) from error
    finally:
        client.close()
    named = collections or settings.cdc.collections
    if as_json:
        told = {"collections": named, "ids": [*ids], "state": reached}
        print_json({"snapshot_id": request, **told})
    else:
        console().print(f"Snapshot {request} of {', '.join(named)}: {reached}.")
    return NOT_COMPLETED if wait and reached != "completed" else 0


def _check(settings: Settings, collections: Sequence[str], ids: Sequence[str]) -> None:
    unknown = [name for name in collections if name not in settings.cdc.collections]
    if unknown:
        captured = ", ".join(settings.cdc.collections)
        raise click.UsageError(f"{unknown[0]} is not captured; CDC_COLLECTIONS has {captured}.")
    if ids and len(collections) != 1:
        raise click.UsageError("--ids needs one --collection, for an id may occur in several.")
    _within(_split(ids))


def _within(keys: list[str]) -> list[str]:
    if problem := too_many(keys):
        raise click.UsageError(f"--ids: {problem}. Ask several times.")
    return keys


def _await(state: Database[dict[str, Any]], request: str, seconds: float) -> str:
    """How far the snapshot came within `seconds`; tells when that changes."""
    deadline = monotonic() + seconds
    while True:
        reached = _state(state, request)
        if reached == "completed" or monotonic() >= deadline:
            return reached
        sleep(_LOOK_EVERY_S)


def _state(state: Database[dict[str, Any]], request: str) -> str:
    if state[SIGNALS].find_one({"_id": request}) is None:
        return "completed"
    kept = state[CHECKPOINTS].find_one()
    for task in snapshots_of(kept):
        if task.id == request:
            return f"running, {task.rows} of about {task.total} documents read"
    return "waiting for data_cdc"


def _keys(
    database: Database[dict[str, Any]], collections: Sequence[str], ids: Sequence[str]
) -> list[str]:
    """The keys of the documents meant. One that MongoDB does not hold may have several."""
    keys: dict[str, None] = {}
    for text in _split(ids):
        possible = _identifiers(text)
        held = [
            document["_id"]
            for identifier in possible
            if (document := database[collections[0]].find_one({"_id": identifier}, {"_id": 1}))
        ]
        if not held:
            fail(f"{collections[0]} has no document {text}; what there is of it will be removed")
        keys.update(dict.fromkeys(document_key(identifier) for identifier in held or possible))
    return list(keys)


def _split(ids: Sequence[str]) -> list[str]:
    """Extended JSON is taken whole: it may hold commas."""
    parts = [[text] if text[:1] in '{"' else text.split(",") for text in ids]
    return [part.strip() for some in parts for part in some if part.strip()]


def _identifiers(text: str) -> list[Any]:
    """What an entry_id may stand for; see `core.documents.entry_id`."""
    if text[:1] in '{"':
        try:
            return [identifier_of(text)]
        except ValueError as error:
            raise click.UsageError(f"--ids {text}: {error}") from error
    found: list[Any] = [text]
    for parse in (_object_id, _integer, _uuid):
        identifier = parse(text)
        if identifier is not None:
            found.append(identifier)
    return found


def _object_id(text: str) -> ObjectId | None:
    try:
        return ObjectId(text)
    except InvalidId:
        return None


def _integer(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if str(number) == text and -_LARGEST_INT <= number < _LARGEST_INT else None


def _uuid(text: str) -> Binary | None:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    return Binary.from_uuid(parsed) if str(parsed) == text else None
