"""Chains of transforms: order, several events of one, what fails, and what is no configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.errors import ConfigurationError, PoisonError
from core.events import Op
from tests.transform_cases import (
    PUBLIC,
    appending,
    chain,
    change,
    described,
    document,
    elsewhere,
    explaining,
    failure,
    missing_field,
    nothing,
    only,
    own,
    quoting,
    rejecting,
    returning,
    shout,
    slicing,
    to_collection,
    two_parts,
)


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


def test_a_transform_that_raises_is_poison_with_its_name() -> None:
    """The event is to be set aside: reason, stage, what was raised and where."""
    error = failure(change(), own(explaining))
    assert isinstance(error, PoisonError)
    assert (error.reason, error.stage) == ("transform", f"{explaining.__module__}.explaining")
    assert "ValueError at transform_cases.py:" in str(error)
    assert str(error).endswith(": no author")


@pytest.mark.parametrize("function", [quoting, slicing])
def test_an_error_that_quotes_the_document_is_told_without_it(function: Any) -> None:
    """A document's content gets into no log, not even a part of it, however it was quoted."""
    error = failure(change({"title": "s3cret content"}), own(function))
    assert "ValueError at transform_cases.py:" in str(error)
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
