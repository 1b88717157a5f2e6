"""Processes that outlive the command which started them: start, recognise, end.

A process is known by its number, the time it started and the boot it belongs to, so
that a number used again by another program is never signalled. Each runs in a session
of its own and carries a mark in its environment; both serve to find what a dead leader
left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MARK = "LOCAL_STACK_OWNER"
_TICK = 0.02
_KILL_SECONDS = 30


@dataclass(frozen=True)
class Identity:
    """One process for all time. `started` is in clock ticks since the boot `boot`."""

    pid: int
    started: int
    boot: str


@dataclass(frozen=True)
class _Stat:
    pid: int
    state: str
    session: int
    started: int


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, owner: str
) -> Identity:
    """Start `command` in its own session, detached from the terminal, logging to `log`.

    Raises OSError when the program cannot be executed.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**environment, MARK: owner},
            start_new_session=True,
        )
    # Nobody waits through this object: the process is recognised by its identity, and
    # `_stat` reaps it should it end while we live.
    child.returncode = 0
    identity = identify(child.pid)
    return identity or Identity(child.pid, -1, _boot())


def identify(pid: int) -> Identity | None:
    """The identity of the living process `pid`, or None."""
    stat = _stat(pid)
    return None if stat is None else Identity(pid, stat.started, _boot())


def is_alive(identity: Identity) -> bool:
    """Whether exactly this process still runs. A zombie does not."""
    return identify(identity.pid) == identity


def members(identity: Identity) -> list[int]:
    """The living processes of the session that `identity` leads or led, and no others."""
    if identity.boot != _boot():
        return []
    leader = _stat(identity.pid)
    if leader is not None and leader.started != identity.started:
        return []
    found = [stat.pid for stat in _all() if stat.session == identity.pid]
    return [pid for pid in found if leader is not None or owner_of(pid) is not None]


def kill(identity: Identity) -> None:
    """SIGKILL for the whole session, at once; returns when all of it is gone.

    Raises StackError when the kernel does not let go of it.
    """
    deadline = time.monotonic() + _KILL_SECONDS
    seen: set[Identity] = set()
    while left := _remaining(identity, seen):
        if time.monotonic() > deadline:
            pid = left[0].pid
            raise StackError(f"{command_name(pid)} (pid {pid}) does not end by SIGKILL.")
        for one in left:
            _signal(one.pid, signal.SIGKILL)
        time.sleep(_TICK)


def _remaining(identity: Identity, seen: set[Identity]) -> list[Identity]:
    """What is left of a session, of which `seen` was there before.

    A process that is being killed loses its environment, and with it our mark, before
    its ports: once its leader is gone, only who has seen it knows that it is ours.
    """
    seen.update(one for pid in members(identity) if (one := identify(pid)))
    return [one for one in seen if is_alive(one)]


def terminate(identity: Identity, number: signal.Signals) -> None:
    """Ask the process to end, and only if it is still the one that was started."""
    if is_alive(identity):
        _signal(identity.pid, number)


def wait_gone(identity: Identity, timeout: float) -> bool:
    """Wait up to `timeout` seconds for the process itself to end; whether it did."""
    deadline = time.monotonic() + timeout
    while is_alive(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(_TICK)
    return True


def owner_of(pid: int) -> str | None:
    """The state folder of the stack that started `pid`, or None."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    mark = f"{MARK}=".encode()
    return next((os.fsdecode(e[len(mark) :]) for e in entries if e.startswith(mark)), None)


def owned_by(owner: str) -> list[int]:
    """Every living process that carries the mark of the stack in folder `owner`."""
    return [stat.pid for stat in _all() if owner_of(stat.pid) == owner]


def command_name(pid: int) -> str:
    """What `pid` runs, in a word or two."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "a process"
    text = " ".join(os.fsdecode(word) for word in words if word)
    program = Path(text.partition(" ")[0]).name
    module = text.partition(" -m ")[2].partition(" ")[0]
    return f"{program} -m {module}" if module else program or "a process"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        name = command_name(pid)
        raise StackError(f"{name} (pid {pid}) belongs to another user: do this as them.") from None


def _all() -> Iterator[_Stat]:
    for folder in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(folder.name))
        if stat is not None:
            yield stat


def _stat(pid: int) -> _Stat | None:
    """What the kernel says about a process that runs; a zombie of ours is reaped here."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything.
    values = text.rpartition(")")[2].split()
    # While other threads of a killed process still end, it holds its ports and files,
    # although its first thread is a zombie already.
    if values[0] in "ZX" and int(values[17]) <= 1:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return None
    return _Stat(pid, values[0], int(values[3]), int(values[19]))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
