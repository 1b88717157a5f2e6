"""How results reach a terminal, or a program that asked for JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_UNWRAPPED = 10_000


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; plain text where that is no terminal."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(table)


def console() -> Console:
    """Standard output. What is printed is text, never markup, and wrapped on a terminal only."""
    width = None if sys.stdout.isatty() else _UNWRAPPED
    return Console(markup=False, highlight=False, width=width)


def fail(sentence: str) -> None:
    """One sentence on standard error."""
    sys.stderr.write(f"twin: {sentence}\n")
