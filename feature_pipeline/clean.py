"""Cleaning: a list of pure functions, none of which harms what carries meaning.

Prose loses what only a screen or a broken editor put there; case, accents, every
script, emoji and links stay. Code stays to the byte, in fenced blocks too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

VERSION = "clean-1"

Step = Callable[[str], str]

# What a run of equal characters could make quadratic is possessive or begins where the run does.
_FENCE = re.compile(
    r"(^ {0,3}(`{3,}+|~{3,}+)[^\n]*+\n.*?(?:^ {0,3}\2[`~]*+[ \t]*+$|\Z))",
    re.MULTILINE | re.DOTALL,
)
# 𝐛𝐨𝐥𝐝 and 𝑖𝑡𝑎𝑙𝑖𝑐 letters that posts use for emphasis: Mathematical Alphanumeric Symbols.
_MATHEMATICAL = re.compile("[\U0001d400-\U0001d7ff]")
# Byte order marks, soft hyphens and zero-width spaces. Joiners stay: emoji and
# several scripts are written with them.
_INVISIBLE = re.compile("[\ufeff\u00ad\u200b\u2060]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIXED_SPACES = re.compile("[\u00a0\u202f\u2007]")
_LINE_END_SPACES = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def clean_prose(text: str) -> str:
    """Clean the prose in `text`; fenced code blocks keep each character."""
    parts = _FENCE.split(unify_line_ends(text))
    # split() yields prose, block, the block's fence, prose, …
    cleaned = [
        part if index % 3 == 1 else _apply(part)
        for index, part in enumerate(parts)
        if index % 3 != 2
    ]
    return "".join(cleaned).strip("\n")


def clean_code(text: str) -> str:
    """Source code as it is."""
    return text


def unify_line_ends(text: str) -> str:
    """Windows and old Mac line ends as newlines."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def compose(text: str) -> str:
    """One code point for each accented letter (NFC), so that equal text compares equal."""
    return unicodedata.normalize("NFC", text)


def plain_letters(text: str) -> str:
    """Mathematical bold and italics as the letters they stand for."""
    return _MATHEMATICAL.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)


def drop_invisible(text: str) -> str:
    """Without control characters and what no reader ever sees."""
    return _CONTROL.sub("", _INVISIBLE.sub("", text))


def plain_spaces(text: str) -> str:
    """Fixed-width and unbreakable spaces as spaces; none at the end of a line."""
    return _LINE_END_SPACES.sub("", _FIXED_SPACES.sub(" ", text))


def close_gaps(text: str) -> str:
    """At most one blank line between two paragraphs."""
    return _BLANK_LINES.sub("\n\n", text)


PROSE_STEPS: tuple[Step, ...] = (compose, plain_letters, drop_invisible, plain_spaces, close_gaps)


def _apply(text: str) -> str:
    for step in PROSE_STEPS:
        text = step(text)
    return text
