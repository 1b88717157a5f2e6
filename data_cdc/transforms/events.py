"""Transforms of whole events: which travel, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from core.errors import MissingDependency, PoisonError
from core.events import ChangeEvent
from data_cdc.transforms.chain import Transform, as_delete
from data_cdc.transforms.options import Collections, concerns
from data_cdc.transforms.plain import plain_event

Condition = Callable[[Mapping[str, Any]], Any]

_SEEN = ("op", "db", "collection", "key", "document", "before")


def include(collections: Collections) -> Transform:
    """Tell nothing of other collections."""
    return lambda event: event if event.collection in collections else None


def exclude(collections: Collections) -> Transform:
    """Tell nothing of these collections."""
    return lambda event: None if event.collection in collections else event


def flatten(collections: Collections | None = None) -> Transform:
    """Have the event travel as the course's flat message, whatever CDC_MESSAGE_FORMAT says."""
    return lambda event: replace(event, flat=True) if concerns(event, collections) else event


def filter_by(expression: str, collections: Collections | None = None) -> Transform:
    """Tell documents for which the JMESPath `expression` holds, and the others as deleted.

    Deleted, because a document may have passed before. A state that does not pass travels
    neither as `before`. Deletes pass.
    """
    condition = _search(expression)

    def apply(event: ChangeEvent) -> ChangeEvent:
        if not concerns(event, collections):
            return event
        if event.document is not None and not _holds(condition, event):
            return as_delete(event)
        return event if _tells(condition, event) else replace(event, before=None)

    return apply


def _search(expression: str) -> Condition:
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError, JMESPathTypeError
    except ImportError:
        remedy = "Filters need it: pip install 'llm-twin[cdc]'."
        raise MissingDependency("jmespath", remedy) from None
    try:
        compiled = jmespath.compile(expression)
        with suppress(JMESPathTypeError):  # nulls, which not every function takes
            compiled.search(dict.fromkeys(_SEEN))
    except JMESPathError as error:
        raise ValueError(f"expression: {' '.join(str(error).split())}") from None
    _refuse_senseless(compiled.parsed)

    def search(seen: Mapping[str, Any]) -> Any:
        try:
            return compiled.search(seen)
        except JMESPathTypeError as error:
            problem = f"{error.function_name}() was given {error.actual_type}"
            raise PoisonError(problem, reason="transform", stage="filter") from None

    return search


def _refuse_senseless(parsed: Mapping[str, Any]) -> None:
    from jmespath.functions import Functions

    unknown = _values(parsed, "function_expression") - set(Functions.FUNCTION_TABLE)
    if unknown:
        raise ValueError(f"expression: JMESPath has no function {min(unknown)}()")
    # Any other name is null in every event, and a filter on null tells all documents as deleted.
    if not _values(parsed, "field") & set(_SEEN):
        raise ValueError(f"expression: asks for nothing that an event has: {', '.join(_SEEN)}")


def _values(node: Mapping[str, Any], kind: str) -> set[str]:
    return {found["value"] for found in _nodes(node) if found["type"] == kind}


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        for child in node["children"]:
            yield from _nodes(child)


def _tells(condition: Condition, event: ChangeEvent) -> bool:
    """Whether `before` may be told: an error about a former state parks no event."""
    if event.before is None:
        return True
    try:
        return _holds(condition, replace(event, document=event.before, before=None))
    except PoisonError:
        return False


def _holds(condition: Condition, event: ChangeEvent) -> bool:
    """As JMESPath has it: null, false and what is empty do not hold; zero does."""
    value = condition(plain_event(event))
    if isinstance(value, Collection):
        return len(value) > 0
    return value is not None and value is not False
