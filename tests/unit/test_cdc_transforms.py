"""Transforms: what they make of events, what they keep from leaving, and what ends in an error."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import assume, given
from hypothesis import strategies as st

from console.audit import Held, compare, expected
from core.config import CAPTURABLE, load_settings
from core.documents import document_key, read_document
from core.errors import ConfigurationError, DocumentRejected, PoisonError
from core.events import ChangeEvent, Op, decode, encode
from core.events.encode import extended_json
from core.versions import Version
from data_cdc.transforms import Chain, Transform, TransformFailed, as_delete, load_chain
from data_cdc.transforms.paths import overlap
from data_cdc.transforms.plain import plain

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


# -- the chain -----------------------------------------------------------------------


def test_an_empty_chain_gives_the_event_itself() -> None:
    """Nothing configured costs nothing and changes nothing."""
    event = change()
    assert chain().apply(event)[0] is event


def test_transforms_apply_in_the_order_of_the_list() -> None:
    """Each sees what the one before it made."""
    event = change({"title": "t"})
    ab = document(event, own(appending, text="a"), own(appending, text="b"))
    renamed = {"type": "rename", "fields": {"title": "name"}}
    masked = {"type": "mask", "fields": ["name"]}
    assert ab == {"title": "tab"}
    assert document(event, renamed, masked) == {"name": "***"}
    assert document(event, masked, renamed) == {"name": "t"}


def test_what_one_transform_drops_the_next_does_not_see() -> None:
    """Nothing out of one is nothing in the end, and raises nowhere."""
    assert chain(own(nothing), own(explaining)).apply(change()) == ()


def test_several_events_of_one_change_keep_its_place_in_the_order() -> None:
    """Their ids are unique and the same at each replay; version and time are the change's."""
    event = change({"title": "t"})
    made = chain(own(two_parts)).apply(event)
    assert [each.key for each in made] == ['"k"', '"k-copy"']
    assert [each.message_id for each in made] == ["twin:82AB:1", "twin:82AB:2"]
    assert {(each.version, each.wall_ms) for each in made} == {(event.version, event.wall_ms)}
    assert chain(own(two_parts)).apply(event) == made


def test_several_transforms_that_multiply_still_give_unique_ids() -> None:
    """Numbers run over all that one change became, not over what one transform made."""
    made = chain(own(two_parts), own(two_parts)).apply(change())
    assert [each.message_id.rpartition(":")[2] for each in made] == ["1", "2", "3", "4"]


def test_a_function_by_its_path_is_the_transform_and_with_options_makes_it() -> None:
    """`package.module.function` alone is called with events, otherwise with the options."""
    assert document(change({"title": "t"}), own(shout)) == {"title": "T"}
    assert document(change({"title": "t"}), own(appending, text="!")) == {"title": "t!"}


@pytest.mark.parametrize(
    ("spec", "rewrites", "moves"),
    [
        ({"type": "flatten"}, False, False),
        (PUBLIC, False, False),
        ({"type": "exclude", "collections": ["posts"]}, False, False),
        ({"type": "mask", "fields": ["x"]}, True, False),
        (own(shout), True, True),
    ],
)
def test_a_chain_tells_what_it_may_do_to_documents(
    spec: dict[str, Any], rewrites: bool, moves: bool
) -> None:
    """Whoever would read a document from MongoDB instead asks first."""
    there = chain({"type": "flatten"}, spec)
    assert (there.may_rewrite, there.may_move) == (rewrites, moves)


# -- failing -------------------------------------------------------------------------


def failure(event: ChangeEvent, *specs: Mapping[str, Any]) -> TransformFailed:
    with pytest.raises(TransformFailed) as caught:
        chain(*specs).apply(event)
    return caught.value


def test_a_transform_that_raises_is_poison_with_its_name() -> None:
    """The event is to be set aside: reason, stage, what was raised and where."""
    error = failure(change(), own(explaining))
    assert isinstance(error, PoisonError)
    assert (error.reason, error.stage) == ("transform", f"{__name__}.explaining")
    assert "ValueError at test_cdc_transforms.py:" in str(error)
    assert str(error).endswith(": no author")


@pytest.mark.parametrize("function", [quoting, slicing])
def test_an_error_that_quotes_the_document_is_told_without_it(function: Any) -> None:
    """A document's content gets into no log, not even a part of it, however it was quoted."""
    error = failure(change({"title": "s3cret content"}), own(function))
    assert "ValueError at test_cdc_transforms.py:" in str(error)
    assert "s3cret" not in str(error)


def test_words_that_are_the_program_s_are_told() -> None:
    """A literal of the code, and the sentence of an error that is made to be read."""
    assert "document k: has no author" in str(failure(change(), own(rejecting)))
    assert str(failure(change(), own(missing_field))).endswith(": author")


@pytest.mark.parametrize(
    "kind",
    [
        "a document",
        "text",
        "a number",
        "a list with a document",
        "a delete that holds a document",
        "an update of nothing",
        "a purge",
    ],
)
def test_what_is_no_change_event_is_refused(kind: str) -> None:
    """The broker never gets what no consumer could read."""
    assert failure(change(), own(returning, kind=kind)).stage.endswith("returning")


def test_an_event_that_nobody_s_queue_takes_is_refused() -> None:
    """Another database, or a collection that is not captured, has no binding."""
    assert "another database" in str(failure(change(), own(elsewhere)))
    assert "not captured" in str(failure(change(), own(to_collection, name="users")))
    assert only(change(), own(to_collection, name="posts")).collection == "posts"


# -- configuration -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, "has no type"),
        ({"type": 1}, "has no type"),
        ({"type": "masc"}, "unknown type; known are include, exclude"),
        ({"type": "no_such_package.f"}, "no_such_package cannot be imported"),
        ({"type": "json.no_such"}, "json has no function no_such"),
        ({"type": "json.__doc__"}, "json has no function"),
        ({"type": "json.dumps", "nosuch": 1}, "raised TypeError for these options"),
        ({"type": "json.dumps", "obj": 1}, "gave a str"),
        ({"type": "mask"}, "needs the option 'fields'"),
        ({"type": "mask", "field": ["x"]}, "no option 'field'; known are fields, with, salt"),
        ({"type": "mask", "with_": "x"}, "no option 'with_'"),
        ({"type": "mask", "fields": "x"}, "fields: "),
        ({"type": "mask", "fields": []}, "fields: "),
        ({"type": "mask", "fields": ["a..b"]}, "is no path"),
        ({"type": "mask", "fields": ["_id"]}, "_id stays as it is"),
        ({"type": "mask", "fields": ["x"], "with": "sha256"}, "salt"),
        ({"type": "mask", "fields": ["x"], "salt": "s"}, "salt"),
        ({"type": "exclude_fields", "fields": ["_id.part"]}, "_id stays as it is"),
        ({"type": "rename", "fields": {"_id": "x"}}, "_id stays as it is"),
        ({"type": "rename", "fields": {"x": "_id"}}, "_id stays as it is"),
        ({"type": "rename", "fields": {"x": "y.z"}}, "without dots"),
        ({"type": "rename", "fields": {"x": "y", "y": "x"}}, "renamed twice"),
        ({"type": "rename", "fields": {"x": "z", "y": "z"}}, "renamed twice"),
        ({"type": "include", "collections": []}, "collections: "),
        ({"type": "include", "collections": ["users"]}, "'users' is not captured"),
        ({"type": "flatten", "collections": ["users"]}, "'users' is not captured"),
        ({"type": "filter", "expression": "document.a =="}, "expression: "),
        ({"type": "filter", "expression": "len(document)"}, "len()"),
        ({"type": "filter", "expression": "document.a && len(document)"}, "no function len()"),
        ({"type": "filter", "expression": "length(document, op)"}, "expression: "),
        ({"type": "filter", "expression": "doc.state == 'public'"}, "asks for nothing"),
    ],
)
def test_a_bad_specification_is_named_by_its_place(spec: dict[str, Any], told: str) -> None:
    """One sentence: the variable, which of the list, what is wrong, where to read on."""
    with pytest.raises(ConfigurationError) as caught:
        chain({"type": "flatten"}, spec)
    assert str(caught.value).startswith("CDC_TRANSFORMS: number 2 (")
    assert told in str(caught.value)
    assert caught.value.exit_status == 2


def test_no_salt_is_told() -> None:
    """Neither a chain nor an error about a salt shows it."""
    good = {"type": "mask", "fields": ["x"], "with": "sha256", "salt": "s3cret"}
    assert "s3cret" not in repr(chain(good))
    with pytest.raises(ConfigurationError) as caught:
        chain({**good, "salt": ["s3cret"]})
    assert "s3cret" not in str(caught.value)


# -- collections ----------------------------------------------------------------------


def test_include_and_exclude_choose_collections() -> None:
    """What is not chosen is told nothing of, deletes included."""
    included = chain({"type": "include", "collections": ["articles"]})
    excluded = chain({"type": "exclude", "collections": ["articles"]})
    for op in (Op.CREATE, Op.DELETE):
        article, post = change(op=op), change(op=op, collection="posts")
        assert [included.apply(each) for each in (article, post)] == [(article,), ()]
        assert [excluded.apply(each) for each in (article, post)] == [(), (post,)]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "include_fields", "fields": ["b"]},
        {"type": "exclude_fields", "fields": ["a"]},
        {"type": "mask", "fields": ["a"]},
        {"type": "rename", "fields": {"a": "b"}},
        {"type": "filter", "expression": "document.nothing"},
        {"type": "flatten"},
    ],
)
def test_a_transform_may_be_for_some_collections(spec: dict[str, Any]) -> None:
    """Events of the others pass as they are."""
    there = chain({**spec, "collections": ["posts"]})
    article = change({"a": 1}, update_description=described(updated={"a": 1}))
    post = replace(article, collection="posts")
    assert there.apply(article) == (article,)
    assert there.apply(post) == chain(spec).apply(post) != (post,)


# -- fields ---------------------------------------------------------------------------

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


FIELD_SPECS = st.one_of(
    st.builds(lambda p: {"type": "exclude_fields", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "include_fields", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "mask", "fields": p}, st.lists(PATHS, min_size=1)),
    st.builds(lambda p: {"type": "rename", "fields": {p: "new"}}, PATHS),
    st.just({"type": "flatten"}),
    st.just({"type": "filter", "expression": "document.a"}),
)


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

SECRET = "s3cret"


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


# -- filter -----------------------------------------------------------------------------


@pytest.mark.parametrize("op", [Op.CREATE, Op.UPDATE, Op.READ])
def test_what_does_not_pass_is_told_as_deleted(op: Op) -> None:
    """It may have passed before: same key, same version, and nothing of what it holds."""
    passing = change({"state": "public"}, op=op)
    event = change(
        {"state": "draft"}, op=op, before={"x": 1}, update_description=described(updated={"x": 1})
    )
    assert only(passing, PUBLIC) == passing
    made = only(event, PUBLIC)
    assert made == as_delete(event)
    assert (made.op, made.key, made.version) == (Op.DELETE, event.key, event.version)
    assert (made.document, made.before, made.update_description) == (None, None, None)


def test_deletes_pass_and_what_did_not_pass_before_stays_untold() -> None:
    """A former state is told only where it would have been told then."""
    draft, public = {"_id": "k", "state": "draft"}, {"_id": "k", "state": "public"}
    for op in (Op.DELETE, Op.UPDATE):
        event = change({"state": "public"}, op=op)
        assert only(replace(event, before=draft), PUBLIC) == event
        assert only(replace(event, before=public), PUBLIC) == replace(event, before=public)


@given(st.lists(st.sampled_from(["public", "draft", "gone"]), max_size=8))
def test_a_filter_keeps_the_replica_true(states: list[str]) -> None:
    """Whatever a document went through, it is told in the end exactly if it passes in the end."""
    held = None
    for state in states:
        event = change(op=Op.DELETE) if state == "gone" else change({"state": state})
        held = only(event, PUBLIC).document
    assert (held is not None) == (states[-1:] == ["public"])


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("op == 'u' && db == 'twin' && collection == 'articles'", True),
        ("""key == '"k"'""", True),
        ("document.at >= '2026-01-01'", True),
        ("document.at >= '2027-01-01'", False),
        ("document.price > `9`", True),
        ("document.likes", True),  # 0 is a value
        ("document.none", False),
        ("document.empty", False),
        ("document.missing == `null`", True),
        ("length(document.tags[?@ == 'a']) == `1`", True),
        ("document.owner == '6b000512b5d1714ad0f5bf3b'", True),
        ("document._id == 'k'", True),
        ("before.state != document.state", True),
        ("contains(document.title, 'Qdrant')", True),
    ],
)
def test_expressions_see_plain_values(expression: str, passes: bool) -> None:
    """Dates are RFC 3339, ids are text, numbers are numbers; absent is null."""
    event = change(
        {
            "at": datetime(2026, 5, 1, 12, 30, tzinfo=UTC),
            "price": Decimal128("9.5"),
            "likes": Int64(0),
            "none": None,
            "empty": [],
            "tags": ["a", "b"],
            "owner": OID,
            "state": "public",
            "title": "About Qdrant",
        },
        before={"state": "draft"},
    )
    made = only(event, {"type": "filter", "expression": expression})
    assert (made.op is not Op.DELETE) == passes


def test_an_expression_that_cannot_be_evaluated_parks_the_event() -> None:
    """Neither passing nor deleting is right where nobody can tell; content is not quoted."""
    spec = {"type": "filter", "expression": "length(document.title) > `3`"}
    error = failure(change({"title": None}), spec)
    assert (error.reason, error.stage) == ("transform", "filter")
    assert "length() was given null" in str(error)
    numbers = {"type": "filter", "expression": "abs(document.title) > `3`"}
    assert SECRET not in str(failure(change({"title": SECRET}), numbers))


def test_an_expression_that_fails_on_the_former_state_only_withholds_it() -> None:
    """What was before is no reason to set aside what is."""
    spec = {"type": "filter", "expression": "length(document.title) > `3`"}
    event = change({"title": "long"}, before={"_id": "k"})
    assert only(event, spec) == replace(event, before=None)


def test_dates_out_of_python_s_range_and_any_other_type_are_plain_too() -> None:
    """Nothing that BSON has ends an expression."""
    assert plain(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)) == "2026-01-02T03:04:05.678Z"
    assert plain(DatetimeMS(1 << 50)) == 1 << 50
    values = plain({"b": b"x", "l": [OID, (1, None)], "i": Int64(1)})
    assert json.loads(json.dumps(values))["l"] == [str(OID), [1, None]]


# -- flatten ------------------------------------------------------------------------------


def test_flatten_has_the_event_travel_as_the_course_s_message() -> None:
    """The same body as CDC_MESSAGE_FORMAT=flat, and the headers that keep order and identity."""
    event = change({"content": "x"})
    made = only(event, {"type": "flatten"})
    assert encode(made) == encode(event, "flat")
    assert json.loads(encode(made).body) == {"content": "x", "entry_id": "k", "type": "articles"}
    message = encode(made)
    back = decode(message.body, message.headers, message.routing_key, message.message_id)
    assert isinstance(back, ChangeEvent)
    assert (back.key, back.version, back.document) == (event.key, event.version, {"content": "x"})


def test_flatten_flattens_deletes() -> None:
    """Those of the filter behind which it stands too."""
    for event in (change(op=Op.DELETE), change({"state": "draft"})):
        made = only(event, PUBLIC, {"type": "flatten"})
        assert json.loads(encode(made).body)["__deleted"] is True


# -- twin verify ----------------------------------------------------------------------------


def wanted(raw: Mapping[str, Any], *specs: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    return expected(chain(*specs), "twin", "articles", {"_id": "k", **raw})


def hashed(raw: Mapping[str, Any], key: str = '"k"', collection: str = "articles") -> str:
    return read_document(collection, key, raw).source_hash()


def test_verify_expects_what_the_transforms_make() -> None:
    """A masked document hashes as masked; without transforms as it is."""
    raw = {"content": "text", "author_full_name": "me"}
    spec = {"type": "mask", "fields": ["author_full_name"]}
    assert wanted(raw) == {("articles", '"k"'): hashed(raw)}
    assert wanted(raw, spec) == {("articles", '"k"'): hashed({**raw, "author_full_name": "***"})}
    assert wanted(raw, {"type": "flatten"}) == wanted(raw)


def test_verify_expects_what_is_left_out_to_be_absent() -> None:
    """Filtered, excluded or dropped: what Qdrant still holds of it is orphaned."""
    for spec in (PUBLIC, {"type": "exclude", "collections": ["articles"]}, own(nothing)):
        assert wanted({"state": "draft"}, spec) == {}
    held = {("articles", '"k"'): Held("hash", 1, 0, {})}
    assert compare({}, held).orphaned == [("articles", '"k"')]


def test_verify_expects_documents_where_transforms_put_them() -> None:
    """Under other keys and in other collections too."""
    raw = {"content": "x"}
    assert wanted(raw, own(two_parts)) == {
        ("articles", '"k"'): hashed(raw),
        ("articles", '"k-copy"'): hashed(raw, '"k-copy"'),
    }
    assert wanted(raw, own(to_collection, name="posts")) == {
        ("posts", '"k"'): hashed(raw, collection="posts")
    }


def test_a_document_that_no_transform_gets_through_is_never_in_step() -> None:
    """It was set aside: missing, or stale where an earlier state got through."""
    should = wanted({"content": "x"}, own(explaining))
    (ref,) = should
    held = {ref: Held(hashed({"content": "x"}), 1, 0, {})}
    assert compare(should, {}).missing == [ref]
    assert compare(should, held).stale == [ref]


@given(STATES, st.lists(FIELD_SPECS, max_size=3), OPS)
def test_verify_expects_exactly_what_is_sent(
    state: dict[str, Any], specs: list[dict[str, Any]], op: Op
) -> None:
    """f(document) is the same whether it came as an insert, as an update or is read by verify."""
    event = change(op=op, document=state)
    sent = {
        (made.collection, made.key): hashed(made.document, made.key)
        for made in chain(*specs).apply(event)
        if made.document is not None
    }
    assert expected(chain(*specs), "twin", "articles", state) == sent


def test_the_key_of_an_event_is_that_of_its_document() -> None:
    """As this module's events have it."""
    assert change().key == document_key("k")


# -- the manual -------------------------------------------------------------------------------

_MANUAL = (Path(__file__).parents[2] / "INSTALL_AND_USAGE.md").read_text()
_SECTION = _MANUAL.partition("## Transforms")[2].partition("## What the logs say")[0]
_EXAMPLES = re.findall(r"\| `({.*})` \|$", _SECTION, re.MULTILINE)


def test_each_example_of_the_manual_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that stand in the table, and the function that is shown."""
    (module,) = re.findall(r"```python\n(.*?)```", _SECTION, re.DOTALL)
    (tmp_path / "mytransforms.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    specs = [json.loads(example) for example in _EXAMPLES]
    assert len({spec["type"] for spec in specs}) == 9
    chain(*specs).apply(change({"content": {"body": "x"}, "state": "public"}))
    (own_one,) = (spec for spec in specs if spec["type"].startswith("mytransforms."))
    assert document(change({"content": "internal: x"}), own_one) == {"content": "…: x"}


def test_the_example_of_the_variable_is_read_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line can be copied to .env."""
    monkeypatch.delenv("CDC_TRANSFORMS", raising=False)
    (line,) = re.findall(r"^CDC_TRANSFORMS=.*$", _SECTION, re.MULTILINE)
    (tmp_path / ".env").write_text(f"{line}\n")
    transforms = load_settings(tmp_path / ".env").cdc.transforms
    assert [step.name for step in chain(*transforms).steps] == ["filter", "mask"]


def test_a_missing_library_is_named() -> None:
    """Only filters need it, and they say what to install."""
    code = (
        "import sys; sys.modules['jmespath'] = None\n"
        "from data_cdc.transforms import load_chain\n"
        "load_chain([{'type': 'flatten'}], ['articles'])\n"
        "load_chain([{'type': 'filter', 'expression': 'op'}], ['articles'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency: jmespath is not installed" in done.stderr
