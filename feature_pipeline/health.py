"""Whether a feature pipeline on this machine is alive: a file that it touches while it consumes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

# Longer than a batch takes, shorter than a person waits.
FRESH_S = 120.0
_TOUCH_EVERY_S = 1.0


class Pulse:
    """Touches the file of one queue, at most once a second. Removes it when told to."""

    def __init__(self, queue: str) -> None:
        self._path = path_of(queue)
        self._next = 0.0

    def beat(self) -> None:
        """Say that the pipeline consumes. Cheap enough for every batch."""
        now = time.monotonic()
        if now >= self._next:
            self._path.touch()
            self._next = now + _TOUCH_EVERY_S

    def stop(self) -> None:
        """Say that it does not any more."""
        self._path.unlink(missing_ok=True)


def is_alive(queue: str) -> bool:
    """Whether a pipeline of this machine consumed `queue` within the last FRESH_S seconds."""
    try:
        age = time.time() - path_of(queue).stat().st_mtime
    except FileNotFoundError:
        return False
    return age <= FRESH_S


def path_of(queue: str) -> Path:
    """The file of `queue`, in the folder for temporary files."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in queue)
    return Path(tempfile.gettempdir()) / f"llm-twin-feature-pipeline-{safe}.alive"
