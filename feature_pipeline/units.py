"""A text as units that are never cut without need, and how strong the border after each is.

A unit of prose is a heading, a sentence or a line of a code block; a unit of code
is a line. Borders have a rank: it is better to cut between paragraphs than within
one, and between functions than within one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = re.compile(r"^ {0,3}(#{1,6})\s++(\S.*)")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
# The end of a sentence: a full stop and a space, or one that needs none.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[”’」』）]*")

WITHIN, LINE, PARAGRAPH, PART = range(4)


@dataclass(frozen=True)
class Unit:
    """`text[start:end]`, the rank of the border before it, and the headings it stands under."""

    start: int
    end: int
    border: int
    headings: tuple[str, ...] = ()


def prose_units(text: str) -> Iterator[Unit]:
    """The units of Markdown or plain text, in order, without the blank space between."""
    headings: list[tuple[int, str]] = []
    fence: str | None = None
    border = PART
    for start, end in _lines(text):
        line = text[start:end]
        if not line.strip():
            border = max(border, PARAGRAPH) if fence is None else border
            continue
        mark = _FENCE.match(line)
        heading = _HEADING.match(line) if fence is None else None
        if heading:
            headings = [item for item in headings if item[0] < len(heading[1])]
            headings.append((len(heading[1]), _title(heading[2])))
            border = PART
        path = tuple(name for _, name in headings)
        if fence is not None or mark or heading:
            yield Unit(start, end, border, path)
        else:
            yield from _sentences(text, start, end, border, path)
        fence = _next_fence(fence, mark)
        border = LINE


def _title(text: str) -> str:
    """Without the marks that may close a heading."""
    return text.rstrip().rstrip("#").rstrip() or text[0]


def code_units(text: str) -> Iterator[Unit]:
    """The non-blank lines of source code. A border is strong where a definition may begin."""
    blank = True
    for start, end in _lines(text):
        line = text[start:end]
        if not line.strip():
            blank = True
            continue
        indented = line[0].isspace()
        yield Unit(start, end, _code_border(blank=blank, indented=indented))
        blank = False


def _code_border(*, blank: bool, indented: bool) -> int:
    if blank:
        return PARAGRAPH if indented else PART
    return WITHIN if indented else LINE


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, start + len(line.rstrip("\r\n"))
        start += len(line)


def _sentences(
    text: str, start: int, end: int, border: int, headings: tuple[str, ...]
) -> Iterator[Unit]:
    begin = start
    for found in _SENTENCE_END.finditer(text, start, end):
        if text[begin : found.start()].strip() and found.end() < end:
            yield Unit(begin, found.start(), border, headings)
            begin, border = found.end(), WITHIN
    if text[begin:end].strip():
        yield Unit(begin, end, border, headings)


def _next_fence(fence: str | None, mark: re.Match[str] | None) -> str | None:
    if mark is None:
        return fence
    if fence is None:
        return mark[1]
    return None if mark[1].startswith(fence) else fence
