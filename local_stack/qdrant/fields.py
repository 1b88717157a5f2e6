"""Reads a JSON object field by field, and refuses what nobody read.

A field that the embedded server does not know could change the meaning of the
request, so it must not be dropped in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from local_stack.qdrant.errors import BadRequest, NotServed

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class Fields:
    """The fields of one JSON object. A field that is null counts as absent."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise BadRequest(f"{where} must be a JSON object")
        self.where = where
        self._left: dict[str, Any] = {k: v for k, v in data.items() if v is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, kind: type[T], default: T) -> T:
        """The value of `name`, or `default` where it is absent. Raises BadRequest on its type."""
        value = self.optional(name, kind)
        return default if value is None else value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The value of `name`, or None where it is absent. Raises BadRequest on its type."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
            raise BadRequest(f"{self.where}: `{name}` must be {_NAMES.get(kind, kind.__name__)}")
        return value

    def need(self, name: str, kind: type[T]) -> T:
        """The value of `name`. Raises BadRequest where it is absent or of another type."""
        value = self.optional(name, kind)
        if value is None:
            raise BadRequest(f"{self.where}: missing field `{name}`")
        return value

    def any(self, name: str) -> Any:
        """The value of `name` whatever its type, or None."""
        return self._left.pop(name, None)

    def count(self, name: str, default: int, least: int = 0) -> int:
        """A whole number, at least `least`."""
        value = self.take(name, int, default)
        if value < least:
            raise BadRequest(f"{self.where}: `{name}` must be {least} or larger, not {value}")
        return value

    def harmless(self, names: Iterable[str]) -> dict[str, Any]:
        """Take fields that tune or place data and cannot change an answer."""
        return {name: self._left.pop(name) for name in names if name in self._left}

    def done(self) -> None:
        """Call last. Raises NotServed, which names a field that was not read."""
        for name in self._left:
            raise NotServed(f"field `{name}` of {self.where}")


_NAMES: dict[Any, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def one_or_many(value: object) -> list[Any]:
    """A list as it is, anything else as a list of one, null as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
