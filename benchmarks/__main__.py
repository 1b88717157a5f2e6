"""Measures what README quotes: `python -m benchmarks cdc`.

Starts a MongoDB replica set and a RabbitMQ node of its own on free ports, and ends
them. Each figure is the median of several rounds, next to a baseline that was
measured in the same rounds.

Exit status: 0 every aim is met; 1 unexpected; 2 usage; 3 a service could not be
started or did not answer; 4 an aim is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cdc import PARTS
from benchmarks.figures import Row
from benchmarks.report import markdown, print_rows, write_json
from benchmarks.stage import stage
from core.errors import TwinError

_MISSED = 4
_UNREACHABLE = 3


def main() -> int:
    """Parse, measure, tell; what was measured before a failure is told, too."""
    arguments = _parser().parse_args()
    rows: list[Row] = []
    status = 0
    try:
        for part in measure(arguments.only, quick=arguments.quick):
            rows += part
    except TwinError as error:
        print(error, file=sys.stderr)
        status = _UNREACHABLE
    if arguments.markdown:
        print(markdown(rows))
    else:
        print_rows(rows)
    if arguments.json:
        write_json(rows, arguments.json)
    return status or (_MISSED if any(row.met is False for row in rows) else 0)


def measure(parts: list[str], *, quick: bool) -> Iterator[list[Row]]:
    """The rows of each of `parts`, one part after the other on one stack."""
    with stage() as place:
        for name in parts:
            begun = time.monotonic()
            yield PARTS[name](place, quick)
            print(f"{name}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    subjects = parser.add_subparsers(dest="subject", required=True)
    cdc = subjects.add_parser(
        "cdc", help="change capture: rate, weight on the primary, memory, lag"
    )
    cdc.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: about 2 minutes"
    )
    cdc.add_argument(
        "--only",
        type=_parts,
        default=list(PARTS),
        metavar="PARTS",
        help=f"some of {','.join(PARTS)}",
    )
    cdc.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there")
    cdc.add_argument("--markdown", action="store_true", help="print the table as README has it")
    return parser


def _parts(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [name for name in PARTS if name in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
