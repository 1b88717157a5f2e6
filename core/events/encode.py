"""Change events as messages: Debezium's envelope for MongoDB, or the course's flat body."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
from bson import json_util

from core.documents import entry_id, identifier_of
from core.events.model import ChangeEvent, Event, Op, Purge, SnapshotCompleted
from core.versions import INCREMENT_BITS, MAX_INCREMENT, READ_POSITION

CONNECTOR = "mongodb"
CONTROL = "control"
ENVELOPE_VERSION = "1"

# Says in an envelope that the document is to be read from MongoDB; in a flat body with `__`.
REFERENCE = "reference"

HEADER_KEY = "x-cdc-key"
HEADER_VERSION = "x-cdc-version"
HEADER_POSITION = "x-cdc-pos"

# All properties of a message must fit one frame of 128 KiB, or the broker closes the connection.
# A longer key, which the body holds as well, goes without; such a document's messages then
# share the one partition of what has no key.
_LONGEST_HEADER = 16 * 1024

# json_util is slow, and most values need it not. Whatever else looks like JSON's own types
# (Int64 and Code are subclasses of int and str) is left to it.
_JSON_TYPES_ONLY = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)

MessageFormat = Literal["envelope", "flat"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One AMQP message: what the publisher sends, free of any client library."""

    routing_key: str
    body: bytes
    message_id: str
    type: str
    timestamp: int
    headers: Mapping[str, str | int]
    content_type: str = "application/json"


def encode(event: Event, message_format: MessageFormat = "envelope") -> Message:
    """The message that carries `event`. Control events have one form only."""
    match event:
        case ChangeEvent() if event.flat or message_format == "flat":
            return _message(event, _flat(event))
        case ChangeEvent():
            return _message(event, _envelope(event))
        case Purge():
            return _control(event, Op.PURGE, _purge(event))
        case SnapshotCompleted():
            return _control(event, Op.SNAPSHOT_COMPLETED, _completed(event))


def without_before(message: Message) -> Message | None:
    """The message without the document as it was before; None where it has none."""
    body = json.loads(message.body)
    if _is_flat(body) or body.get("before") is None:
        return None
    return replace(message, body=_dump({**body, "before": None}))


def by_reference(message: Message) -> Message | None:
    """The message without its document, which the consumer reads from MongoDB by its key.

    None where there is no document to leave out.
    """
    body = json.loads(message.body)
    if _is_flat(body):
        if body.get("__deleted"):
            return None
        names = {name: body[name] for name in ("entry_id", "type")}
        return replace(message, body=_dump({**names, f"__{REFERENCE}": True}))
    if body.get("after") is None:
        return None
    states = {"before": None, "after": None, "updateDescription": None}
    return replace(message, body=_dump({**body, **states, REFERENCE: True}))


def _is_flat(body: Mapping[str, Any]) -> bool:
    """Only the flat form has it, beside the document's own fields."""
    return "entry_id" in body


def extended_json(value: Any) -> str:
    """Relaxed extended JSON, version 2, of what BSON can hold: as json_util writes it."""
    try:
        text = orjson.dumps(value, _typed, _JSON_TYPES_ONLY)
    except orjson.JSONEncodeError:
        return _by_json_util(value)
    if b"null" in text and not _all_finite(value):
        return _by_json_util(value)
    return text.decode()


def _typed(value: Any) -> Any:
    """What stands in extended JSON for a value that is none of JSON's own types."""
    return json_util.default(value, json_util.RELAXED_JSON_OPTIONS)


def _all_finite(value: Any) -> bool:
    """Whether each null is a None: orjson writes NaN and infinity as null, too."""
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(_all_finite, value.values()))
        case list() | tuple():
            return all(map(_all_finite, value))
        case _:
            return True


def _by_json_util(value: Any) -> str:
    return json_util.dumps(
        value,
        json_options=json_util.RELAXED_JSON_OPTIONS,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _message(event: ChangeEvent, body: Mapping[str, Any]) -> Message:
    headers: dict[str, str | int] = {}
    key = f"{event.db}.{event.collection}/{event.key}"
    if len(key.encode()) <= _LONGEST_HEADER:
        headers[HEADER_KEY] = key
    if event.version is not None and len(event.version.pos) <= _LONGEST_HEADER:
        headers[HEADER_VERSION] = event.version.number
        headers[HEADER_POSITION] = event.version.pos
    return Message(
        routing_key=f"{event.db}.{event.collection}",
        body=_dump(body),
        message_id=event.message_id,
        type=event.op.value,
        timestamp=event.wall_ms // 1000,
        headers=headers,
    )


def _envelope(event: ChangeEvent) -> dict[str, Any]:
    return {
        "op": event.op.value,
        "before": None if event.before is None else extended_json(event.before),
        "after": None if event.document is None else extended_json(event.document),
        "updateDescription": event.update_description,
        "source": _source(event),
        "key": {"id": event.key},
        "ts_ms": _now_ms(),
    }


def _source(event: ChangeEvent) -> dict[str, Any]:
    number, pos = event.version or (event.version_hint, "")
    return {
        "connector": CONNECTOR,
        "name": "llm_twin",
        "version": ENVELOPE_VERSION,
        "db": event.db,
        "collection": event.collection,
        "ts_ms": event.wall_ms,
        "wallTime": event.wall_ms,
        "ord": number & MAX_INCREMENT,
        "lsid": event.transaction.get("lsid"),
        "txnNumber": event.transaction.get("txnNumber"),
        "snapshot": event.snapshot,
        "cluster_t": number >> INCREMENT_BITS,
        "cluster_i": number & MAX_INCREMENT,
        "pos": pos,
    }


def _flat(event: ChangeEvent) -> dict[str, Any]:
    names = {"entry_id": entry_id(identifier_of(event.key)), "type": event.collection}
    if event.document is None:
        return {**names, "__deleted": True}
    # A field `__deleted` of the document's own would be its end elsewhere.
    left_out = ("_id", "__deleted")
    fields = {name: value for name, value in event.document.items() if name not in left_out}
    plain: dict[str, Any] = json.loads(extended_json(fields))
    return {**plain, **names}


def _control(event: Purge | SnapshotCompleted, op: Op, body: Mapping[str, Any]) -> Message:
    number, pos = event.version
    source = {
        "connector": CONNECTOR,
        "db": event.db,
        "cluster_t": number >> INCREMENT_BITS,
        "cluster_i": number & MAX_INCREMENT,
        "pos": pos or READ_POSITION,
        "wallTime": event.wall_ms,
    }
    return Message(
        routing_key=f"{event.db}.{CONTROL}",
        body=_dump({"op": op.value, **body, "source": source, "ts_ms": _now_ms()}),
        message_id=event.message_id,
        type=op.value,
        timestamp=event.wall_ms // 1000,
        headers={HEADER_VERSION: number, HEADER_POSITION: pos or READ_POSITION},
    )


def _purge(event: Purge) -> dict[str, Any]:
    return {"db": event.db, "collection": event.collection, "reason": event.reason}


def _completed(event: SnapshotCompleted) -> dict[str, Any]:
    return {
        "db": event.db,
        "snapshot_id": event.snapshot_id,
        "collections": list(event.collections),
        "version": event.version.number,
    }


def _dump(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body)


def _now_ms() -> int:
    return int(time.time() * 1000)
