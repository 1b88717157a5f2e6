"""Processes seen from outside: their memory, and the processors that they may use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from local_stack import process
from local_stack.stack import LocalStack

_MONGO = ("mongo1", "mongo2", "mongo3")
_BROKER = ("mq",)


def resident_mb(pid: int) -> float:
    """The memory that a process holds now, in MB of 1,000,000 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes.split()[1]) * 1024 / 1e6


def can_part() -> bool:
    """Whether this machine has processors enough for two halves."""
    return len(os.sched_getaffinity(0)) > 1


def halves() -> tuple[set[int], set[int]]:
    """The processors that this process may use, in two."""
    every = sorted(os.sched_getaffinity(0))
    middle = (len(every) + 1) // 2
    return set(every[:middle]), set(every[middle:])


@contextmanager
def parted(stack: LocalStack) -> Iterator[set[int]]:
    """MongoDB and this process on one half of the processors; the other half, where the broker is.

    As if the database had a machine of its own: what is then slower costs the
    database itself, and does not merely take turns with it.
    """
    every = os.sched_getaffinity(0)
    first, second = halves()
    database, broker = _pids(stack, _MONGO), _pids(stack, _BROKER)
    try:
        _pin([*database, os.getpid()], first)
        _pin(broker, second)
        yield second
    finally:
        _pin([*database, *broker, os.getpid()], every)


def _pids(stack: LocalStack, services: Iterable[str]) -> list[int]:
    found: list[int] = []
    for service in services:
        pid = stack.pid(service)
        identity = None if pid is None else process.identify(pid)
        if identity is not None:
            found += process.members(identity)
    return found


def _pin(pids: Iterable[int], processors: set[int]) -> None:
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), processors)
