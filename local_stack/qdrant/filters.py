"""Filters of the REST API, as the engine's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qdrant_edge as edge

from local_stack.qdrant.errors import BadRequest
from local_stack.qdrant.fields import Fields, one_or_many
from local_stack.qdrant.points import point_id

_BOUNDS = ("gt", "gte", "lt", "lte")


def parse_filter(data: object) -> edge.Filter | None:
    """A filter, or None where there is none. An empty filter matches every point."""
    if data is None:
        return None
    fields = Fields(data, "filter")
    clauses = {
        name: [_condition(item) for item in one_or_many(fields.any(name))] or None
        for name in ("must", "should", "must_not")
    }
    min_should = _min_should(fields.any("min_should"))
    fields.done()
    return edge.Filter(**clauses, min_should=min_should)


def need_filter(data: object) -> edge.Filter:
    """As `parse_filter`, where the request must have one."""
    found = parse_filter(data)
    if found is None:
        raise BadRequest("missing field `filter`")
    return found


def has_ids(ids: list[Any]) -> edge.HasIdCondition:
    """The condition that a point is one of `ids`."""
    return edge.HasIdCondition(set(ids))


def _min_should(data: object) -> edge.MinShould | None:
    if data is None:
        return None
    fields = Fields(data, "min_should")
    conditions = [_condition(item) for item in fields.need("conditions", list)]
    count = fields.count("min_count", 0)
    fields.done()
    return edge.MinShould(conditions, count)


def _condition(data: object) -> Any:
    fields = Fields(data, "a condition of a filter")
    for name, build in _SPECIAL.items():
        if name in fields and "key" not in fields:
            condition = build(fields.any(name))
            fields.done()
            return condition
    if "key" in fields:
        return _field_condition(fields)
    if any(name in fields for name in ("must", "should", "must_not", "min_should")) or data == {}:
        return parse_filter(data)
    fields.done()
    raise BadRequest("a condition of a filter says nothing")


def _payload_key(data: object) -> str:
    fields = Fields(data, "a condition of a filter")
    key = fields.need("key", str)
    fields.done()
    return key


def _nested(data: object) -> edge.NestedCondition:
    fields = Fields(data, "nested")
    condition = edge.NestedCondition(fields.need("key", str), need_filter(fields.any("filter")))
    fields.done()
    return condition


def _has_id(data: object) -> edge.HasIdCondition:
    return has_ids([point_id(item) for item in one_or_many(data)])


_SPECIAL: dict[str, Any] = {
    "is_empty": lambda data: edge.IsEmptyCondition(_payload_key(data)),
    "is_null": lambda data: edge.IsNullCondition(_payload_key(data)),
    "has_id": _has_id,
    "has_vector": edge.HasVectorCondition,
    "nested": _nested,
}


def _field_condition(fields: Fields) -> edge.FieldCondition:
    key = fields.need("key", str)
    parts = {
        "match": _match(fields.any("match")),
        "range": _range(fields.any("range")),
        "geo_bounding_box": _box(fields.any("geo_bounding_box")),
        "geo_radius": _radius(fields.any("geo_radius")),
        "geo_polygon": _polygon(fields.any("geo_polygon")),
        "values_count": _values_count(fields.any("values_count")),
        "is_empty": fields.optional("is_empty", bool),
        "is_null": fields.optional("is_null", bool),
    }
    fields.done()
    given = {name: part for name, part in parts.items() if part is not None}
    if not given:
        raise BadRequest(f"the condition on `{key}` says nothing")
    return edge.FieldCondition(key, **given)


def _match_value(value: Any) -> edge.MatchValue:
    """A truth value goes as NumPy's: the engine's binding takes Python's for the integers 0 and 1,
    which match no truth value."""
    plain: Any = np.bool_(value) if isinstance(value, bool) else value
    return edge.MatchValue(plain)


def _listed(build: Callable[[list[Any]], Any]) -> Callable[[object], Any]:
    def checked(values: object) -> Any:
        if not isinstance(values, list) or any(isinstance(value, bool) for value in values):
            raise BadRequest("match: a list must hold strings or integers")
        return build(values)

    return checked


_MATCHES: dict[str, Any] = {
    "value": _match_value,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "substring": edge.MatchSubstring,
    "any": _listed(edge.MatchAny),
    "except": _listed(edge.MatchExcept),
}


def _match(data: object) -> Any:
    if data is None:
        return None
    fields = Fields(data, "match")
    for name, build in _MATCHES.items():
        if name in fields:
            match = build(fields.any(name))
            fields.done()
            return match
    fields.done()
    raise BadRequest("match says nothing")


def _range(data: object) -> edge.RangeFloat | edge.RangeDateTime | None:
    if data is None:
        return None
    fields = Fields(data, "range")
    bounds = {name: fields.any(name) for name in _BOUNDS if name in fields}
    fields.done()
    if any(isinstance(bound, str) for bound in bounds.values()):
        return edge.RangeDateTime(**bounds)
    if any(isinstance(bound, bool) for bound in bounds.values()):
        raise BadRequest("range: a bound must be a number or an RFC 3339 date")
    return edge.RangeFloat(**{name: float(bound) for name, bound in bounds.items()})


def _values_count(data: object) -> edge.ValuesCount | None:
    if data is None:
        return None
    fields = Fields(data, "values_count")
    bounds = {name: fields.count(name, 0) for name in _BOUNDS if name in fields}
    fields.done()
    return edge.ValuesCount(**bounds)


def geo_point(data: object) -> edge.GeoPoint:
    """A place by longitude and latitude."""
    fields = Fields(data, "a geo point")
    point = edge.GeoPoint(fields.need("lon", float), fields.need("lat", float))
    fields.done()
    return point


def _box(data: object) -> edge.GeoBoundingBox | None:
    if data is None:
        return None
    fields = Fields(data, "geo_bounding_box")
    box = edge.GeoBoundingBox(
        geo_point(fields.any("top_left")), geo_point(fields.any("bottom_right"))
    )
    fields.done()
    return box


def _radius(data: object) -> edge.GeoRadius | None:
    if data is None:
        return None
    fields = Fields(data, "geo_radius")
    radius = edge.GeoRadius(geo_point(fields.any("center")), fields.need("radius", float))
    fields.done()
    return radius


def _polygon(data: object) -> edge.GeoPolygon | None:
    if data is None:
        return None
    fields = Fields(data, "geo_polygon")
    exterior = _ring(fields.any("exterior"))
    polygon = edge.GeoPolygon(exterior, [_ring(r) for r in fields.take("interiors", list, [])])
    fields.done()
    return polygon


def _ring(data: object) -> list[edge.GeoPoint]:
    fields = Fields(data, "a line of a geo_polygon")
    points = [geo_point(item) for item in fields.need("points", list)]
    fields.done()
    return points
