"""The table on the terminal, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Row, Samples

_COLUMNS = ("figure", "measured", "baseline in the same run", "ratio", "aim", "")
_VERDICTS = {True: "met", False: "MISSED", None: ""}
# Wide enough for every row where the output is a file.
_WIDTH = 160


def machine() -> str:
    """This machine in general words."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return f"{len(os.sched_getaffinity(0))} cores, {system}, Python {platform.python_version()}"


def print_rows(rows: Iterable[Row]) -> None:
    """Medians of the rounds, with the smallest and the largest value in brackets."""
    table = Table(title=f"Measured on {machine()}", title_justify="left", box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*cells(row))
    console = Console(markup=False, highlight=False)
    (console if console.is_terminal else Console(markup=False, width=_WIDTH)).print(table)


def markdown(rows: Iterable[Row]) -> str:
    """The table as README has it."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table as text."""
    return (
        row.figure,
        f"{shown(row.measured)} {row.unit}",
        "" if row.baseline is None else f"{shown(row.baseline)} {row.unit} {row.against}",
        "" if row.ratio is None else shown(row.ratio),
        "" if row.aim is None else str(row.aim),
        _VERDICTS[row.met],
    )


def shown(samples: Samples) -> str:
    """A median and, where there were several rounds, its spread."""
    if len(samples.values) == 1:
        return _number(samples.median)
    low, high = samples.spread
    return f"{_number(samples.median)} ({_number(low)} to {_number(high)})"


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Everything that was measured."""
    content = {
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
