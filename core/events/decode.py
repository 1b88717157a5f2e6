"""Messages as change events: ours, and the forms that others send.

Accepted are our envelope, Debezium's with or without `{"schema", "payload"}`,
Debezium's flattened by ExtractNewDocumentState, and the course's flat body with
`type` and `entry_id`. Where the body lacks a version or a key, our own headers
supply it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from core.documents import document_key, identifier_of, parse_extended, printable
from core.errors import MalformedEvent
from core.events.encode import HEADER_KEY, HEADER_POSITION, HEADER_VERSION, REFERENCE
from core.events.model import ChangeEvent, Event, Op, Purge, SnapshotCompleted
from core.versions import Version, is_version, version_number

# What Debezium Server sends for a tombstone: nothing, JSON null, or its `null.value`.
_TOMBSTONES = frozenset({b"", b"null", b"default"})
# Debezium's JSON converter with schemas on adds these two, and nothing beside them.
_WRAPPER = {"schema", "payload"}
_WRAPPED_TOMBSTONE = {"schema": None, "payload": None}
# The year 2242, up to which a version holds seconds.
_END_OF_TIME = (1 << 33) * 1000
_COURSE_REFERENCE = {"entry_id", "type", f"__{REFERENCE}"}
# Its heartbeats and the borders of transactions, for whoever binds more than the collections.
_HOUSEKEEPING = (
    {"ts_ms"},
    {"status", "id", "ts_ms", "event_count", "data_collections"},
)
# ExtractNewDocumentState writes an ObjectId as its digits, and nothing tells it from text.
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_FLAT_META = ("__deleted", "__op", "__db", "__collection", "__source_", "__ts_")


def decode(
    body: bytes,
    headers: Mapping[str, Any] | None = None,
    routing_key: str = "",
    message_id: str | None = None,
) -> Event | None:
    """The event in a message, or None where there is nothing to do.

    That is a tombstone, heartbeat or transaction border of Debezium's.
    Raises MalformedEvent for what is no event in any accepted form.
    """
    if body.strip() in _TOMBSTONES:
        return None
    carrier = _Carrier(headers or {}, routing_key, message_id or _digest(body))
    parsed = _parse(body)
    if parsed == _WRAPPED_TOMBSTONE:
        return None
    fields = _unwrap(parsed)
    if fields.keys() in _HOUSEKEEPING:
        return None
    # A document may have fields of any name, so what only a flat form has is asked first.
    named = "entry_id" in fields and "type" in fields
    marked = any(name.startswith(_FLAT_META) for name in fields)
    if "_id" in fields and (marked or not named):
        return _flattened(fields, carrier)
    if named:
        return _course(fields, carrier)
    if "op" in fields and "source" in fields:
        return _envelope(fields, carrier)
    if marked:
        return _flattened(fields, carrier)
    raise MalformedEvent("the message is no change event in any accepted form")


class _Carrier:
    """What travels beside the body."""

    def __init__(self, headers: Mapping[str, Any], routing_key: str, message_id: str) -> None:
        self.routing_key = routing_key
        self.message_id = message_id
        self._headers = headers

    def version(self) -> Version | None:
        number, pos = self._headers.get(HEADER_VERSION), self._headers.get(HEADER_POSITION)
        if is_version(number) and isinstance(pos, str):
            return Version(number, pos)
        return None

    def key(self) -> str | None:
        header = self._headers.get(HEADER_KEY)
        if isinstance(header, str) and "/" in header:
            return _canonical(header.partition("/")[2])
        return None

    def namespace(self) -> tuple[str, str]:
        """(db, collection) of a routing key `<db>.<collection>` or `<prefix>.<db>.<collection>`."""
        parts = self.routing_key.split(".")
        if self._routed_by_key() or len(parts) < 2:
            return ("", "")
        return (parts[-2], parts[-1])

    def record_key(self) -> Mapping[str, Any] | None:
        """Where Debezium was told to route by the record's key: `{"id": …}`, payload or bare."""
        if not self._routed_by_key():
            return None
        try:
            return _unwrap(json.loads(self.routing_key))
        except ValueError:
            return None

    def _routed_by_key(self) -> bool:
        return self.routing_key.startswith("{")


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"the body is no JSON: {error}", reason="not_json") from None


def _unwrap(value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and value.keys() == _WRAPPER:
        value = value["payload"]
    if not isinstance(value, dict):
        raise MalformedEvent("the body is JSON but no object")
    return value


def _envelope(fields: Mapping[str, Any], carrier: _Carrier) -> Event | None:
    op = _op(fields["op"])
    source = fields["source"]
    if not isinstance(source, Mapping):
        raise MalformedEvent("source is no object")
    if op is Op.PURGE:
        return _purge(fields, source, carrier)
    if op is Op.SNAPSHOT_COMPLETED:
        return _completed(fields, source, carrier)
    return _change(op, fields, source, carrier)


def _change(
    op: Op, fields: Mapping[str, Any], source: Mapping[str, Any], carrier: _Carrier
) -> ChangeEvent | None:
    after, before = _state(fields.get("after")), _state(fields.get("before"))
    by_reference = after is None and op is not Op.DELETE and _truth(fields.get(REFERENCE))
    if after is None and op is not Op.DELETE and not by_reference:
        return None  # the look-up raced a delete, whose own event follows
    # A record's key is relaxed extended JSON, which tells no int64 from an int32. The states do.
    key = (
        _key_field(fields.get("key"))
        or _key_of(after)
        or _key_of(before)
        or _key_field(carrier.record_key())
        or carrier.key()
    )
    db, collection = carrier.namespace()
    return ChangeEvent(
        op=op,
        db=str(source.get("db") or db),
        collection=_known(source.get("collection") or collection),
        key=_required(key),
        document=None if op is Op.DELETE else after,
        before=before,
        version=_version(source) or carrier.version(),
        version_hint=_hint(source.get("ts_ms"), source.get("ord")),
        wall_ms=_moment(source.get("wallTime") or source.get("ts_ms") or fields.get("ts_ms")),
        message_id=carrier.message_id,
        snapshot=str(source.get("snapshot") or "false").lower(),
        by_reference=by_reference,
    )


def _course(fields: Mapping[str, Any], carrier: _Carrier) -> ChangeEvent:
    document = {
        name: value
        for name, value in fields.items()
        if name not in ("entry_id", "type", "__deleted")
    }
    deleted = _truth(fields.get("__deleted"))
    by_reference = not deleted and fields.keys() == _COURSE_REFERENCE
    identifier = fields["entry_id"]
    if not isinstance(identifier, str):
        raise MalformedEvent("entry_id is no string", reason="no_key")
    version = carrier.version()
    return ChangeEvent(
        op=Op.DELETE if deleted else Op.CREATE,
        db=carrier.namespace()[0],
        collection=_known(fields["type"]),
        key=_required(carrier.key() or document_key(identifier)),
        document=None if deleted or by_reference else _extended(document),
        version=version,
        wall_ms=_wall(version),
        message_id=carrier.message_id,
        by_reference=by_reference,
    )


def _flattened(fields: Mapping[str, Any], carrier: _Carrier) -> ChangeEvent:
    meta = {name: value for name, value in fields.items() if name.startswith("__")}
    document = _extended({n: v for n, v in fields.items() if n not in meta})
    deleted = _truth(meta.get("__deleted")) or meta.get("__op") == "d"
    db, collection = carrier.namespace()
    stamp = meta.get("__source_ts_ms") or meta.get("__ts_ms")
    record = _extended(carrier.record_key() or {})
    key = _plain_key(document.get("_id")) or _plain_key(record.get("id")) or carrier.key()
    return ChangeEvent(
        op=Op.DELETE if deleted else _op(meta.get("__op") or "u"),
        db=str(meta.get("__source_db") or meta.get("__db") or db),
        collection=_known(
            meta.get("__source_collection") or meta.get("__collection") or collection
        ),
        key=_required(key),
        document=None if deleted else document,
        version=carrier.version(),
        version_hint=_hint(stamp, meta.get("__source_ord")),
        wall_ms=_moment(stamp),
        message_id=carrier.message_id,
    )


def _purge(fields: Mapping[str, Any], source: Mapping[str, Any], carrier: _Carrier) -> Purge:
    collection = fields.get("collection")
    return Purge(
        db=str(fields.get("db") or source.get("db") or ""),
        collection=None if collection is None else str(collection),
        reason=str(fields.get("reason") or "drop"),
        version=_control_version(source, carrier),
        wall_ms=_moment(source.get("wallTime")),
        message_id=carrier.message_id,
    )


def _completed(
    fields: Mapping[str, Any], source: Mapping[str, Any], carrier: _Carrier
) -> SnapshotCompleted:
    collections, number = fields.get("collections"), fields.get("version")
    if not isinstance(collections, list) or not is_version(number):
        raise MalformedEvent("a snapshot marker lacks collections or version")
    return SnapshotCompleted(
        db=str(fields.get("db") or source.get("db") or ""),
        collections=tuple(str(name) for name in collections),
        snapshot_id=str(fields.get("snapshot_id") or ""),
        version=Version(number, _control_version(source, carrier).pos),
        wall_ms=_moment(source.get("wallTime")),
        message_id=carrier.message_id,
    )


def _control_version(source: Mapping[str, Any], carrier: _Carrier) -> Version:
    version = _version(source) or carrier.version()
    if version is None:
        raise MalformedEvent("a control event without a version")
    return version


def _version(source: Mapping[str, Any]) -> Version | None:
    seconds, increment, pos = (source.get(n) for n in ("cluster_t", "cluster_i", "pos"))
    if isinstance(seconds, int) and isinstance(increment, int) and isinstance(pos, str) and pos:
        version = Version.of(seconds, max(increment, 0), pos)
        if not is_version(version.number):
            raise MalformedEvent(f"{seconds} is no second of a clusterTime")
        return version
    return None


def _hint(ts_ms: Any, order: Any) -> int:
    return version_number(_moment(ts_ms) // 1000, max(_integer(order), 0))


def _wall(version: Version | None) -> int:
    return 0 if version is None else (version.number >> 20) * 1000


def _state(value: Any) -> Mapping[str, Any] | None:
    """`after` or `before`: extended JSON as a string, or already an object."""
    if value is None:
        return None
    try:
        parsed = parse_extended(value) if isinstance(value, str) else _extended(value)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"a document is no extended JSON: {error}") from None
    if not isinstance(parsed, Mapping):
        raise MalformedEvent("a document is no object")
    return parsed


def _extended(value: Any) -> Any:
    try:
        return parse_extended(json.dumps(value))
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"a document is no extended JSON: {error}") from None


def _key_field(value: Any) -> str | None:
    """The key in `{"id": …}`, whose value is extended JSON as text."""
    if isinstance(value, str) and value.startswith("{"):
        value = _parse(value.encode())
    if not isinstance(value, Mapping) or value.get("id") is None:
        return None
    identifier = value["id"]
    return _canonical(identifier if isinstance(identifier, str) else json.dumps(identifier))


def _canonical(text: str) -> str:
    try:
        return document_key(identifier_of(text))
    except ValueError:
        raise MalformedEvent(f"the key is no extended JSON: {text[:100]!r}") from None


def _key_of(document: Mapping[str, Any] | None) -> str | None:
    if document is None or document.get("_id") is None:
        return None
    return _canonical(document_key(document["_id"]))


def _plain_key(identifier: Any) -> str | None:
    """The key of an `_id` in a flattened document, where BSON types became those of JSON."""
    if isinstance(identifier, str) and _OBJECT_ID.fullmatch(identifier):
        identifier = ObjectId(identifier)
    return _key_of({"_id": identifier})


def _required(key: str | None) -> str:
    if key is None:
        raise MalformedEvent(
            "the event names no document: no key, and no _id in its states", reason="no_key"
        )
    if printable(key) != key:
        raise MalformedEvent(f"no UTF-8 can carry the key {key[:100]!r}", reason="no_key")
    return key


def _known(collection: Any) -> str:
    if not isinstance(collection, str) or not collection:
        raise MalformedEvent("the event names no collection", reason="no_collection")
    return collection


def _op(value: Any) -> Op:
    try:
        return Op(value)
    except ValueError:
        raise MalformedEvent(f"unknown op {value!r}") from None


def _truth(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _moment(value: Any) -> int:
    """Milliseconds since 1970; 0 for what is no number."""
    moment = _integer(value)
    if not 0 <= moment < _END_OF_TIME:
        raise MalformedEvent(f"{str(moment)[:30]} is no time in milliseconds since 1970")
    return moment


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
