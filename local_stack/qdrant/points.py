"""Points, their ids and vectors: REST's JSON to the engine's objects and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import qdrant_edge as edge

from local_stack.qdrant.errors import BadRequest
from local_stack.qdrant.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local_stack.qdrant.schema import Schema

PointId = int | UUID


def point_id(value: object) -> PointId:
    """An id as the engine gives it back. Raises BadRequest for what is no u64 and no UUID."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    raise BadRequest(
        f"value {value!r} is not a valid point ID, valid values are either "
        "an unsigned integer or a UUID"
    )


def point_ids(values: Iterable[object]) -> list[PointId]:
    """Ids in the order given."""
    return [point_id(value) for value in values]


@dataclass(frozen=True)
class NewPoint:
    """A point to write, with its id apart so that a guard can be looked up before."""

    id: PointId
    point: edge.Point


def parse_points(fields: Fields, schema: Schema) -> list[NewPoint]:
    """The points of an upsert, from `points` (one by one) or `batch` (column by column)."""
    if "batch" in fields:
        return _columns(Fields(fields.any("batch"), "batch"), schema)
    return [_point(item, schema) for item in fields.need("points", list)]


def _point(data: object, schema: Schema) -> NewPoint:
    fields = Fields(data, "a point")
    identity = point_id(fields.any("id"))
    vector = schema.vectors_of(fields.any("vector"))
    payload = fields.optional("payload", dict)
    fields.done()
    return NewPoint(identity, edge.Point(identity, vector, payload))


def _columns(fields: Fields, schema: Schema) -> list[NewPoint]:
    ids = point_ids(fields.need("ids", list))
    vectors: Any = fields.any("vectors")
    payloads = fields.take("payloads", list, [None] * len(ids))
    fields.done()
    rows = _rows(vectors, len(ids))
    if len(rows) != len(ids) or len(payloads) != len(ids):
        raise BadRequest("batch: ids, vectors and payloads must have the same length")
    return [
        NewPoint(identity, edge.Point(identity, schema.vectors_of(row), payload))
        for identity, row, payload in zip(ids, rows, payloads, strict=True)
    ]


def _rows(vectors: Any, count: int) -> list[Any]:
    if isinstance(vectors, dict):
        if any(len(column) != count for column in vectors.values()):
            raise BadRequest("batch: ids, vectors and payloads must have the same length")
        return [{name: column[i] for name, column in vectors.items()} for i in range(count)]
    return list(vectors or [])


def parse_point_vectors(fields: Fields, schema: Schema) -> list[tuple[PointId, edge.PointVectors]]:
    """The vectors of an update of vectors, with the ids of their points."""
    parsed = []
    for item in fields.need("points", list):
        one = Fields(item, "a point")
        identity = point_id(one.any("id"))
        vector = schema.vectors_of(one.any("vector"))
        one.done()
        parsed.append((identity, edge.PointVectors(identity, vector)))
    return parsed


def dense(values: list[Any], size: int | None = None) -> list[float]:
    """A dense vector of finite numbers, of `size` where that is known."""
    if size is not None and len(values) != size:
        raise BadRequest(f"Vector dimension error: expected dim: {size}, got {len(values)}")
    try:
        finite = math.isfinite(sum(values))
    except TypeError:
        raise BadRequest("a vector must be a list of numbers") from None
    if not finite:
        raise BadRequest("a vector must hold finite numbers only")
    return values


def sparse(data: object) -> edge.SparseVector:
    """A sparse vector with unique indices."""
    fields = Fields(data, "a sparse vector")
    indices, values = fields.need("indices", list), fields.need("values", list)
    fields.done()
    if len(indices) != len(values):
        raise BadRequest("a sparse vector must have as many values as indices")
    if len(set(indices)) != len(indices):
        raise BadRequest("a sparse vector must have unique indices")
    return edge.SparseVector(indices, dense(values))


def record(found: edge.Record) -> dict[str, Any]:
    """A stored point as REST shows it."""
    shown: dict[str, Any] = {"id": found.id, "payload": found.payload}
    if found.vector is not None:
        shown["vector"] = vector_json(found.vector)
    if found.order_value is not None:
        shown["order_value"] = found.order_value
    return shown


def scored(found: edge.ScoredPoint) -> dict[str, Any]:
    """A hit as REST shows it."""
    shown: dict[str, Any] = {"id": found.id, "version": found.version, "score": found.score}
    if found.payload is not None:
        shown["payload"] = found.payload
    if found.vector is not None:
        shown["vector"] = vector_json(found.vector)
    if found.order_value is not None:
        shown["order_value"] = found.order_value
    return shown


def vector_json(vector: Any) -> Any:
    """A vector, or vectors by name, as REST shows them."""
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    if isinstance(vector, dict):
        return {name: vector_json(one) for name, one in vector.items()}
    return vector
