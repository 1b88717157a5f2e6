"""The state folder of one stack: what lies where, and what it remembers between runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_stack.errors import PortsFixed
from local_stack.ports import Ports
from local_stack.process import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_LIMIT = 20 * 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """What a stack keeps from its first start: its ports, its RabbitMQ node's name, its services.

    `wanted` are the services that `up` was last asked for, which `status` judges.
    """

    ports: Ports
    node: str
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """One started process. `log_start` is where its log began; `since` is in epoch seconds."""

    identity: Identity
    since: float
    log_start: int
    address: str


@dataclass(frozen=True)
class Layout:
    """Folders and files below one state folder, which is an absolute path."""

    root: Path

    @classmethod
    def at(cls, folder: Path | str | None = None) -> Layout:
        """The layout in `folder`, else in LOCAL_STACK_STATE, else in .local here."""
        chosen = folder or os.environ.get("LOCAL_STACK_STATE") or ".local"
        return cls(Path(chosen).resolve())

    def data(self, service: str) -> Path:
        """The folder with a service's data."""
        return self.root / "data" / service

    def log(self, service: str) -> Path:
        """The file that takes what a service prints."""
        return self.root / "logs" / f"{service}.log"

    def open_log(self, service: str, limit: int = LOG_LIMIT) -> Path:
        """The log, ready to be appended to by a new process.

        One of more than `limit` bytes is put aside first, over the one put aside before.
        """
        log = self.log(service)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > limit:
            log.replace(log.with_suffix(".log.1"))
        log.touch()
        return log

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold off any other command that starts or ends services of this stack."""
        folder = self.root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def memory(self) -> Memory | None:
        """What is remembered, or None before the first start."""
        stored = _read(self._memory_file)
        if stored is None:
            return None
        return Memory(Ports(**stored["ports"]), stored["node"], tuple(stored["wanted"]))

    def recall(self, ports: Ports | None) -> Memory:
        """What is remembered, or what will be from the first start on.

        Raises PortsFixed when the stack lives on ports other than `ports`.
        """
        known = self.memory()
        if known is None:
            return Memory(ports or Ports.default(), f"twin-{secrets.token_hex(4)}@localhost")
        if ports is not None and known.ports != ports:
            raise PortsFixed(self.root)
        return known

    def remember(self, memory: Memory) -> None:
        """Keep `memory` for the next run."""
        _write(self._memory_file, asdict(memory))

    def record(self, service: str) -> Record | None:
        """The last process that was started for a service and not ended by us, or None."""
        stored = _read(self._record_file(service))
        if stored is None:
            return None
        return Record(
            Identity(**stored["identity"]),
            stored["since"],
            stored["log_start"],
            stored["address"],
        )

    def keep_record(self, service: str, record: Record) -> None:
        """Write the pid file of a service."""
        _write(self._record_file(service), asdict(record))

    def drop_record(self, service: str) -> None:
        """Forget the process of a service, which has ended."""
        self._record_file(service).unlink(missing_ok=True)

    @property
    def _memory_file(self) -> Path:
        return self.root / "stack.json"

    def _record_file(self, service: str) -> Path:
        return self.root / "run" / f"{service}.json"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return stored


def _write(file: Path, content: dict[str, Any]) -> None:
    """Replace the file at once, so that a kill leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".new")
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    scratch.replace(file)
