"""Where a process runs, so that its fellow on the same machine can see that it died."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Whereabouts:
    """One process. `space` is where its `pid` means something: a boot of one kernel, and one
    container; None where that cannot be told.
    """

    name: str
    pid: int
    space: str | None

    @classmethod
    def here(cls) -> Self:
        """This process, under a name that no other has or had."""
        pid = os.getpid()
        return cls(f"{socket.gethostname()}:{pid}:{uuid.uuid4().hex[:6]}", pid, _space())

    def sees_dead(self, pid: int, space: str | None) -> bool:
        """Whether the process `pid` of `space` is surely gone; False where we cannot know."""
        if self.space is None or space != self.space or pid == self.pid:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def _space() -> str | None:
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PID_NAMESPACE.readlink()}"
    except OSError:
        return None
