"""Cleaning keeps what carries meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_pipeline.clean import clean_code, clean_prose


@pytest.mark.parametrize(
    "text",
    [
        "Café, déjà vu, œuvre, naïve",
        "你好，世界。「引用」",
        "Привет, мир",
        "مرحبا بالعالم",
        "می‌خواهم",  # a zero-width non-joiner is spelling
        "👩‍💻 ships 🚀",  # and a zero-width joiner makes one picture of two
        "See [the docs](https://a.example/x?y=1&z=(2)) now",
        "nn.Module vs. (LLMs)  two  spaces",
        "# Title\n\n- one\n  - two\n\n> quote",
    ],
)
def test_meaning_survives(text: str) -> None:
    """Accents, scripts, emoji, links, Markdown, case and spaces stay as they are."""
    assert clean_prose(text) == text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("𝐁𝐨𝐥𝐝 and 𝑖𝑡𝑎𝑙𝑖𝑐", "Bold and italic"),
        ("cafe\u0301", "café"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("a\u00a0b", "a b"),
        ("line  \r\nnext\rlast", "line\nnext\nlast"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("a\x00b\x07c", "abc"),
    ],
)
def test_what_only_a_screen_needs_goes(dirty: str, clean: str) -> None:
    """Letters in disguise, invisible characters and gaps are made plain."""
    assert clean_prose(dirty) == clean


def test_a_fenced_block_keeps_each_character() -> None:
    """Code inside prose is not touched, whatever it holds."""
    code = "```python\ndef f():\n\n\n\n    return '\u00a0𝐁'  \n```"
    assert clean_prose(f"before\u00a0it\n\n{code}\n\nafter") == f"before it\n\n{code}\n\nafter"


def test_a_fence_that_never_closes_is_code_to_the_end() -> None:
    """An unclosed block does not swallow a crash."""
    assert clean_prose("text\n```\ncode  \n  more") == "text\n```\ncode  \n  more"


@given(st.text())
def test_code_is_never_changed(text: str) -> None:
    """Source code stays to the byte."""
    assert clean_code(text) == text


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """Cleaning is idempotent, so a replay makes the same text."""
    once = clean_prose(text)
    assert clean_prose(once) == once
