"""Transforms of fields. They act on the document as it is and as it was before.

The update description travels only where it names no field that is acted on.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from pydantic import Field, SecretStr

from core.documents import entry_id
from core.events import ChangeEvent
from data_cdc.transforms.chain import Transform
from data_cdc.transforms.options import Collections, FreePath, Path, concerns
from data_cdc.transforms.paths import Fields, amend, keep, named_in, overlap, within

Paths = Annotated[list[Path], Field(min_length=1)]
FreePaths = Annotated[list[FreePath], Field(min_length=1)]

_PSEUDONYM = "sha256"


def include_fields(fields: Paths, collections: Collections | None = None) -> Transform:
    """Keep these fields, and `_id`."""
    kept = [*fields, "_id"]
    return _on_states(
        lambda state: keep(state, kept),
        lambda path: any(within(path, field) for field in kept),
        collections,
    )


def exclude_fields(fields: FreePaths, collections: Collections | None = None) -> Transform:
    """Leave these fields out."""
    return _on_states(
        lambda state: _amended(state, fields, _without), _apart_from(fields), collections
    )


def mask(
    fields: FreePaths,
    with_: str = "***",
    salt: SecretStr | None = None,
    collections: Collections | None = None,
) -> Transform:
    """Put the text `with_` in place of values; of each in a list; null stays null.

    `sha256` puts a pseudonym there: HMAC-SHA256, in hex, of the value as people write it. Equal
    values have equal ones, and without `salt` nobody can try out what a pseudonym stands for.
    """
    if (with_ == _PSEUDONYM) != bool(salt and salt.get_secret_value()):
        raise ValueError('"with": "sha256" and a salt go together')
    conceal = _pseudonym(salt) if salt else lambda _: with_

    def act(state: Fields, name: str) -> Fields:
        return {**state, name: _concealed(state[name], conceal)}

    return _on_states(lambda state: _amended(state, fields, act), _apart_from(fields), collections)


def rename(
    fields: Annotated[dict[FreePath, str], Field(min_length=1)],
    collections: Collections | None = None,
) -> Transform:
    """Give fields another name where they are; one that has that name already gives way."""
    _refuse_unclear(fields)

    def apply(state: Fields) -> Fields:
        for path, new in fields.items():
            state = amend(state, path, partial(_renamed, new))
        return state

    touched = [*fields, *(_beside(path, new) for path, new in fields.items())]
    return _on_states(apply, _apart_from(touched), collections)


def _on_states(
    change: Callable[[Fields], Fields],
    untouched: Callable[[str], bool],
    collections: list[str] | None,
) -> Transform:
    def apply(event: ChangeEvent) -> ChangeEvent:
        if not concerns(event, collections):
            return event
        return replace(
            event,
            document=None if event.document is None else change(event.document),
            before=None if event.before is None else change(event.before),
            update_description=_description(event.update_description, untouched),
        )

    return apply


def _description(
    description: Mapping[str, Any] | None, untouched: Callable[[str], bool]
) -> Mapping[str, Any] | None:
    named = None if description is None else named_in(description)
    return description if named is not None and all(map(untouched, named)) else None


def _apart_from(fields: list[str]) -> Callable[[str], bool]:
    return lambda path: not any(overlap(path, field) for field in fields)


def _amended(state: Fields, paths: list[str], act: Callable[[Fields, str], Fields]) -> Fields:
    for path in paths:
        state = amend(state, path, act)
    return state


def _without(state: Fields, name: str) -> Fields:
    return {other: value for other, value in state.items() if other != name}


def _renamed(new: str, state: Fields, name: str) -> Fields:
    return {new if old == name else old: value for old, value in state.items() if old != new}


def _beside(path: str, name: str) -> str:
    """The path of a field `name` where `path` is."""
    return ".".join([*path.split(".")[:-1], name])


def _refuse_unclear(fields: Mapping[str, str]) -> None:
    targets = [_beside(path, new) for path, new in fields.items()]
    for path, new, target in zip(fields, fields.values(), targets, strict=True):
        if not new or "." in new:
            raise ValueError(f"{path} is renamed where it is: {new!r} must be a name without dots")
        if target == "_id":
            raise ValueError("_id stays as it is: the key of the event holds it")
        if target in fields or targets.count(target) > 1:
            raise ValueError(f"{target} is renamed twice; use two transforms")


def _concealed(value: Any, conceal: Callable[[Any], str]) -> Any:
    match value:
        case None:
            return None
        case list():
            return [_concealed(item, conceal) for item in value]
        case _:
            return conceal(value)


def _pseudonym(salt: SecretStr) -> Callable[[Any], str]:
    key = salt.get_secret_value().encode()
    return lambda value: hmac.new(key, entry_id(value).encode(), _PSEUDONYM).hexdigest()
