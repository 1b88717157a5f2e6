"""CDC_TRANSFORMS as a chain: the built-in transforms by name, one's own by dotted path."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from pydantic import ValidationError, validate_call

from core.errors import ConfigurationError
from data_cdc.transforms import events, fields
from data_cdc.transforms.chain import Chain, Step, Transform

_VARIABLE = "CDC_TRANSFORMS"
_REMEDY = 'See "Transforms" in INSTALL_AND_USAGE.md.'

_OF_EVENTS: Final[Mapping[str, Callable[..., Transform]]] = {
    "include": events.include,
    "exclude": events.exclude,
    "filter": events.filter_by,
    "flatten": events.flatten,
}
_OF_FIELDS: Final[Mapping[str, Callable[..., Transform]]] = {
    "include_fields": fields.include_fields,
    "exclude_fields": fields.exclude_fields,
    "mask": fields.mask,
    "rename": fields.rename,
}


class _Unfit(ValueError):
    """A specification that no transform can be made from."""


def load_chain(specs: Collection[Mapping[str, Any]], collections: Collection[str]) -> Chain:
    """The chain that `specs` describe, each `{"type": name, ...options}`.

    `collections` are those captured. Raises ConfigurationError, which names the variable and
    the place of the bad one in the list.
    """
    steps = []
    for number, spec in enumerate(specs, start=1):
        try:
            steps.append(_step(spec, collections))
        except ValueError as error:
            problem = f"number {number} ({spec.get('type')}): {error}"
            raise ConfigurationError(_VARIABLE, problem, _REMEDY) from error
    return Chain(tuple(steps), tuple(collections))


def fingerprint(specs: Collection[Mapping[str, Any]]) -> str:
    """What tells one configuration from another; empty where nothing is transformed."""
    if not specs:
        return ""
    text = json.dumps([dict(spec) for spec in specs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _step(spec: Mapping[str, Any], collections: Collection[str]) -> Step:
    name, options = spec.get("type"), {n: value for n, value in spec.items() if n != "type"}
    if not isinstance(name, str) or not name:
        raise _Unfit(f"has no type; known are {_known()}")
    if name in _OF_EVENTS:
        return Step(name, _built_in(_OF_EVENTS[name], options, collections))
    if name in _OF_FIELDS:
        return Step(name, _built_in(_OF_FIELDS[name], options, collections), rewrites=True)
    return Step(name, _own(name, options), rewrites=True, moves=True)


def _built_in(
    factory: Callable[..., Transform], options: Mapping[str, Any], collections: Collection[str]
) -> Transform:
    # `with` is a word of Python's.
    parameters = {name.rstrip("_"): name for name in inspect.signature(factory).parameters}
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise _Unfit(f"has no option {unknown[0]!r}; known are {', '.join(parameters)}")
    given = {parameters[name]: value for name, value in options.items()}
    try:
        transform = validate_call(factory)(**given)
    except ValidationError as error:
        raise _Unfit(_first(error)) from None
    for name in set(options.get("collections") or ()) - set(collections):
        raise _Unfit(f"{name!r} is not captured; captured are {', '.join(collections)}")
    return transform


def _first(error: ValidationError) -> str:
    """The first problem, without the value that has it: a salt is a secret."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    option, message = str(first["loc"][0]).rstrip("_"), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing_argument":
        return f"needs the option {option!r}"
    return f"{option}: {message[:1].lower()}{message[1:]}"


def _own(path: str, options: Mapping[str, Any]) -> Transform:
    """The function at `path`; given options, what it makes of them."""
    function = _found(path)
    if not options:
        return function
    try:
        made = function(**options)
    except Exception as error:
        raise _Unfit(f"raised {type(error).__name__} for these options: {error}") from error
    if not callable(made):
        raise _Unfit(f"gave a {type(made).__name__} for these options, where a transform is needed")
    return made  # type: ignore[no-any-return]


def _found(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    if not module:
        raise _Unfit(f"unknown type; known are {_known()}")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise _Unfit(
            f"{module} cannot be imported: {type(error).__name__}: {error}; "
            "PYTHONPATH must hold its folder"
        ) from error
    if not callable(found):
        raise _Unfit(f"{module} has no function {name}")
    return found  # type: ignore[no-any-return]


def _known() -> str:
    return f"{', '.join([*_OF_EVENTS, *_OF_FIELDS])}, and your own as package.module.function"
