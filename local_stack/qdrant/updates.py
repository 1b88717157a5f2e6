"""Writes: each operation of the REST API as a step that a shard does under its lock.

Filters and guards are resolved to ids before anything is written, as Qdrant does from
1.19 on: the log then holds ids only, and a replay after a crash cannot match other
points than the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from local_stack.qdrant.errors import BadRequest, NotFound, NotServed
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.filters import need_filter, parse_filter
from local_stack.qdrant.points import parse_point_vectors, parse_points, point_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_stack.qdrant.points import PointId
    from local_stack.qdrant.schema import Schema
    from local_stack.qdrant.shard import Shard, Step

    Selection = Callable[[Shard], list[PointId]]

_MODES = ("upsert", "insert_only", "update_only")


def parse_update(name: str, body: object, schema: Schema) -> Step:
    """The operation `name` with its `body`. Raises BadRequest before anything is written."""
    if name not in _OPERATIONS:
        raise NotServed(f"the operation `{name}` in a batch")
    fields = Fields(body, name)
    step = _OPERATIONS[name](fields, schema)
    fields.done()
    return step


def parse_batch(body: object, schema: Schema) -> list[Step]:
    """The operations of a batch, in order."""
    fields = Fields(body, "the batch")
    operations = fields.need("operations", list)
    fields.done()
    steps = []
    for operation in operations:
        if not isinstance(operation, dict) or len(operation) != 1:
            raise BadRequest("each operation of a batch must be an object with one field")
        ((name, inner),) = operation.items()
        steps.append(parse_update(name, inner, schema))
    return steps


def _upsert(fields: Fields, schema: Schema) -> Step:
    points = parse_points(fields, schema)
    guard = parse_filter(fields.any("update_filter"))
    mode = fields.take("update_mode", str, "upsert")
    if mode not in _MODES:
        raise BadRequest(f"update_mode must be one of {', '.join(_MODES)}, not {mode!r}")

    def step(shard: Shard) -> list[edge.UpdateOperation]:
        chosen = points
        if guard is not None or mode != "upsert":
            writable = _writable(shard, [point.id for point in points], guard, mode)
            chosen = [point for point in points if point.id in writable]
        return [edge.UpdateOperation.upsert_points([p.point for p in chosen])] if chosen else []

    return step


def _writable(
    shard: Shard, ids: list[PointId], guard: edge.Filter | None, mode: str
) -> set[PointId]:
    """Missing ids are written whatever the guard says, stored ones where it matches them."""
    stored = shard.existing(ids)
    new = set() if mode == "update_only" else set(ids) - stored
    if mode == "insert_only":
        return new
    return new | (stored if guard is None else shard.passing(stored, guard))


def _update_vectors(fields: Fields, schema: Schema) -> Step:
    points = dict(parse_point_vectors(fields, schema))
    guard = parse_filter(fields.any("update_filter"))

    def selection(shard: Shard) -> list[PointId]:
        return list(points if guard is None else shard.passing(set(points), guard))

    return _point_by_point(
        selection, lambda ids: edge.UpdateOperation.update_vectors([points[i] for i in ids])
    )


def _selection(fields: Fields) -> Selection:
    if "points" in fields:
        ids = point_ids(fields.need("points", list))
        # With both, Qdrant takes the ids; the filter is read so that a bad one is still refused.
        parse_filter(fields.any("filter"))
        return lambda _shard: ids
    condition = need_filter(fields.any("filter"))
    return lambda shard: shard.matching(condition)


def _delete(fields: Fields, _schema: Schema) -> Step:
    selection = _selection(fields)

    def step(shard: Shard) -> list[edge.UpdateOperation]:
        ids = selection(shard)
        return [edge.UpdateOperation.delete_points([*ids])] if ids else []

    return step


def _point_by_point(
    selection: Selection, build: Callable[[list[Any]], edge.UpdateOperation]
) -> Step:
    """One operation for each point.

    The engine drops an operation on stored points as a whole where one of them is
    missing. That happens when its log is replayed after a crash in a flush: the log has
    this operation, the files have the later deletion of one of its points already.
    """

    def step(shard: Shard) -> Iterator[edge.UpdateOperation]:
        ids = selection(shard)
        stored = shard.existing(ids)
        for identity in ids:
            if identity in stored:
                yield build([identity])
        for identity in ids:
            if identity not in stored:
                raise NotFound(f"No point with id {identity} found")

    return step


def _clear_payload(fields: Fields, _schema: Schema) -> Step:
    return _point_by_point(_selection(fields), edge.UpdateOperation.clear_payload)


def _set_payload(fields: Fields, _schema: Schema) -> Step:
    payload, key = fields.need("payload", dict), fields.optional("key", str)
    return _point_by_point(
        _selection(fields), lambda ids: edge.UpdateOperation.set_payload(ids, payload, key)
    )


def _overwrite_payload(fields: Fields, _schema: Schema) -> Step:
    payload, key = fields.need("payload", dict), fields.optional("key", str)
    return _point_by_point(
        _selection(fields), lambda ids: edge.UpdateOperation.overwrite_payload(ids, payload, key)
    )


def _delete_payload(fields: Fields, _schema: Schema) -> Step:
    keys = fields.need("keys", list)
    return _point_by_point(
        _selection(fields), lambda ids: edge.UpdateOperation.delete_payload(ids, keys)
    )


def _delete_vectors(fields: Fields, schema: Schema) -> Step:
    names = fields.need("vector", list)
    for name in names:
        if name not in schema.dense and name not in schema.sparse:
            raise BadRequest(f"Not existing vector name error: {name}")
    return _point_by_point(
        _selection(fields), lambda ids: edge.UpdateOperation.delete_vectors(ids, names)
    )


_OPERATIONS: dict[str, Callable[[Fields, Schema], Step]] = {
    "upsert": _upsert,
    "delete": _delete,
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
}
