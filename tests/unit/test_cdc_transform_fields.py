"""Transforms of fields: what they make of documents, and what they keep from leaving."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bson import Int64
from hypothesis import assume, given
from hypothesis import strategies as st

from core.events import ChangeEvent, Op, encode
from data_cdc.transforms.paths import overlap
from tests.transform_cases import (
    FIELD_SPECS,
    OID,
    OPS,
    PATHS,
    SCALARS,
    SECRET,
    STATES,
    chain,
    change,
    described,
    document,
    only,
)

PEOPLE = {
    "title": "t",
    "author": {"name": "n", "email": "e"},
    "readers": [{"email": "r1", "n": 1}, "text", [{"email": "r2"}], {"email": ["r3", None]}],
}


def test_paths_go_through_objects_and_lists() -> None:
    """Each element of a list is walked, lists in lists too; what the path does not meet stays."""
    fields = ["author.email", "readers.email", "nothing.here", "title.deeper"]
    assert document(change(PEOPLE), {"type": "mask", "fields": fields}) == {
        "title": "t",
        "author": {"name": "n", "email": "***"},
        "readers": [
            {"email": "***", "n": 1},
            "text",
            [{"email": "***"}],
            {"email": ["***", None]},
        ],
    }
    assert document(change(PEOPLE), {"type": "exclude_fields", "fields": fields}) == {
        "title": "t",
        "author": {"name": "n"},
        "readers": [{"n": 1}, "text", [{}], {}],
    }
    assert document(change(PEOPLE), {"type": "include_fields", "fields": ["readers.email"]}) == {
        "readers": [{"email": "r1"}, [{"email": "r2"}], {"email": ["r3", None]}]
    }


def test_a_path_means_names_with_dots_too() -> None:
    """MongoDB allows dots in names, and the repositories' files have them."""
    files = {"content": {"docs/a.md": "x", "b.md": "y"}, "content.b.md": "z"}
    spec = {"fields": ["content.b.md"]}
    assert document(change(files), {"type": "exclude_fields", **spec}) == {
        "content": {"docs/a.md": "x"}
    }
    assert document(change(files), {"type": "include_fields", **spec}) == {
        "content": {"b.md": "y"},
        "content.b.md": "z",
    }


def test_include_fields_keeps_the_id() -> None:
    """A document without its `_id` is none."""
    made = only(change(PEOPLE), {"type": "include_fields", "fields": ["title"]})
    assert made.document == {"_id": "k", "title": "t"}


def test_a_mask_hides_whole_objects_and_keeps_null() -> None:
    """What is masked keeps no shape but that of lists; where nothing was, nothing is."""
    fields = {"author": {"name": "n"}, "tags": ["a", 1, OID], "none": None}
    spec = {"type": "mask", "fields": ["author", "tags", "none", "missing"], "with": "x"}
    assert document(change(fields), spec) == {"author": "x", "tags": ["x"] * 3, "none": None}


def test_pseudonyms_are_stable_and_depend_on_the_salt() -> None:
    """The same person is recognised wherever they occur, and cannot be guessed without the salt."""
    fields = {"author_id": OID, "owner_id": str(OID), "small": 5, "large": Int64(5), "other": 6}
    spec = {"type": "mask", "fields": list(fields), "with": "sha256", "salt": "one"}
    first = document(change(fields), spec)
    second = document(change(fields), {**spec, "salt": "two"})
    assert first["author_id"] == first["owner_id"]
    assert first["small"] == first["large"] != first["other"]
    assert all(len(value) == 64 for value in first.values())
    assert not set(first.values()) & set(second.values())


def test_rename_keeps_the_place_and_replaces_what_had_the_name() -> None:
    """The order of fields is the order of reading."""
    fields = {"first": 1, "body": {"txt": "x", "lang": "en"}, "text": "old"}
    spec = {"type": "rename", "fields": {"body.txt": "Content", "body": "text"}}
    made = document(change(fields), spec)
    assert made == {"first": 1, "text": {"Content": "x", "lang": "en"}}
    assert list(made) == ["first", "text"]


@given(FIELD_SPECS, STATES, STATES, OPS)
def test_doing_it_again_changes_nothing(
    spec: dict[str, Any], state: dict[str, Any], before: dict[str, Any], op: Op
) -> None:
    """Each built-in transform is idempotent, but for pseudonyms of pseudonyms."""
    once = only(change(op=op, document=state, before=before), spec)
    assert only(once, spec) == once


@given(FIELD_SPECS, STATES, STATES)
def test_events_are_not_changed_in_place(
    spec: dict[str, Any], state: dict[str, Any], before: dict[str, Any]
) -> None:
    """Others may hold the same document."""
    event = change(document=state, before=before)
    frozen = pickle.dumps((state, before))
    chain(spec).apply(event)
    assert pickle.dumps((state, before)) == frozen


@given(FIELD_SPECS, STATES, OPS)
def test_identity_and_order_stay(spec: dict[str, Any], state: dict[str, Any], op: Op) -> None:
    """Key, version, time and message id are never a transform's business."""
    event = change(op=op, document=state)
    made = only(event, spec)
    same = ("db", "collection", "key", "version", "wall_ms", "message_id")
    assert [getattr(made, name) for name in same] == [getattr(event, name) for name in same]
    assert made.document is None or made.document["_id"] == "k"


# -- leaks ------------------------------------------------------------------------------


def planted(value: Any, path: list[str]) -> Any:
    """`value` with the secret put at `path`, through lists that are on the way."""
    if not path:
        return SECRET
    if isinstance(value, list):
        return [planted(item, path) for item in value] or [planted({}, path)]
    fields = value if isinstance(value, dict) else {}
    return {**fields, path[0]: planted(fields.get(path[0]), path[1:])}


def updates(state: Any, prefix: str = "") -> Iterator[str]:
    """Paths as MongoDB names updated fields: with places in lists."""
    items = state.items() if isinstance(state, dict) else enumerate(state)
    for name, value in items:
        yield f"{prefix}{name}"
        if isinstance(value, dict | list):
            yield from updates(value, f"{prefix}{name}.")


def at(state: Any, path: str) -> Any:
    for name in path.split("."):
        state = state[int(name)] if isinstance(state, list) else state[name]
    return state


PLAIN_NAMES = st.sampled_from(["a", "b", "c"])
PLAIN_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PLAIN_NAMES, inner, max_size=3),
    max_leaves=8,
)
PLAIN_STATES = st.dictionaries(PLAIN_NAMES, PLAIN_VALUES, max_size=3)


def with_secret(path: str, states: list[dict[str, Any]], data: st.DataObject) -> ChangeEvent:
    """An update with the secret at `path`, as it is and as it was, described by one field of it."""
    now, former = (planted(state, path.split(".")) for state in states)
    name = data.draw(st.sampled_from(sorted(updates(now))))
    return change(
        now,
        before={"_id": "k", **former},
        update_description=described(updated={name: at(now, name)}),
    )


TWO_STATES = st.lists(PLAIN_STATES, min_size=2, max_size=2)
FORMS: Any = st.sampled_from(["envelope", "flat"])


@given(PATHS, TWO_STATES, FORMS, st.data())
@pytest.mark.parametrize("kind", ["exclude_fields", "mask"])
def test_what_is_hidden_is_nowhere_in_the_message(
    kind: str, path: str, states: list[dict[str, Any]], form: Any, data: st.DataObject
) -> None:
    """Not in the document, not in the one before, not in the update description."""
    event = with_secret(path, states, data)
    around = path[: data.draw(st.sampled_from([1, len(path)]))]
    made = only(event, {"type": kind, "fields": [around]})
    assert SECRET in encode(event, form).body.decode()
    assert SECRET not in encode(made, form).body.decode()


@given(PATHS, PATHS, TWO_STATES, FORMS, st.data())
def test_what_is_not_included_is_nowhere_in_the_message(
    path: str, kept: str, states: list[dict[str, Any]], form: Any, data: st.DataObject
) -> None:
    """The same for fields that nobody named."""
    assume(not overlap(path, kept))
    made = only(with_secret(path, states, data), {"type": "include_fields", "fields": [kept]})
    assert SECRET not in encode(made, form).body.decode()


@pytest.mark.parametrize(
    "description",
    [
        described(updated={"author.email": SECRET}),
        described(updated={"author": {"email": SECRET}}),
        described(updated={"author.email.0": SECRET}),
        described(updated={"author.1.email": SECRET}),
        described(removed=["author.email"]),
        described(truncated=["author.email"]),
        {"updatedFields": "no JSON, s3cret", "removedFields": []},
        {"updatedFields": {"author": SECRET}},
    ],
)
@pytest.mark.parametrize("kind", ["exclude_fields", "mask", "rename"])
def test_a_description_of_a_touched_field_does_not_travel(
    kind: str, description: Mapping[str, Any]
) -> None:
    """Above, below and at the path, by value or by name alone; nor one that cannot be read."""
    fields: Any = {"author.email": "mail"} if kind == "rename" else ["author.email"]
    event = change({"author": {"email": "x"}}, update_description=description)
    assert only(event, {"type": kind, "fields": fields}).update_description is None


def test_a_description_of_other_fields_travels() -> None:
    """It drops out only where it must."""
    description = described(updated={"title": "t"}, removed=["author.name"])
    event = change(PEOPLE, update_description=description)
    for spec in (
        {"type": "mask", "fields": ["author.email"]},
        {"type": "rename", "fields": {"author.email": "mail"}},
        {"type": "include_fields", "fields": ["title", "author"]},
    ):
        assert only(event, spec).update_description == description


def test_a_delete_tells_no_former_secret() -> None:
    """Pre-images of deletes are cleaned as well."""
    event = change(op=Op.DELETE, before={"_id": "k", "email": SECRET, "title": "t"})
    made = only(event, {"type": "exclude_fields", "fields": ["email"]})
    assert (made.op, made.document, made.before) == (Op.DELETE, None, {"_id": "k", "title": "t"})
