"""The options of the built-in transforms, as types that refuse what cannot be meant."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from core.events import ChangeEvent


def _path(path: str) -> str:
    if not all(path.split(".")):
        raise ValueError(f"{path!r} is no path such as author.email")
    return path


def _beside_id(path: str) -> str:
    if path.partition(".")[0] == "_id":
        raise ValueError("_id stays as it is: the key of the event holds it")
    return path


Collections = Annotated[list[str], Field(min_length=1)]
Path = Annotated[str, AfterValidator(_path)]
FreePath = Annotated[Path, AfterValidator(_beside_id)]


def concerns(event: ChangeEvent, collections: list[str] | None) -> bool:
    """Whether a transform that is for `collections`, or for all, is for `event`."""
    return collections is None or event.collection in collections
