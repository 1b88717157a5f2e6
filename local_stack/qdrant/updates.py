"""Writes: each operation of the REST API, to be resolved to ids and then done by a shard.

Filters and guards are resolved before anything is written, as Qdrant does from 1.19 on:
what is noted and logged names ids only, and doing it again after a crash cannot match
other points than the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import qdrant_edge as edge
from pydantic_core import from_json, to_json

from local_stack.qdrant.errors import BadRequest, NotServed
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.filters import need_filter, parse_filter
from local_stack.qdrant.points import parse_point_vectors, parse_points, point_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_stack.qdrant.points import PointId
    from local_stack.qdrant.schema import Schema
    from local_stack.qdrant.shard import Shard

    Ids = set[PointId]
    Selection = Callable[[Shard], list[PointId]]
    Parsed = tuple[
        Callable[[Shard], list[PointId]], Callable[[list[PointId]], edge.UpdateOperation]
    ]

_MODES = ("upsert", "insert_only", "update_only")


@dataclass(frozen=True)
class Update:
    """One write. `choose` gives the ids that it touches, looking at the shard under its lock.

    `build` makes the engine's operation for them. `body` is the request's, as JSON.
    """

    name: str
    body: bytes
    choose: Callable[[Shard], list[PointId]]
    build: Callable[[list[PointId]], edge.UpdateOperation]

    def header(self, ids: list[PointId]) -> bytes:
        """What to note beside the body, so that `restore` makes the same write of it."""
        return to_json({"operation": self.name, "ids": ids})


def parse_update(name: str, body: Any, raw: bytes, schema: Schema) -> Update:
    """The operation `name`. Raises BadRequest before anything is written."""
    if name not in _OPERATIONS:
        raise NotServed(f"the operation `{name}` in a batch")
    fields = Fields(body, name)
    choose, build = _OPERATIONS[name](fields, schema)
    fields.done()
    return Update(name, raw, choose, build)


def parse_batch(body: object, schema: Schema) -> list[Update]:
    """The operations of a batch, in order."""
    fields = Fields(body, "the batch")
    operations = fields.need("operations", list)
    fields.done()
    updates = []
    for operation in operations:
        if not isinstance(operation, dict) or len(operation) != 1:
            raise BadRequest("each operation of a batch must be an object with one field")
        ((name, inner),) = operation.items()
        updates.append(parse_update(name, inner, to_json(inner), schema))
    return updates


def restore(header: bytes, raw: bytes, schema: Schema) -> Update:
    """A write that was noted, on the ids that it had then."""
    noted, body = from_json(header), from_json(raw)
    ids = point_ids(noted["ids"])
    for guard in ("filter", "update_filter", "update_mode"):
        body.pop(guard, None)
    if noted["operation"] not in ("upsert", "update_vectors"):
        body["points"] = noted["ids"]
    update = parse_update(noted["operation"], body, raw, schema)
    return Update(update.name, raw, lambda _shard: ids, update.build)


def _upsert(fields: Fields, schema: Schema) -> Parsed:
    points = parse_points(fields, schema)
    guard = parse_filter(fields.any("update_filter"))
    mode = fields.take("update_mode", str, "upsert")
    if mode not in _MODES:
        raise BadRequest(f"update_mode must be one of {', '.join(_MODES)}, not {mode!r}")
    ids = list(dict.fromkeys(point.id for point in points))

    def choose(shard: Shard) -> list[PointId]:
        if guard is None and mode == "upsert":
            return ids
        return list(_writable(shard, ids, guard, mode))

    def build(chosen: list[PointId]) -> edge.UpdateOperation:
        wanted = set(chosen)
        return edge.UpdateOperation.upsert_points([p.point for p in points if p.id in wanted])

    return choose, build


def _writable(shard: Shard, ids: list[PointId], guard: edge.Filter | None, mode: str) -> Ids:
    """Missing ids are written whatever the guard says, stored ones where it matches them."""
    stored = shard.existing(ids)
    new = set() if mode == "update_only" else set(ids) - stored
    if mode == "insert_only":
        return new
    return new | (stored if guard is None else shard.passing(stored, guard))


def _update_vectors(fields: Fields, schema: Schema) -> Parsed:
    points = parse_point_vectors(fields, schema)
    guard = parse_filter(fields.any("update_filter"))
    ids = list(dict.fromkeys(identity for identity, _ in points))

    def choose(shard: Shard) -> list[PointId]:
        return ids if guard is None else list(shard.passing(set(ids), guard))

    def build(chosen: list[PointId]) -> edge.UpdateOperation:
        wanted = set(chosen)
        return edge.UpdateOperation.update_vectors([v for i, v in points if i in wanted])

    return choose, build


def _selection(fields: Fields) -> Selection:
    if "points" in fields:
        ids = point_ids(fields.need("points", list))
        # With both, Qdrant takes the ids; the filter is read so that a bad one is still refused.
        parse_filter(fields.any("filter"))
        return lambda _shard: ids
    condition = need_filter(fields.any("filter"))
    return lambda shard: shard.matching(condition)


def _delete(fields: Fields, _schema: Schema) -> Parsed:
    return _selection(fields), lambda ids: edge.UpdateOperation.delete_points([*ids])


def _clear_payload(fields: Fields, _schema: Schema) -> Parsed:
    return _selection(fields), lambda ids: edge.UpdateOperation.clear_payload([*ids])


def _set_payload(fields: Fields, _schema: Schema) -> Parsed:
    payload, key = fields.need("payload", dict), fields.optional("key", str)
    return _selection(fields), lambda ids: edge.UpdateOperation.set_payload([*ids], payload, key)


def _overwrite_payload(fields: Fields, _schema: Schema) -> Parsed:
    payload, key = fields.need("payload", dict), fields.optional("key", str)
    return _selection(fields), lambda ids: edge.UpdateOperation.overwrite_payload(
        [*ids], payload, key
    )


def _delete_payload(fields: Fields, _schema: Schema) -> Parsed:
    keys = fields.need("keys", list)
    return _selection(fields), lambda ids: edge.UpdateOperation.delete_payload([*ids], keys)


def _delete_vectors(fields: Fields, schema: Schema) -> Parsed:
    names = fields.need("vector", list)
    for name in names:
        if name not in schema.dense and name not in schema.sparse:
            raise BadRequest(f"Not existing vector name error: {name}")
    return _selection(fields), lambda ids: edge.UpdateOperation.delete_vectors([*ids], names)


_OPERATIONS: Mapping[str, Callable[[Fields, Schema], Parsed]] = {
    "upsert": _upsert,
    "delete": _delete,
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
}
