"""MongoDB's change documents as events of ours. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from core.documents import document_key
from core.events import ChangeEvent, Event, Op, Purge
from core.events.encode import extended_json
from core.versions import Version

_OPS = {
    "insert": Op.CREATE,
    "update": Op.UPDATE,
    "replace": Op.UPDATE,
    "delete": Op.DELETE,
}
# AMQP carries a message id of 255 bytes; a token holds the whole `_id`.
_LONGEST_ID = 200


@dataclass(frozen=True)
class Step:
    """What one change asks for: events, then a new read of `reread`.

    Both empty: nothing is to be told (a look-up raced the delete that follows).
    """

    events: tuple[Event, ...] = ()
    reread: str | None = None


def pipeline(collections: Collection[str]) -> list[dict[str, Any]]:
    """The server-side filter: only what concerns `collections` leaves MongoDB."""
    names = list(collections)
    namespace = {"$or": [{"ns.coll": {"$in": names}}, {"to.coll": {"$in": names}}]}
    everything = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
    return [{"$match": {"$or": [namespace, everything]}}]


def translate(change: Mapping[str, Any], collections: Collection[str]) -> Step:
    """What follows from `change` for those who hold copies of `collections`."""
    match change["operationType"]:
        case "insert" | "update" | "replace" | "delete":
            event = _change(change)
            return Step() if event is None else Step((event,))
        case "drop" | "dropDatabase" as reason:
            return Step((_purge(change, change["ns"].get("coll"), reason),))
        case "rename":
            return _rename(change, collections)
        case _:
            return Step()


def message_id(*parts: str) -> str:
    """An idempotency key: the same parts give the same id, in at most 255 bytes."""
    text = ":".join(parts)
    if len(text.encode()) <= _LONGEST_ID:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _change(change: Mapping[str, Any]) -> ChangeEvent | None:
    op, document = _OPS[change["operationType"]], change.get("fullDocument")
    if document is None and op is not Op.DELETE:
        return None
    namespace = change["ns"]
    version = _version(change)
    return ChangeEvent(
        op=op,
        db=namespace["db"],
        collection=namespace["coll"],
        key=document_key(change["documentKey"]["_id"]),
        document=document,
        before=change.get("fullDocumentBeforeChange"),
        update_description=_described(change.get("updateDescription")),
        version=version,
        wall_ms=_wall_ms(change),
        message_id=message_id(namespace["db"], version.pos),
        transaction=_transaction(change),
    )


def _rename(change: Mapping[str, Any], collections: Collection[str]) -> Step:
    """The old name's documents are gone; so are those that the new name held before."""
    away, into = change["ns"]["coll"], change["to"]["coll"]
    captured = into in collections and change["to"]["db"] == change["ns"]["db"]
    names = [away] if away in collections else []
    names += [into] if captured else []
    purges = tuple(_purge(change, name, "rename") for name in names)
    return Step(purges, reread=into if captured else None)


def _purge(change: Mapping[str, Any], collection: str | None, reason: str) -> Purge:
    version, db = _version(change), change["ns"]["db"]
    return Purge(
        db=db,
        collection=collection,
        reason=reason,
        version=version,
        wall_ms=_wall_ms(change),
        message_id=message_id(db, version.pos, collection or "*"),
    )


def _version(change: Mapping[str, Any]) -> Version:
    time: Timestamp = change["clusterTime"]
    return Version.of(time.time, time.inc, str(change["_id"]["_data"]))


def _wall_ms(change: Mapping[str, Any]) -> int:
    """Milliseconds since 1970; MongoDB before 6.0 tells whole seconds only."""
    match change.get("wallTime"):
        case datetime() as wall:
            return int(wall.timestamp() * 1000)
        case DatetimeMS() as wall:
            return max(0, int(wall))
        case _:
            time: Timestamp = change["clusterTime"]
            return time.time * 1000


def _described(description: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """As Debezium writes it: the updated fields are extended JSON in a string."""
    if description is None:
        return None
    updated = description.get("updatedFields")
    return {
        "updatedFields": None if updated is None else extended_json(updated),
        "removedFields": list(description.get("removedFields") or []),
        "truncatedArrays": [
            {"field": array["field"], "size": array["newSize"]}
            for array in description.get("truncatedArrays") or []
        ],
    }


def _transaction(change: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which session and transaction wrote it, in what JSON can carry."""
    if change.get("txnNumber") is None:
        return {}
    return {"lsid": extended_json(change.get("lsid")), "txnNumber": int(change["txnNumber"])}
