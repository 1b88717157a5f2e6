"""Events, values and functions of one's own, for tests of transforms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import strategies as st

from core.config import CAPTURABLE
from core.errors import DocumentRejected
from core.events import ChangeEvent, Op
from core.events.encode import extended_json
from core.versions import Version
from data_cdc.transforms import Chain, Transform, TransformFailed, load_chain

OID = ObjectId("6b000512b5d1714ad0f5bf3b")
NAMES = st.sampled_from(["a", "b", "c", "a.b", "b.c", "0", "_id", "é"])
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text("xyz", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
STATES = st.dictionaries(NAMES, VALUES, max_size=4).map(lambda fields: {**fields, "_id": "k"})
PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)
PUBLIC = {"type": "filter", "expression": "document.state == 'public'"}
OPS = st.sampled_from([Op.CREATE, Op.UPDATE, Op.READ])

SECRET = "s3cret"
FIELD_SPECS = st.one_of(
    st.builds(lambda p: {"type": "exclude_fields", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "include_fields", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "mask", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "rename", "fields": {p: "new"}}, PATHS),
    st.just({"type": "flatten"}),
    st.just({"type": "filter", "expression": "document.a"}),
)


def change(document: Mapping[str, Any] | None = None, **fields: Any) -> ChangeEvent:
    """A change of the document k, or with `op` a delete."""
    given_op = fields.get("op", Op.UPDATE)
    facts: dict[str, Any] = {
        "op": given_op,
        "db": "twin",
        "collection": "articles",
        "key": '"k"',
        "document": None if given_op is Op.DELETE else {"_id": "k", **(document or {})},
        "version": Version.of(1795163410, 4, "82AB"),
        "wall_ms": 1795163410123,
        "message_id": "twin:82AB",
    }
    return ChangeEvent(**{**facts, **fields})


def described(**fields: Any) -> Mapping[str, Any]:
    """An update description as capture writes it."""
    updated = extended_json(fields.get("updated", {}))
    arrays = [{"field": name, "size": 1} for name in fields.get("truncated", [])]
    removed = fields.get("removed", [])
    return {"updatedFields": updated, "removedFields": removed, "truncatedArrays": arrays}


def chain(*specs: Mapping[str, Any], collections: Iterable[str] = CAPTURABLE) -> Chain:
    return load_chain(specs, tuple(collections))


def only(event: ChangeEvent, *specs: Mapping[str, Any]) -> ChangeEvent:
    """The one event that `specs` make of `event`."""
    (made,) = chain(*specs).apply(event)
    return made


def document(event: ChangeEvent, *specs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of it, without `_id`."""
    made = only(event, *specs).document
    assert made is not None
    return {name: value for name, value in made.items() if name != "_id"}


def failure(event: ChangeEvent, *specs: Mapping[str, Any]) -> TransformFailed:
    with pytest.raises(TransformFailed) as caught:
        chain(*specs).apply(event)
    return caught.value


def own(function: Any, **options: Any) -> dict[str, Any]:
    """A specification of a function of this module's."""
    return {"type": f"{__name__}.{function.__name__}", **options}


# -- functions that a user might write ----------------------------------------------


def shout(event: ChangeEvent) -> ChangeEvent:
    if event.document is None:
        return event
    return replace(
        event, document={**event.document, "title": str(event.document["title"]).upper()}
    )


def appending(text: str) -> Transform:
    def apply(event: ChangeEvent) -> ChangeEvent:
        made = {**(event.document or {}), "title": (event.document or {}).get("title", "") + text}
        return replace(event, document=made)

    return apply


def nothing(event: ChangeEvent) -> None:
    return None


def two_parts(event: ChangeEvent) -> Iterator[ChangeEvent]:
    """A document and a copy of it under another key."""
    yield event
    yield replace(event, key='"k-copy"', message_id="mine", version=None, wall_ms=0)


def elsewhere(event: ChangeEvent) -> ChangeEvent:
    return replace(event, db="other")


def to_collection(name: str) -> Transform:
    return lambda event: replace(event, collection=name)


def returning(kind: str) -> Any:
    results = {
        "a document": {"_id": 1},
        "text": "event",
        "a number": 1,
        "a list with a document": [{"_id": 1}],
        "a delete that holds a document": replace(change(), op=Op.DELETE),
        "an update of nothing": replace(change(), document=None),
        "a purge": replace(change(), op=Op.PURGE),
    }
    return lambda _: results[kind]


def quoting(event: ChangeEvent) -> ChangeEvent:
    raise ValueError(f"cannot read {event.document}")


def slicing(event: ChangeEvent) -> Iterator[ChangeEvent]:
    yield event
    raise ValueError((event.document or {})["title"][:6])


def explaining(event: ChangeEvent) -> ChangeEvent:
    raise ValueError("no author")


def rejecting(event: ChangeEvent) -> ChangeEvent:
    raise DocumentRejected("k", "has no author", reason="author", stage="mine")


def missing_field(event: ChangeEvent) -> ChangeEvent:
    return replace(event, document={"n": (event.document or {})["author"]})
