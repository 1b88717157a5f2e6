"""Killing services at random, and starting them again at once, as Docker would."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from local_stack.mongo import MEMBERS
from local_stack.stack import LocalStack
from tests.twin_harness import READY, ServiceProcess

KINDS = ("data_cdc", "feature_pipeline", "mq", "primary")
# A broker that dies sooner may lose the leader of a quorum queue for good (RabbitMQ 3.10).
_BROKER_REST_S = 3.0


class Journal:
    """What happened when, for whoever reads a failure."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.lines: list[str] = []

    def clock(self) -> float:
        """Seconds since the test began."""
        return time.monotonic() - self._begun

    def note(self, text: str) -> None:
        """One line, with its time."""
        self.lines.append(f"{self.clock():7.2f} s  {text}")


class Keeper(threading.Thread):
    """Starts a service again whenever it ends, as Docker would.

    `ended` are the exit statuses of those that ended without being killed.
    """

    def __init__(self, service: ServiceProcess, journal: Journal) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._journal = journal
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._ready_before = 0
        self.ended: list[int] = []
        self._begin()

    def run(self) -> None:
        while not self._ending.wait(0.05):
            with self._lock, suppress(subprocess.TimeoutExpired):
                self._take(self._service.wait(timeout=0))
                self._begin()

    def strike(self) -> None:
        """Kill it and start it again."""
        with self._lock:
            self._service.kill()
            self._begin()

    def end(self) -> None:
        """Leave the service to itself."""
        self._ending.set()
        self.join()

    @property
    def ready(self) -> bool:
        """Whether the present process has said that it works."""
        return self._count() > self._ready_before

    def _begin(self) -> None:
        self._ready_before = self._count()
        self._service.start(ready=False)

    def _take(self, status: int) -> None:
        self.ended.append(status)
        self._journal.note(f"{self._service.module} ended by itself with status {status}")
        self._ending.wait(1)

    def _count(self) -> int:
        return self._service.text().count(READY[self._service.module])


class Killer:
    """SIGKILL for one victim at a time; what runs in `infra` is started again at once.

    But every other primary only after another was elected: started at once, it stays one.
    """

    def __init__(self, infra: LocalStack, keepers: Mapping[str, Keeper], journal: Journal) -> None:
        self._infra = infra
        self._keepers = keepers
        self._journal = journal
        self._broker_rests_until = 0.0
        self._restarts: list[threading.Thread] = []
        self.count: Counter[str] = Counter()
        self.errors: list[str] = []

    def strike(self, kind: str) -> bool:
        """Kill one of this kind, unless that would be more than is promised to be survived."""
        victim = self._victim(kind)
        if victim is None:
            return False
        self.count[kind] += 1
        self._journal.note(f"kill {kind}{self._condition(kind, victim)}")
        if kind in self._keepers:
            self._keepers[kind].strike()
        else:
            self._infra.kill(victim)
            restart = threading.Thread(target=self._restart, args=(victim,), daemon=True)
            self._restarts.append(restart)
            restart.start()
        return True

    def rest(self, timeout: float = 120) -> None:
        """Wait until everything is up again."""
        for restart in self._restarts:
            restart.join(timeout)
        deadline = time.monotonic() + timeout
        while not (all(keeper.ready for keeper in self._keepers.values()) and self._whole()):
            if time.monotonic() > deadline:
                self.errors.append(f"not everything is up {timeout:.0f} s after the last kill")
                return
            time.sleep(0.2)

    def _victim(self, kind: str) -> str | None:
        match kind:
            case "mq":
                rested = time.monotonic() > self._broker_rests_until
                return "mq" if rested and self._infra.pid("mq") else None
            case "primary":
                # Two of three at once would take the majority, which nobody survives.
                roles = standing(self._infra)
                return roles.get("primary") if len(roles) == len(MEMBERS) else None
            case _:
                return kind

    def _condition(self, kind: str, victim: str) -> str:
        if kind in self._keepers:
            return "" if self._keepers[kind].ready else " (which was still starting)"
        return f" {victim}" if kind == "primary" else ""

    def _restart(self, name: str) -> None:
        begun = time.monotonic()
        if name == "mq":
            self._broker_rests_until = float("inf")
        elif self.count["primary"] % 2:
            self._await_election()
        try:
            self._infra.start(name)
        except Exception as error:  # noqa: BLE001 - told to the test
            self.errors.append(f"{name} does not start again: {error!r} {error}")
            return
        if name == "mq":
            self._broker_rests_until = time.monotonic() + _BROKER_REST_S
        self._journal.note(f"{name} is back after {time.monotonic() - begun:.1f} s")

    def _await_election(self) -> None:
        deadline = time.monotonic() + 60
        while "primary" not in (roles := standing(self._infra)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._journal.note(f"elected: {roles.get('primary')}")

    def _whole(self) -> bool:
        return len(standing(self._infra)) == len(MEMBERS) and self._infra.pid("mq") is not None


def standing(infra: LocalStack) -> dict[str, str]:
    """Members by their roles in good standing: `primary`, and the others under their names."""
    roles = {}
    for name in MEMBERS:
        try:
            with MongoClient[dict[str, Any]](
                "localhost",
                getattr(infra.ports, name),
                directConnection=True,
                serverSelectionTimeoutMS=500,
            ) as client:
                hello = client.admin.command("hello")
        except PyMongoError:
            continue
        if hello.get("isWritablePrimary"):
            roles["primary"] = name
        elif hello.get("secondary"):
            roles[name] = name
    return roles


def schedule(chance: random.Random) -> Iterator[list[str]]:
    """Whom to kill next, and whom instead: each kind once, in any order, then at random."""
    first = chance.sample(KINDS, len(KINDS))
    while True:
        rest = chance.sample(KINDS, len(KINDS))
        yield [first.pop(), *rest] if first else rest
