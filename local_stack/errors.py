"""What can go wrong while services of the local stack start, each with what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import TerminalError

if TYPE_CHECKING:
    from pathlib import Path


class StackError(TerminalError):
    """The local stack is not what was asked for. Other services of it may run."""

    exit_status = 4


class PortTaken(StackError):
    """A port that a service needs is in use by a process that is not that service."""

    def __init__(self, port: int, purpose: str, service: str, holder: str | None) -> None:
        self.port = port
        self.service = service
        self.holder = holder
        super().__init__(
            f"port {port} ({purpose} of {service}) is taken by {holder or 'another program'}. "
            "End that, or start a stack in a new folder on other ports: "
            ".venv/bin/python -m local_stack up --state DIR --free-ports, or --base-port N."
        )


class PortsFixed(StackError):
    """The state folder belongs to a stack on other ports, which its replica set remembers."""

    def __init__(self, state: Path) -> None:
        super().__init__(
            f"the stack in {state} was made on other ports, and its data remembers them. "
            "Leave the ports out, name another folder with --state, or, to begin without data: "
            "make local-stop, and remove the folder."
        )


class ServiceFailed(StackError):
    """A service ended or did not become ready in time; `tail` is the end of its log."""

    def __init__(self, service: str, problem: str, log: Path, tail: str) -> None:
        self.service = service
        self.log = log
        said = f"\n{tail}" if tail else " It wrote nothing."
        super().__init__(f"{service} {problem}. The end of {log}:{said}")


class UnknownService(StackError):
    """A name that is none of the stack's services."""

    exit_status = 2

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no service {name!r}. Known: {', '.join(known)}.")
