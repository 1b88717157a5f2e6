"""What a service is to the stack: a declaration, from which everything else follows."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.errors import UnknownService

if TYPE_CHECKING:
    from local_stack.layout import Layout
    from local_stack.ports import Ports


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a stack does differently from its default. Not kept in the state folder.

    `environment` is added to that of our own services. `mongo_test_commands` allows
    failCommand and the like. `management` is RabbitMQ's web page and HTTP interface,
    which costs five seconds when the node stops.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    mongo_test_commands: bool = False
    oplog_mb: int = 512
    management: bool = True
    rabbitmq_username: str = "guest"
    rabbitmq_password: str = field(default="guest", repr=False)


@dataclass(frozen=True)
class LogView:
    """The part of a service's log that its present process has written."""

    path: Path
    start: int = 0

    def lines(self) -> Iterator[str]:
        """Each line since the start, without its end."""
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(self.start)
            for line in handle:
                yield line.decode(errors="replace").rstrip("\n")

    def tail(self, count: int = 12) -> str:
        """The last lines, indented for an error message."""
        return "\n".join(f"    {line}" for line in deque(self.lines(), maxlen=count))

    def has_event(self, event: str) -> bool:
        """Whether a JSON line with this `event` was written. Reads no further than that line."""
        return any(_event(line) == event for line in self.lines() if event in line)


def _event(line: str) -> object:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed.get("event") if isinstance(parsed, dict) else None


# Called again and again until it returns None; till then it returns why the service is
# not ready. It may take the next step of a set-up, must be safe to repeat, and must
# answer within a second or two. A StackError from it ends the start.
Readiness = Callable[[LogView], str | None]


def _nothing() -> None:
    return


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A service. `command` raises MissingDependency where its program is not installed.

    `prepare` writes configuration before a start and is idempotent. `needs` are started
    and ready before, and ended after; those not asked for are taken to run elsewhere.
    `ports` maps a purpose to a port on 127.0.0.1. Times are in seconds.
    """

    name: str
    command: Callable[[], Sequence[str]]
    address: str
    ports: Mapping[str, int]
    folder: Path
    environment: Mapping[str, str]
    ready: Readiness
    prepare: Callable[[], None] = _nothing
    needs: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    start_timeout: float = 60
    stop_timeout: float = 20


@dataclass(frozen=True)
class Context:
    """All that a spec is made from."""

    layout: Layout
    ports: Ports
    node: str
    options: Options


def bare_environment(home: Path) -> dict[str, str]:
    """An environment for other people's servers, which no setting of ours or theirs leaks into."""
    names = ("PATH", "PYTHONPATH", "TZ", "TMPDIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **kept, "HOME": str(home)}


def waves(specs: Sequence[ServiceSpec]) -> list[list[ServiceSpec]]:
    """The specs in the order they start: each wave needs only what stands in earlier ones."""
    left = list(specs)
    ordered: list[list[ServiceSpec]] = []
    while left:
        waiting = {spec.name for spec in left}
        wave = [spec for spec in left if waiting.isdisjoint(spec.needs)]
        if not wave:
            raise ValueError(f"services need each other in a circle: {sorted(waiting)}")
        ordered.append(wave)
        left = [spec for spec in left if spec not in wave]
    return ordered


def select(
    specs: Sequence[ServiceSpec], asked: Sequence[str], groups: Mapping[str, tuple[str, ...]]
) -> list[ServiceSpec]:
    """The specs that the names `asked` for stand for; a group is a name for several."""
    known = {spec.name: spec for spec in specs}
    wanted: set[str] = set()
    for name in asked:
        if name not in known and name not in groups:
            raise UnknownService(name, (*groups, *known))
        wanted.update(groups.get(name, (name,)))
    return [spec for spec in specs if spec.name in wanted]


def http_problem(port: int, path: str) -> str | None:
    """None when a GET of `path` on 127.0.0.1 is answered with status 200, else why not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {path} on port {port}: {error}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"GET {path} on port {port}: status {status}"
