"""Printing what services have printed, and going on while they do."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TICK = 0.2


def print_logs(logs: Mapping[str, Path], *, lines: int | None, follow: bool) -> None:
    """Print the last `lines` of each log, or all of it; with `follow`, then what comes.

    Several logs are told apart by the service's name before each line. Following ends
    by an interrupt only.
    """
    width = max(len(name) for name in logs) if len(logs) > 1 else 0
    tails = [Tail(path, f"{name:<{width}} | " if width else "") for name, path in logs.items()]
    for tail in tails:
        tail.print_new(lines)
    while follow:
        time.sleep(_TICK)
        for tail in tails:
            tail.print_new(None)


class Tail:
    """One log file, read on from where the last call ended, also after it was rotated."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._position = 0

    def print_new(self, lines: int | None) -> None:
        """Print the last `lines`, or all, of the complete lines that are new."""
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._position:
            self._position = 0
        with self._path.open("rb") as handle:
            handle.seek(self._position)
            for line in deque(self._complete(handle), maxlen=lines):
                sys.stdout.write(f"{self._prefix}{line.decode(errors='replace')}")
        sys.stdout.flush()

    def _complete(self, handle: BinaryIO) -> list[bytes]:
        found = [line for line in handle if line.endswith(b"\n")]
        self._position += sum(len(line) for line in found)
        return found
