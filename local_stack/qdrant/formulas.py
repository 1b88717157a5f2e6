"""Formulas that score points again: REST's JSON to the engine's expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from local_stack.qdrant.errors import NotServed
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.filters import geo_point, need_filter

if TYPE_CHECKING:
    from collections.abc import Callable

E = edge.Expression


def parse_formula(fields: Fields) -> edge.Formula:
    """The fields `formula` and `defaults` of a query."""
    return edge.Formula(_expression(fields.any("formula")), fields.take("defaults", dict, {}))


def _expression(data: Any) -> edge.Expression:
    if isinstance(data, str):
        return E.Variable(data)
    if isinstance(data, int | float) and not isinstance(data, bool):
        return E.Constant(float(data))
    if isinstance(data, dict):
        for name, build in _EXPRESSIONS.items():
            if name in data:
                fields = Fields(data, "formula")
                expression: edge.Expression = build(fields.any(name))
                fields.done()
                return expression
    if _is_condition(data):
        return E.Condition(need_filter({"must": [data]}))
    raise NotServed(f"the expression {data!r} in a formula")


def _is_condition(data: Any) -> bool:
    names = {"key", "is_empty", "is_null", "has_id", "has_vector", "nested"}
    return isinstance(data, dict) and bool((names | {"must", "should", "must_not"}) & set(data))


def _many(build: Callable[[list[edge.Expression]], edge.Expression]) -> Callable[[Any], Any]:
    return lambda data: build([_expression(item) for item in data])


def _one(build: Callable[[edge.Expression], edge.Expression]) -> Callable[[Any], Any]:
    return lambda data: build(_expression(data))


def _divide(data: object) -> edge.Expression:
    fields = Fields(data, "div")
    left, right = _expression(fields.any("left")), _expression(fields.any("right"))
    default = fields.optional("by_zero_default", float)
    fields.done()
    return E.Div(left, right, default)


def _power(data: object) -> edge.Expression:
    fields = Fields(data, "pow")
    base, exponent = _expression(fields.any("base")), _expression(fields.any("exponent"))
    fields.done()
    return E.Pow(base, exponent)


def _distance(data: object) -> edge.Expression:
    fields = Fields(data, "geo_distance")
    expression = E.GeoDistance(geo_point(fields.any("origin")), fields.need("to", str))
    fields.done()
    return expression


def _decay(kind: edge.DecayKind) -> Callable[[Any], Any]:
    def build(data: object) -> edge.Expression:
        fields = Fields(data, "decay")
        x, target = _expression(fields.any("x")), fields.any("target")
        scale, midpoint = fields.optional("scale", float), fields.optional("midpoint", float)
        fields.done()
        aim = None if target is None else _expression(target)
        return E.Decay(kind, x, aim, midpoint, scale)

    return build


_EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "mult": _many(E.Mult),
    "sum": _many(E.Sum),
    "max": _many(E.Max),
    "min": _many(E.Min),
    "neg": _one(E.Neg),
    "abs": _one(E.Abs),
    "sqrt": _one(E.Sqrt),
    "exp": _one(E.Exp),
    "log10": _one(E.Log10),
    "ln": _one(E.Ln),
    "acosh": _one(E.Acosh),
    "div": _divide,
    "pow": _power,
    "datetime": E.Datetime,
    "datetime_key": E.DatetimeKey,
    "geo_distance": _distance,
    "lin_decay": _decay(edge.DecayKind.Lin),
    "gauss_decay": _decay(edge.DecayKind.Gauss),
    "exp_decay": _decay(edge.DecayKind.Exp),
}
