"""The plan: what to write for one document, computed from what is stored."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.documents import read_document
from core.versions import Version
from feature_pipeline.chunk import Chunk, CleanedDocument
from feature_pipeline.plan import (
    DocumentPlan,
    DocumentRef,
    StoredChunk,
    chunk_ids,
    plan_delete,
    plan_write,
    rfc3339,
)

_VERSION = Version.of(1_700_000_000, 5, "82AB")


def _document(texts: Sequence[str], collection: str = "articles") -> CleanedDocument:
    source = read_document(collection, '"d"', {"content": "\n\n".join(texts), "link": "l"})
    return CleanedDocument(source, "\n\n".join(texts), tuple(Chunk(t, "", None) for t in texts))


def _plan(texts: Sequence[str], stored: Sequence[StoredChunk] = ()) -> DocumentPlan:
    return plan_write(_document(texts), _VERSION, 1_700_000_000_123, stored, "pipeline")


def _stored(texts: Sequence[str], version: int = 1) -> list[StoredChunk]:
    return [StoredChunk(p.id, version, p.payload["chunk_index"]) for p in _plan(texts).embed]


def test_a_new_document_embeds_all_its_chunks() -> None:
    """Nothing stored: everything is new, in order, and complete."""
    plan = _plan(["a", "b"])
    assert [point.text for point in plan.embed] == ["a", "b"]
    assert [point.payload["chunk_index"] for point in plan.embed] == [0, 1]
    assert plan.manifest["chunk_count"] == 2
    assert (plan.keep, plan.stale) == ((), ())


def test_only_what_changed_is_embedded() -> None:
    """Unchanged chunks keep their vectors and are renewed; the former ones go."""
    stored = _stored(["a", "b", "c"])
    plan = _plan(["a", "B", "c"], stored)
    assert [point.text for point in plan.embed] == ["B"]
    assert set(plan.keep) == {stored[0].id, stored[2].id}
    assert plan.stale == (stored[1].id,)
    assert plan.moved == {}


def test_what_moved_keeps_its_vector() -> None:
    """A chunk put in front moves the others without embedding them."""
    stored = _stored(["a", "b"])
    plan = _plan(["new", "a", "b"], stored)
    assert [point.text for point in plan.embed] == ["new"]
    assert plan.moved == {
        stored[0].id: {"chunk_index": 1, "path": None},
        stored[1].id: {"chunk_index": 2, "path": None},
    }


def test_a_new_name_and_path_reach_the_chunks_that_stay() -> None:
    """Neither need be in what is embedded, so the chunk stays, and what readers get changes."""
    raw = {"content": "a", "name": "new", "path": "new.md"}
    document = CleanedDocument(
        read_document("articles", '"d"', raw), "a", (Chunk("a", "", "new.md"),)
    )
    plan = plan_write(document, _VERSION, 0, _stored(["a"]), "pipeline")
    assert (plan.embed, plan.renewal["name"]) == ((), "new")
    assert plan.moved == {plan.keep[0]: {"chunk_index": 0, "path": "new.md"}}


@pytest.mark.fault(25)
def test_the_same_event_again_embeds_nothing() -> None:
    """A redelivery finds everything stored, and only renews it."""
    plan = _plan(["a", "b"], _stored(["a", "b"], _VERSION.number))
    assert (plan.embed, plan.stale, plan.moved) == ((), (), {})


def test_chunks_nobody_remembers_are_removed() -> None:
    """Whatever is stored for the document and is not of this version goes."""
    left_over = StoredChunk(str(uuid.uuid4()), 1, 9)
    assert left_over.id in _plan(["a"], [left_over]).stale


def test_a_delete_is_a_tombstone_and_no_chunk() -> None:
    """A tombstone holds identity and version, and no text."""
    ref = DocumentRef("articles", '"d"')
    plan = plan_delete(ref, _VERSION, 0, _stored(["a", "b"]))
    assert len(plan.stale) == 2
    assert plan.manifest_id == _plan(["a"]).manifest_id
    assert plan.manifest == {
        "key": '"d"',
        "entry_id": "d",
        "type": "articles",
        "version": _VERSION.number,
        "pos": "82AB",
        "updated_at": "1970-01-01T00:00:00.000Z",
        "deleted": True,
    }


@given(st.lists(st.sampled_from(["x", "y", "z"]), max_size=12))
def test_repeated_texts_have_ids_of_their_own(texts: list[str]) -> None:
    """Equal texts within a document are as many points, always the same ones."""
    ids = chunk_ids(DocumentRef("posts", '"p"'), texts)
    assert len(set(ids)) == len(texts)
    assert ids == chunk_ids(DocumentRef("posts", '"p"'), texts)


def test_equal_texts_of_two_documents_are_two_points() -> None:
    """Ids depend on collection and key as well as on the text."""
    refs = [DocumentRef(t, k) for t in ("posts", "articles") for k in ('"1"', '{"$numberInt":"1"}')]
    assert len({chunk_ids(ref, ["same"])[0] for ref in refs}) == 4


@given(st.lists(st.text(max_size=5), max_size=8), st.lists(st.text(max_size=5), max_size=8))
def test_a_plan_ends_in_exactly_the_new_version(old: list[str], new: list[str]) -> None:
    """Stored chunks, less the stale, plus the embedded, are those of the new version."""
    stored = _stored(old)
    plan = _plan(new, stored)
    after = ({chunk.id for chunk in stored} - set(plan.stale)) | {p.id for p in plan.embed}
    assert after == set(plan.owned)
    assert len(plan.owned) == len(new)


def test_times_are_rfc_3339() -> None:
    """Milliseconds, in UTC."""
    assert rfc3339(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
