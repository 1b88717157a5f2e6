"""The local stack: the services of docker-compose.yml as processes of this machine.

    with running_stack(tmp_path / "stack", services=("mongo", "mq")) as stack:
        env = stack.environment()
        stack.kill("mq")
        stack.start("mq")

Nothing watches the services: one that dies stays dead until the next `up` or `start`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from local_stack import process
from local_stack.errors import UnknownService
from local_stack.layout import Layout
from local_stack.mongo import MEMBERS, mongo_specs
from local_stack.own_services import client_environment, own_specs
from local_stack.ports import Ports
from local_stack.qdrant_service import qdrant_spec
from local_stack.rabbitmq import control_environment, rabbitmq_specs, server_script
from local_stack.service import Context, Options, ServiceSpec, select, waves
from local_stack.startup import Report, Startup

if TYPE_CHECKING:
    from local_stack.layout import Record

# Names that stand for several services.
GROUPS = {
    "mongo": MEMBERS,
    "mq": ("epmd", "mq"),
    "infra": (*MEMBERS, "epmd", "mq", "qdrant"),
    "services": ("data-crawlers", "data_cdc", "feature_pipeline"),
}
EVERYTHING = ("infra", "services")
INFRASTRUCTURE = ("infra",)

State = Literal["running", "stopped", "dead"]


@dataclass(frozen=True)
class ServiceStatus:
    """One row of `status`. `since` is in epoch seconds; `dead` ended without being told to."""

    service: str
    state: State
    pid: int | None
    address: str
    since: float | None


@dataclass(frozen=True)
class _Ending:
    spec: ServiceSpec
    identity: process.Identity
    lived: bool

    def finish(self, left: float) -> str:
        """Wait the seconds that are left, kill what remains, say what happened."""
        in_time = process.wait_gone(self.identity, left)
        process.kill(self.identity)
        how = "ended" if in_time else f"killed after {self.spec.stop_timeout:.0f} s"
        how = how if self.lived else "had died before"
        return f"{self.spec.name:<17} {how:<18} pid {self.identity.pid}"


def _silent(_line: str) -> None:
    return


class LocalStack:
    """One stack in one state folder. Creating the object starts and writes nothing.

    `ports` counts until something has started and must not differ later. `services` names
    services or groups; left out, it is what was asked for last time, else everything.
    Methods may be called from any process that can write the folder: a lock orders them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        ports: Ports | None = None,
        services: Sequence[str] = (),
        options: Options | None = None,
        report: Report = _silent,
    ) -> None:
        self.layout = layout
        self._memory = layout.recall(ports)
        self._context = Context(layout, self._memory.ports, self._memory.node, options or Options())
        self._specs = _all_specs(self._context)
        asked = tuple(services) or self._memory.wanted or EVERYTHING
        self._wanted = select(self._specs, asked, GROUPS)
        self._report = report

    @property
    def ports(self) -> Ports:
        """Where the services listen."""
        return self._memory.ports

    @property
    def services(self) -> tuple[str, ...]:
        """The services of this stack object, in the order they start."""
        return tuple(spec.name for wave in waves(self._wanted) for spec in wave)

    def environment(self) -> dict[str, str]:
        """The variables with which clients and services reach this stack."""
        return client_environment(self._context)

    def up(self) -> None:
        """Start what does not run and wait until all of it is ready. Idempotent.

        Raises MissingDependency or PortTaken before anything starts, else ServiceFailed
        for the first service that ends or is late; what has started goes on.
        """
        with self.layout.lock():
            names = tuple(spec.name for spec in self._wanted)
            self._memory = replace(self._memory, wanted=names)
            self._bring_up(self._wanted)

    def down(self) -> None:
        """End every process that this stack started, in any run, and nothing else. Idempotent."""
        if not self.layout.root.exists():
            return
        with self.layout.lock():
            for wave in reversed(waves(self._specs)):
                self._end(wave)
            for pid in process.owned_by(str(self.layout.root)):
                self._end_stray(pid)

    def start(self, service: str) -> None:
        """Start one service, if it does not run, and wait until it is ready."""
        with self.layout.lock():
            self._bring_up([self._spec(service)])

    def stop(self, service: str) -> None:
        """End one service in good order: its signal first, SIGKILL after its timeout."""
        with self.layout.lock():
            self._end([self._spec(service)])

    def kill(self, service: str) -> None:
        """SIGKILL for every process of one service, at once. It then counts as dead."""
        record = self.layout.record(self._spec(service).name)
        if record:
            process.kill(record.identity)

    def pid(self, service: str) -> int | None:
        """The main process of a service that runs, else None."""
        record = self._alive(self._spec(service))
        return record.identity.pid if record else None

    def log_path(self, service: str) -> Path:
        """The file that takes what a service prints. It may not exist yet."""
        return self.layout.log(self._spec(service).name)

    def status(self) -> list[ServiceStatus]:
        """How each service of this stack object is, by its process alone."""
        specs = {spec.name: spec for spec in self._wanted}
        return [self._status(specs[name]) for name in self.services]

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this stack's node; its output.

        Raises subprocess.CalledProcessError. Takes a second or two.
        """
        done = subprocess.run(
            [str(Path(server_script()).parent / "rabbitmqctl"), *arguments],
            env=control_environment(self._context),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def _bring_up(self, specs: Sequence[ServiceSpec]) -> None:
        startup = Startup(self.layout, specs, self._report)
        startup.check()
        # From here on there may be data, which remembers the ports.
        self.layout.remember(self._memory)
        startup.run()

    def _spec(self, service: str) -> ServiceSpec:
        for spec in self._specs:
            if spec.name == service:
                return spec
        raise UnknownService(service, tuple(spec.name for spec in self._specs))

    def _alive(self, spec: ServiceSpec) -> Record | None:
        record = self.layout.record(spec.name)
        return record if record and process.is_alive(record.identity) else None

    def _status(self, spec: ServiceSpec) -> ServiceStatus:
        record = self.layout.record(spec.name)
        if record is None:
            return ServiceStatus(spec.name, "stopped", None, spec.address, None)
        if not process.is_alive(record.identity):
            return ServiceStatus(spec.name, "dead", None, record.address, None)
        return ServiceStatus(
            spec.name, "running", record.identity.pid, record.address, record.since
        )

    def _end(self, specs: Sequence[ServiceSpec]) -> None:
        found = [(spec, self.layout.record(spec.name)) for spec in specs]
        ending = [
            _Ending(spec, record.identity, bool(process.members(record.identity)))
            for spec, record in found
            if record
        ]
        for one in ending:
            process.terminate(one.identity, one.spec.stop_signal)
        begun = time.monotonic()
        for one in ending:
            self._report(one.finish(one.spec.stop_timeout - (time.monotonic() - begun)))
            self.layout.drop_record(one.spec.name)

    def _end_stray(self, pid: int) -> None:
        identity = process.identify(pid)
        if identity:
            name = process.command_name(pid)
            process.kill(identity)
            self._report(f"{name:<17} killed             pid {pid}, left behind by a service")


@contextlib.contextmanager
def running_stack(
    state_dir: Path | str,
    ports: Ports | None = None,
    services: Sequence[str] = INFRASTRUCTURE,
    options: Options | None = None,
    report: Report = _silent,
) -> Iterator[LocalStack]:
    """A stack that is up inside the block and down after it, on free ports by default.

    A guard process ends it too when this process is killed.
    """
    layout = Layout.at(state_dir)
    known = layout.memory()
    chosen = ports or (known.ports if known else Ports.free())
    stack = LocalStack(layout, ports=chosen, services=services, options=options, report=report)
    with _guarded(layout):
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


@contextlib.contextmanager
def _guarded(layout: Layout) -> Iterator[None]:
    layout.root.mkdir(parents=True, exist_ok=True)
    guard = subprocess.Popen(
        [sys.executable, "-m", "local_stack.guard", str(layout.root)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    with guard:
        yield
        guard.communicate(b"done")


def _all_specs(context: Context) -> list[ServiceSpec]:
    return [
        *mongo_specs(context),
        *rabbitmq_specs(context),
        qdrant_spec(context),
        *own_specs(context),
    ]
