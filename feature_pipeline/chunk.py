"""A cleaned document as chunks: slices of its text, each with the header it is embedded with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from core.documents import Section, SourceDocument
from feature_pipeline.clean import clean_code, clean_prose
from feature_pipeline.split import split
from feature_pipeline.units import Unit, code_units, prose_units

VERSION = "chunk-2"

_CODE_TYPES = frozenset({"repositories", "repository_files"})
_PROSE_FILES = (".md", ".markdown", ".mdx", ".rst", ".txt", ".adoc")
# The share of the token budget that a header may take.
_HEADER_SHARE = 4
# To a model a blob of any length is one unknown word; to a reader it is not one passage.
_LONGEST_TOKEN = 100

TokenStarts = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Chunk:
    """`content` is a slice of one cleaned section; `header` says where it stands."""

    content: str
    header: str
    path: str | None

    @property
    def embedded_text(self) -> str:
        """What the model sees."""
        return f"{self.header}\n\n{self.content}" if self.header else self.content

    @property
    def content_hash(self) -> str:
        """SHA-256 in hex of what is embedded."""
        return hashlib.sha256(self.embedded_text.encode()).hexdigest()


@dataclass(frozen=True)
class CleanedDocument:
    """A document after cleaning and chunking, not yet compared with what is stored."""

    source: SourceDocument
    text: str
    chunks: tuple[Chunk, ...]


def prepare(source: SourceDocument, token_starts: TokenStarts, max_tokens: int) -> CleanedDocument:
    """Clean and chunk `source` so that no chunk, header included, exceeds `max_tokens`."""
    sections = [Section(part.path, _clean(source, part)) for part in source.sections]
    chunks = [
        chunk
        for section in sections
        for chunk in _section_chunks(source, section, token_starts, max_tokens)
    ]
    text = "\n\n".join(section.text for section in sections if section.text)
    return CleanedDocument(source, text, tuple(chunks))


def is_code(document_type: str, path: str | None) -> bool:
    """Whether a section is source code, whose every space counts."""
    if document_type not in _CODE_TYPES:
        return False
    return path is None or not path.lower().endswith(_PROSE_FILES)


def _clean(source: SourceDocument, section: Section) -> str:
    code = is_code(source.type, section.path)
    return clean_code(section.text) if code else clean_prose(section.text)


def _section_chunks(
    source: SourceDocument, section: Section, token_starts: TokenStarts, max_tokens: int
) -> Iterator[Chunk]:
    text = section.text
    starts = _dense(token_starts(text), len(text))
    units = code_units(text) if is_code(source.type, section.path) else prose_units(text)
    for headings, group in groupby(units, key=lambda unit: unit.headings):
        header = _header(source, section, headings, token_starts, max_tokens // _HEADER_SHARE)
        budget = max_tokens - len(token_starts(header))
        for part in split(text, list(group), starts, budget):
            content = _slice(text, part)
            if content:
                yield Chunk(content, header, section.path)


def _dense(starts: Sequence[int], end: int) -> list[int]:
    """`starts`, and more of them inside of what is longer than any word."""
    return [
        offset
        for start, following in pairwise([*starts, end])
        for offset in range(start, max(following, start + 1), _LONGEST_TOKEN)
    ]


def _slice(text: str, units: Sequence[Unit]) -> str:
    """From the first unit to the last, with the first line's indentation."""
    return text[units[0].start : units[-1].end].rstrip().lstrip("\n")


def _header(
    source: SourceDocument,
    section: Section,
    headings: Sequence[str],
    token_starts: TokenStarts,
    limit: int,
) -> str:
    place = [source.name, section.path] if source.type in _CODE_TYPES else [source.title]
    names = dict.fromkeys(part for part in (*place, *headings) if part)
    header = " > ".join(names)
    starts = token_starts(header)
    return header if len(starts) <= limit else header[: starts[limit]].rstrip(" >")
