"""Chunking: slices of the text, within the budget, stable under edits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.documents import read_document
from feature_pipeline.chunk import CleanedDocument, prepare

_BUDGET = 40


def _word_starts(text: str) -> Sequence[int]:
    """A tokenizer of words and marks, as simple as one can be."""
    return [found.start() for found in re.finditer(r"\w+|[^\w\s]", text)]


def _prepare(content: Any, collection: str = "articles", **fields: Any) -> CleanedDocument:
    raw = {"content": content, **fields}
    return prepare(read_document(collection, '"x"', raw), _word_starts, _BUDGET)


def _article(sentences: Sequence[str]) -> str:
    groups = [" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]
    return "\n\n".join(groups)


def _sentences(count: int) -> list[str]:
    return [f"Sentence number {n} tells fact {n * 7919 % 1000} of many." for n in range(count)]


@given(st.text(max_size=2000))
def test_no_chunk_exceeds_the_budget(text: str) -> None:
    """Header and content together never hold more tokens than the model takes in."""
    for chunk in _prepare({"Title": "A title", "Content": text}).chunks:
        assert len(_word_starts(chunk.embedded_text)) <= _BUDGET


@given(st.text(alphabet="ab .!?\n#`é你", max_size=600))
def test_every_chunk_is_a_slice_and_no_word_is_lost(text: str) -> None:
    """Chunks are slices of the cleaned text, and together they hold all of its words."""
    document = _prepare(text)
    for chunk in document.chunks:
        assert chunk.content in document.text
    together = "".join("".join(chunk.content.split()) for chunk in document.chunks)
    assert together == "".join(document.text.split())


def test_a_blob_is_many_chunks() -> None:
    """What a model takes for one word may be megabytes, which no reader wants as a passage."""
    document = _prepare("Before. " + "4f" * 50_000 + " After.")
    assert max(len(chunk.content) for chunk in document.chunks) <= 100 * _BUDGET
    assert "".join(chunk.content for chunk in document.chunks).count("4f") == 50_000


@pytest.mark.parametrize(
    "text",
    [
        "x" + " " * 300_000 + "y",
        "`" * 300_000,
        "# x" + " " * 5_000 + "y",
        "# x" + " #" * 5_000 + "y",
    ],
    ids=["spaces", "fence", "heading", "marks"],
)
def test_runs_of_one_character_take_no_time(text: str) -> None:
    """A document must not hold up those behind it, whatever it repeats."""
    began = monotonic()
    assert _prepare(text).chunks
    assert monotonic() - began < 5


@pytest.mark.parametrize("place", [0, 57, 100, 199])
def test_one_more_sentence_changes_few_chunks(place: int) -> None:
    """A long text without headings keeps nearly all of its chunks when a sentence is added."""
    sentences = _sentences(200)
    before = {chunk.content_hash for chunk in _prepare(_article(sentences)).chunks}
    paragraphs = _article(sentences).split("\n\n")
    paragraphs[place // 4] += " And one more thing was added here."
    after = [chunk.content_hash for chunk in _prepare("\n\n".join(paragraphs)).chunks]
    assert len(after) > 30
    assert sum(content_hash not in before for content_hash in after) <= 3


def test_a_chunk_knows_its_headings() -> None:
    """The title and the path of headings are embedded with the text below them."""
    text = "# One\n\nfirst text\n\n## Two\n\nsecond text\n\n# Three\n\nthird text"
    chunks = _prepare({"Title": "The title", "Content": text}).chunks
    assert [chunk.header for chunk in chunks] == [
        "The title",
        "The title > One",
        "The title > One > Two",
        "The title > Three",
    ]


def test_a_hash_in_a_code_block_is_no_heading() -> None:
    """A comment in a fenced block does not open a section."""
    chunks = _prepare("text\n\n```sh\n# not a heading\nls\n```\n\nmore").chunks
    assert {chunk.header for chunk in chunks} == {""}


def test_code_keeps_its_indentation_and_its_file() -> None:
    """Source files are chunked apart, by lines, each with its path; spaces stay."""
    content = {"a.py": "def f():\n    return 1\n", "b.py": "class B:\n    pass\n"}
    document = _prepare(content, "repositories", name="o/r")
    assert [(chunk.path, chunk.header, chunk.content) for chunk in document.chunks] == [
        ("a.py", "o/r > a.py", "def f():\n    return 1"),
        ("b.py", "o/r > b.py", "class B:\n    pass"),
    ]


def test_a_long_line_is_cut_between_tokens() -> None:
    """A line over the budget is cut, and nothing of it is lost."""
    line = " ".join(f"word{n}" for n in range(500))
    document = _prepare({"min.js": line}, "repositories")
    assert len(document.chunks) > 12
    assert " ".join(chunk.content.strip() for chunk in document.chunks) == line


def test_an_endless_title_leaves_room_for_text() -> None:
    """A header takes a quarter of the budget at the most."""
    chunks = _prepare({"Title": "word " * 500, "Content": "text here"}).chunks
    assert all(len(_word_starts(chunk.header)) <= _BUDGET // 4 for chunk in chunks)


def test_an_empty_document_has_no_chunk() -> None:
    """Nothing, or only blank space, makes no chunk."""
    assert _prepare("  \n\n ").chunks == ()
    assert _prepare(None).chunks == ()


def test_equal_documents_chunk_equally() -> None:
    """Chunking depends on the text alone."""
    assert _prepare(_article(_sentences(50))) == _prepare(_article(_sentences(50)))
