"""Processes are recognised for what they are, and only ours are ended."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from local_stack import process
from local_stack.layout import Layout, Record
from local_stack.ports import can_bind
from local_stack.stack import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local_stack.process import Identity


def _spawn(folder: Path, *command: str) -> Identity:
    return process.spawn(
        command,
        environment={"PATH": "/usr/bin:/bin"},
        folder=folder,
        log=folder / "log",
        owner=str(folder),
    )


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Identity]:
    identity = _spawn(tmp_path, "sleep", "60")
    yield identity
    process.kill(identity)


def test_a_living_process_is_recognised(sleeper: Identity) -> None:
    """A process is alive for the identity that it was started with."""
    assert process.is_alive(sleeper)
    assert process.identify(sleeper.pid) == sleeper


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "an earlier one"}])
def test_a_number_used_again_is_another_process(
    sleeper: Identity, change: dict[str, object]
) -> None:
    """The same number with another start or boot is neither alive nor ever signalled."""
    stranger = replace(sleeper, **change)  # type: ignore[arg-type]
    process.terminate(stranger, signal.SIGTERM)
    process.kill(stranger)
    assert not process.is_alive(stranger)
    assert process.is_alive(sleeper)


def test_a_child_that_ended_is_not_alive(tmp_path: Path) -> None:
    """A process that ended counts as gone at once, although its parent never waited for it."""
    identity = _spawn(tmp_path, "true")
    assert process.wait_gone(identity, timeout=5)


def test_a_killed_process_has_let_go_of_its_ports(tmp_path: Path) -> None:
    """Killing returns only when every thread has ended, so that ports and locks are free."""
    program = (
        "import socket, threading, time; s = socket.create_server(('127.0.0.1', 0))\n"
        "for _ in range(200): threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print(s.getsockname()[1], flush=True)"
    )
    identity = _spawn(tmp_path, sys.executable, "-c", program)
    while not (said := (tmp_path / "log").read_text()).endswith("\n"):
        time.sleep(0.02)
    process.kill(identity)
    assert can_bind(int(said))


def test_a_killed_child_has_let_go_of_its_ports(tmp_path: Path) -> None:
    """Killing also waits for children whose memory takes a while, although their leader is gone."""
    program = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); x = b'x' * 5 * 10**8\n"
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    (tmp_path / "server.py").write_text(program)
    identity = _spawn(tmp_path, "sh", "-c", f"{sys.executable} server.py; true")
    while not (said := (tmp_path / "log").read_text()).endswith("\n"):
        time.sleep(0.02)
    process.kill(identity)
    assert can_bind(int(said))


def test_killing_reaches_what_a_dead_leader_left(tmp_path: Path) -> None:
    """The children of a service whose main process died are found and ended."""
    identity = _spawn(tmp_path, "sh", "-c", "sleep 60 & sleep 0.2")
    assert process.wait_gone(identity, timeout=5)
    assert process.members(identity)
    process.kill(identity)
    assert process.owned_by(str(tmp_path)) == []


def test_down_leaves_a_stranger_alone(tmp_path: Path, sleeper: Identity) -> None:
    """`down` does not signal a process that now has the number of one of its services."""
    layout = Layout.at(tmp_path / "stack")
    layout.keep_record("mq", Record(replace(sleeper, started=1), time.time(), 0, ""))
    said: list[str] = []
    LocalStack(layout, report=said.append).down()
    assert process.is_alive(sleeper)
    assert "had died before" in said[0]


def test_down_ends_only_marked_processes(tmp_path: Path, sleeper: Identity) -> None:
    """What carries the mark of another state folder is not ours to end."""
    (tmp_path / "stack").mkdir()
    LocalStack(Layout.at(tmp_path / "stack")).down()
    assert process.is_alive(sleeper)


def test_a_name_says_which_module_runs(tmp_path: Path, sleeper: Identity) -> None:
    """A Python program is named by its module, any other by its file."""
    server = _spawn(tmp_path, sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0")
    assert process.command_name(sleeper.pid) == "sleep"
    assert process.command_name(server.pid).endswith("-m http.server")
    process.kill(server)
