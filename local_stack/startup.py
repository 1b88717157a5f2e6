"""Bringing services up: check first, start what is down, wait until each is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_stack import process
from local_stack.errors import ServiceFailed
from local_stack.layout import Record
from local_stack.ports import require_free
from local_stack.service import LogView

if TYPE_CHECKING:
    from local_stack.layout import Layout
    from local_stack.process import Identity
    from local_stack.service import ServiceSpec

Report = Callable[[str], None]
_TICK = 0.05


@dataclass(frozen=True)
class _Starting:
    spec: ServiceSpec
    identity: Identity
    log: LogView
    begun: float
    fresh: bool


class Startup:
    """One `up`. What already runs is left as it is; independent services start side by side."""

    def __init__(self, layout: Layout, specs: Sequence[ServiceSpec], report: Report) -> None:
        self._layout = layout
        self._specs = specs
        self._report = report

    def run(self) -> None:
        """Return when all are ready. To be called after `check`.

        Raises ServiceFailed or another StackError; what has started then goes on.
        """
        waiting, starting = list(self._specs), list[_Starting]()
        while waiting or starting:
            unfinished = {spec.name for spec in (*waiting, *(one.spec for one in starting))}
            free = [spec for spec in waiting if unfinished.isdisjoint(spec.needs)]
            waiting = [spec for spec in waiting if spec not in free]
            starting += [self._begin(spec) for spec in free]
            starting = [one for one in starting if not self._finished(one)]
            time.sleep(_TICK)

    def check(self) -> None:
        """Raise MissingDependency or PortTaken where the start cannot work. Starts nothing."""
        for spec in self._specs:
            spec.command()
        for spec in self._specs:
            if self._running(spec) is None:
                self._clear_remains(spec)
                for purpose, port in spec.ports.items():
                    require_free(port, purpose, spec.name)

    def _running(self, spec: ServiceSpec) -> Record | None:
        record = self._layout.record(spec.name)
        return record if record and process.is_alive(record.identity) else None

    def _clear_remains(self, spec: ServiceSpec) -> None:
        """End what a service left behind whose main process was killed."""
        record = self._layout.record(spec.name)
        if record:
            process.kill(record.identity)

    def _begin(self, spec: ServiceSpec) -> _Starting:
        record = self._running(spec)
        fresh = record is None
        if record is None:
            record = self._launch(spec)
            self._layout.keep_record(spec.name, record)
        log = LogView(self._layout.log(spec.name), record.log_start)
        return _Starting(spec, record.identity, log, time.monotonic(), fresh)

    def _launch(self, spec: ServiceSpec) -> Record:
        spec.folder.mkdir(parents=True, exist_ok=True)
        spec.prepare()
        log = self._layout.open_log(spec.name)
        start = log.stat().st_size
        try:
            identity = process.spawn(
                spec.command(),
                environment=spec.environment,
                folder=spec.folder,
                log=log,
                owner=str(self._layout.root),
            )
        except OSError as error:
            raise ServiceFailed(spec.name, f"could not be started: {error}", log, "") from error
        return Record(identity, time.time(), start, spec.address)

    def _finished(self, one: _Starting) -> bool:
        waited = time.monotonic() - one.begun
        if not process.is_alive(one.identity):
            raise self._failed(one, "ended while it started")
        problem = one.spec.ready(one.log)
        if problem is None:
            how = f"ready after {waited:.1f} s" if one.fresh else "already running"
            self._report(f"{one.spec.name:<17} {how:<18} {one.spec.address}")
        elif waited > one.spec.start_timeout:
            raise self._failed(one, f"is not ready after {waited:.0f} s: {problem}")
        return problem is None

    def _failed(self, one: _Starting, problem: str) -> ServiceFailed:
        return ServiceFailed(one.spec.name, problem, one.log.path, one.log.tail())
