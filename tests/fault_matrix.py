"""The fault matrix: what must be survived, by number, and what the tests of a run say of it.

A test names its rows with `@pytest.mark.fault(3)`; `pytest -k fault` runs them all.
A row may have several tests, and a test may stand for several rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

FAULTS = {
    1: "kill -9 of data_cdc at any time",
    2: "kill between confirm and checkpoint",
    3: "the primary steps down or dies",
    4: "getMore fails once, or often",
    5: "network to MongoDB cut or half-open",
    6: "the oplog lost the position (286, 136)",
    7: "another filter hides the token (280)",
    8: "drop, dropDatabase: invalidate",
    9: "rename or $out into a captured name",
    10: "an event over 16 MB",
    11: "a message over the broker's limit",
    12: "a crash within a split event",
    13: "a transaction writes a document thrice",
    14: "documents change during a snapshot",
    15: "a crash during a snapshot",
    16: "the broker restarts or dies",
    17: "the queue is full: nack",
    18: "unroutable; the exchange is missing",
    19: "the broker's memory alarm",
    20: "confirms are lost",
    21: "two data_cdc at once",
    22: "the consumer dies or is too late",
    23: "a poison message",
    24: "the dead-letter queue is missing",
    25: "duplicate, stale, out of order",
    26: "the clock steps back",
    27: "Debezium Server as the producer",
    28: "the checkpoint cannot be stored",
    29: "a consumer that is slow for long",
    30: "SIGTERM",
}
_ROWS = "fault rows"
# How many names of tests a row shows, and how much of each.
_SHOWN, _LONGEST = 3, 36
_WORST_FIRST = ("failed", "passed", "skipped", "not run")


@dataclass
class _Outcome:
    """What became of one test, over its phases."""

    rows: tuple[int, ...]
    name: str
    status: str = "not run"
    reason: str = ""

    def take(self, report: pytest.TestReport) -> None:
        if report.failed or hasattr(report, "wasxfail"):
            self.status, self.reason = "failed", getattr(report, "wasxfail", "")
        elif report.skipped:
            self.status, self.reason = "skipped", _skip_reason(report)
        elif report.when == "call" and self.status != "failed":
            self.status = "passed"


@dataclass(eq=False)
class FaultMatrix:
    """A pytest plugin that prints the matrix at the end of a run with any of its tests."""

    _outcomes: dict[str, _Outcome] = field(default_factory=dict)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let each test's reports tell its rows, wherever they come from: it may run elsewhere."""
        for item in items:
            rows = {number for mark in item.iter_markers("fault") for number in mark.args}
            unknown = rows - FAULTS.keys()
            if unknown:
                raise pytest.UsageError(f"{item.nodeid} names no row of the matrix: {unknown}")
            if rows:
                item.user_properties.append((_ROWS, sorted(rows)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called after each phase of each test."""
        rows = dict(report.user_properties).get(_ROWS)
        if isinstance(rows, list):
            name = report.nodeid.rpartition("::")[2].removeprefix("test_")
            outcome = _Outcome(tuple(rows), name)
            self._outcomes.setdefault(report.nodeid, outcome).take(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the thirty rows."""
        if not self._outcomes:
            return
        terminalreporter.section("fault matrix")
        for number, fault in FAULTS.items():
            tests = [one for one in self._outcomes.values() if number in one.rows]
            for line in _lines(number, fault, tests):
                terminalreporter.write_line(line)


def _lines(number: int, fault: str, tests: Sequence[_Outcome]) -> list[str]:
    """One line a row, and one for each of its tests that did not pass."""
    statuses = {one.status for one in tests}
    status = next((one for one in _WORST_FIRST if one in statuses), "not run")
    passed = _names([one for one in tests if one.status == "passed"])
    others = [
        f"{'':14}{one.status}: {one.name}{': ' if one.reason else ''}{one.reason}"
        for one in tests
        if one.status != "passed"
    ]
    return [f"{number:2}  {status:8}  {fault:40}  {passed}".rstrip(), *others]


def _names(tests: Sequence[_Outcome]) -> str:
    """The first few names, without parameters, each in a few letters."""
    names = list(dict.fromkeys(one.name.partition("[")[0] for one in tests))
    more = f" +{len(names) - _SHOWN}" if len(names) > _SHOWN else ""
    return ", ".join(_shorten(name) for name in names[:_SHOWN]) + more


def _shorten(name: str) -> str:
    """`name` in at most `_LONGEST` letters."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _skip_reason(report: pytest.TestReport) -> str:
    told = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")
