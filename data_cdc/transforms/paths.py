"""Dotted paths into documents: `author.email` is the field `email` of the field `author`.

Lists are walked: the path goes on in each of their objects. MongoDB allows dots in the names
of fields, so a path means every field that it may mean: `files.README.md` the field `md` of
`README` in `files`, and the field `README.md` in `files`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]


def amend(value: Any, path: str, act: Callable[[Fields, str], Fields]) -> Any:
    """A copy of `value` in which `act` was done to each object and field that `path` leads to."""
    match value:
        case Mapping():
            fields: Fields = dict(value)
            for name, rest in _readings(path):
                if name in fields:
                    fields = (
                        {**fields, name: amend(fields[name], rest, act)}
                        if rest
                        else act(fields, name)
                    )
            return fields
        case list():
            return [amend(item, path, act) for item in value]
        case _:
            return value


def keep(fields: Fields, paths: Collection[str]) -> dict[str, Any]:
    """A copy of `fields` with what `paths` lead to, and nothing else."""
    kept = {}
    for name, value in fields.items():
        rests = [rest for path in paths if (rest := _behind(path, name)) is not None]
        if "" in rests:
            kept[name] = value
        elif rests and isinstance(value, Mapping | list):
            kept[name] = _keep_inside(value, rests)
    return kept


def named_in(description: Mapping[str, Any]) -> list[str] | None:
    """The paths that an update description names; None where that cannot be told."""
    try:
        updated = json.loads(description.get("updatedFields") or "{}")
        removed = description.get("removedFields") or []
        truncated = [array["field"] for array in description.get("truncatedArrays") or []]
        return [str(path) for path in (*updated, *removed, *truncated)]
    except (TypeError, ValueError, KeyError, RecursionError):
        return None


def overlap(path: str, other: str) -> bool:
    """Whether one path leads to, into or around the other, whatever places in lists they name."""
    names, others = _names(path), _names(other)
    shared = min(len(names), len(others))
    return names[:shared] == others[:shared]


def within(path: str, outer: str) -> bool:
    """Whether all that `path` leads to is in what `outer` leads to."""
    return _behind(outer, path) == "" or _behind(path, outer) is not None


def _keep_inside(value: Any, paths: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return keep(value, paths)
    return [_keep_inside(item, paths) for item in value if isinstance(item, Mapping | list)]


def _readings(path: str) -> Iterator[tuple[str, str]]:
    """Each first name that `path` may begin with, and what is left of it."""
    names = path.split(".")
    for length in range(1, len(names) + 1):
        yield ".".join(names[:length]), ".".join(names[length:])


def _behind(path: str, name: str) -> str | None:
    """What is left of `path` behind `name`; None where it does not begin with it."""
    if path == name:
        return ""
    return path[len(name) + 1 :] if path.startswith(f"{name}.") else None


def _names(path: str) -> list[str]:
    return [name for name in path.split(".") if not name.isdigit()]
