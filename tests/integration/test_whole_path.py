"""From MongoDB to Qdrant, through the real services and the real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Binary, ObjectId
from qdrant_client import models

from core.config import CAPTURABLE
from core.embedding import load_embedder
from core.rag import Query, Retriever
from local_stack.stack import LocalStack, running_stack
from tests.twin_harness import Twin, open_twin, until

pytestmark = [pytest.mark.stack, pytest.mark.model]

_OID = ObjectId()
_UUID = uuid.uuid4()
_IDENTIFIERS: list[tuple[Any, str]] = [
    ("plain text", "plain text"),
    (_OID, str(_OID)),
    (42, "42"),
    (Binary.from_uuid(_UUID), str(_UUID)),
]
_FAMILIES = {
    "articles": "articles",
    "posts": "posts",
    "repositories": "repositories",
    "repository_files": "repositories",
}


@pytest.fixture(scope="module")
def running_twin(infra: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A twin whose services run for all tests of this file: the model loads once."""
    folder = tmp_path_factory.mktemp("twin")
    names = {"MONGO_DATABASE_NAME": "twin_whole", "RABBITMQ_QUEUE_NAME": "queue_whole"}
    with running_stack(folder / "qdrant", services=["qdrant"]) as qdrant:
        port = {"QDRANT_DATABASE_PORT": str(qdrant.ports.qdrant)}
        with open_twin({**infra.environment(), **names, **port}, folder) as twin:
            twin.cdc.start(ready=False)
            twin.pipeline.start()
            yield twin


@pytest.fixture
def twin(running_twin: Twin) -> Twin:
    """The running twin without any document."""
    for collection in CAPTURABLE:
        running_twin.db[collection].delete_many({})
    assert running_twin.report().in_step
    return running_twin


def _article(text: str, title: str = "Über Café") -> dict[str, Any]:
    return {
        "platform": "medium",
        "link": "https://medium.com/@me/x",
        "content": {"Title": title, "Subtitle": None, "Content": text, "language": "fr"},
        "author_id": "author-1",
        "author_full_name": "Zoë Writer",
    }


def test_each_change_of_each_kind_of_document_arrives(twin: Twin) -> None:
    """Insert, update, replace and delete, for each collection and each kind of `_id`."""
    for collection in CAPTURABLE:
        twin.db[collection].insert_many(
            [{"_id": one, **_article(f"erste Fassung 你好 🎉 {one}")} for one, _ in _IDENTIFIERS]
        )
    assert twin.report().as_dict() == _in_step(16)
    for collection in CAPTURABLE:
        for one, _ in _IDENTIFIERS[:2]:
            twin.db[collection].update_one({"_id": one}, {"$set": {"content": "zweite Fassung"}})
        twin.db[collection].replace_one({"_id": 42}, {"content": {"Content": "ersetzt"}})
        twin.db[collection].delete_one({"_id": _IDENTIFIERS[3][0]})
    assert twin.report().as_dict() == _in_step(12)
    for collection in CAPTURABLE:
        _check_collection(twin, collection)


def _check_collection(twin: Twin, collection: str) -> None:
    family = _FAMILIES[collection]
    texts = {
        name: [p["content"] for p in twin.chunks(family, name) if p["type"] == collection]
        for _, name in _IDENTIFIERS
    }
    assert texts[_IDENTIFIERS[0][1]] == ["zweite Fassung"]
    assert texts[_IDENTIFIERS[1][1]] == ["zweite Fassung"]
    assert texts["42"] == ["ersetzt"]
    assert texts[str(_UUID)] == []


def _in_step(checked: int) -> dict[str, Any]:
    return {"in_step": True, "checked": checked, "missing": [], "stale": [], "orphaned": []}


def test_a_point_carries_what_readers_need(twin: Twin) -> None:
    """Payloads have the fields of the contract, with text in its own case and script."""
    twin.db.articles.insert_one({"_id": "a", **_article("Déjà vu: 你好 𝐛𝐨𝐥𝐝 🎉")})
    assert twin.report().in_step
    [chunk] = twin.chunks("articles", "a")
    manifest = twin.manifest("articles", "a")
    assert manifest is not None
    assert "Déjà vu: 你好 bold 🎉" in chunk["content"]
    assert {name: chunk[name] for name in ("key", "type", "platform", "link", "author_id")} == {
        "key": '"a"',
        "type": "articles",
        "platform": "medium",
        "link": "https://medium.com/@me/x",
        "author_id": "author-1",
    }
    assert chunk["version"] == manifest["version"] < 2**53
    assert (chunk["chunk_index"], chunk["chunk_count"]) == (0, 1)
    assert manifest["cleaned_content"] == "Über Café\n\nDéjà vu: 你好 bold 🎉"
    assert chunk["updated_at"].endswith("Z")


def test_a_delete_leaves_a_tombstone_and_nothing_to_find(twin: Twin) -> None:
    """A deleted document has no chunk; its tombstone says only that it is gone."""
    twin.db.posts.insert_one({"_id": "p", "content": "soon gone"})
    assert twin.report().in_step
    twin.db.posts.delete_one({"_id": "p"})
    assert twin.report().in_step
    assert twin.chunks("posts", "p") == []
    manifest = twin.manifest("posts", "p")
    assert manifest is not None
    assert manifest["deleted"] is True
    assert "cleaned_content" not in manifest


def test_an_empty_document_has_a_manifest_and_no_chunk(twin: Twin) -> None:
    """Null and missing fields are no error: there is just nothing to find."""
    twin.db.articles.insert_one({"_id": "bare"})
    twin.db.articles.insert_one({"_id": "null", "content": None, "link": None, "author_id": None})
    assert twin.report().in_step
    assert twin.chunks("articles", "bare") == twin.chunks("articles", "null") == []
    assert twin.manifest("articles", "null") is not None


def test_equal_texts_of_two_documents_are_two_points(twin: Twin) -> None:
    """Deleting one of two documents with the same text leaves the other one findable."""
    for name in ("one", "two"):
        twin.db.posts.insert_one({"_id": name, "content": "the very same words"})
    assert twin.report().in_step
    twin.db.posts.delete_one({"_id": "one"})
    assert twin.report().in_step
    assert [p["content"] for p in twin.chunks("posts", "two")] == ["the very same words"]


def test_an_edit_embeds_only_what_changed(twin: Twin) -> None:
    """One more sentence in a long text embeds few chunks, and the log says how many."""
    paragraphs = [f"Paragraph {n} tells fact number {n * 31}. " * 6 for n in range(90)]
    twin.db.articles.insert_one({"_id": "long", **_article("\n\n".join(paragraphs))})
    assert twin.report().in_step
    before = len(twin.chunks("articles", "long"))
    paragraphs[40] += "One more sentence."
    twin.db.articles.update_one(
        {"_id": "long"}, {"$set": {"content.Content": "\n\n".join(paragraphs)}}
    )
    assert twin.report().in_step
    lines = [json.loads(line) for line in twin.pipeline.text().splitlines() if line[:1] == "{"]
    embedded = [
        line["num"] for line in lines if line["event"].startswith("Chunk embedded successfully")
    ]
    assert before > 20
    assert embedded[-1] <= 3


def test_repositories_are_found_file_by_file(twin: Twin) -> None:
    """The course's {path: text} makes chunks that never cross files and keep each space."""
    code = "def f(x):\n    if x:\n        return  1\n"
    twin.db.repositories.insert_one(
        {"_id": "r", "name": "me/repo", "content": {"a.py": code, "README.md": "# Me\n\nHello."}}
    )
    assert twin.report().in_step
    found = {chunk["path"]: chunk for chunk in twin.chunks("repositories", "r")}
    assert found["a.py"]["content"] == code.rstrip("\n")
    assert found["a.py"]["name"] == "me/repo"


def test_search_finds_the_new_text_and_never_the_old(twin: Twin) -> None:
    """Search sees an edit, a filter by author, and no deleted document."""
    twin.db.articles.insert_one({"_id": "x", **_article("A recipe for sourdough bread with rye.")})
    twin.db.posts.insert_one({"_id": "y", "content": "The orbit of Jupiter's moon Io."})
    assert twin.report().in_step
    retriever = Retriever(twin.qdrant, twin.settings.qdrant, load_embedder(twin.settings.embedding))
    assert retriever.search(Query("baking bread"))[0].entry_id == "x"
    assert retriever.search(Query("baking bread", author="nobody")) == []
    assert {hit.entry_id for hit in retriever.search(Query("bread", author="Zoë Writer"))} == {"x"}
    assert {hit.type for hit in retriever.search(Query("bread", type="posts"))} == {"posts"}
    twin.db.articles.update_one({"_id": "x"}, {"$set": {"content.Content": "Knitting a scarf."}})
    twin.db.posts.delete_one({"_id": "y"})
    assert twin.report().in_step
    hits = retriever.search(Query("baking bread or planets"))
    assert [hit.entry_id for hit in hits] == ["x"]
    assert "Knitting" in hits[0].content


@pytest.mark.fault(23)
def test_poison_is_set_aside_with_its_reason(twin: Twin) -> None:
    """What is no event goes to the dead-letter queue, and those behind it flow."""
    until(lambda: twin.pipeline.text().count("broker.connected"), "the consumer")
    poisons = {
        b"not json": "not_json",
        b'{"op": "c", "source": {}}': "malformed",
        b'{"type": "users", "entry_id": "u1", "first_name": "x"}': "unknown_collection",
        b'{"op":"d","source":{"db":"x","collection":"posts"}}': "no_key",
    }
    for body in poisons:
        twin.publish(body)
    twin.publish(json.dumps({"type": "posts", "entry_id": "flat", "content": "flat body"}).encode())
    until(lambda: twin.chunks("posts", "flat"), "the good message")
    letters = {body: headers["x-reason"] for headers, body in twin.dead_letters()}
    assert letters.pop(b'{"op": "c", "source": {}}', "malformed")
    assert letters == {body: r for body, r in poisons.items() if r != "malformed"}
    assert twin.queue_depth() == 0
    twin.publish(b'{"type": "posts", "entry_id": "flat", "__deleted": true}')
    until(lambda: not twin.chunks("posts", "flat"), "the delete")


def test_the_commands_tell_programs_and_people(twin: Twin) -> None:
    """`twin verify`, `search` and `status` print JSON and end with the status of the contract."""
    twin.db.posts.insert_one({"_id": "p", "content": "Compilers turn text into machine code."})
    status, verified = _twin(twin, "verify", "--json")
    assert (status, verified["in_step"]) == (0, True)
    status, hits = _twin(twin, "search", "what does a compiler do?", "--json", "--limit", "1")
    assert status == 0
    assert {"entry_id", "key", "type", "link", "score", "content", "version"} <= set(hits[0])
    status, told = _twin(twin, "status", "--json")
    assert status == 0
    assert told["mongodb"]["documents"]["posts"] == told["qdrant"]["points"]["cleaned_posts"] == 1
    assert told["mongodb"]["cdc"]["running"] is True
    twin.cdc.kill()
    twin.db.posts.delete_one({"_id": "p"})
    status, verified = _twin(twin, "verify", "--json", "--settle", "1")
    assert (status, [one["entry_id"] for one in verified["orphaned"]]) == (4, ["p"])
    twin.cdc.start()
    assert twin.report().in_step


def test_points_that_name_no_document_are_orphans(twin: Twin) -> None:
    """Whatever another program put into our collections is told, and breaks nothing."""
    twin.db.posts.insert_one({"_id": "p", "content": "One document."})
    assert twin.report().in_step
    vector = {"text": [0.1] * 384}
    strangers = [
        models.PointStruct(id=7, vector=vector, payload={}),
        models.PointStruct(
            id=8, vector=vector, payload={"type": "posts", "key": "x", "version": "new"}
        ),
    ]
    twin.qdrant.upsert("vector_posts", strangers, wait=True)
    assert sorted(twin.report(1.5).orphaned) == [("None", "None"), ("posts", "x")]
    twin.qdrant.delete("vector_posts", [7, 8], wait=True)
    assert twin.report().in_step


def _twin(twin: Twin, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "console", *arguments],
        env={**os.environ, **twin.environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)
