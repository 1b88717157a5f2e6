"""What the acknowledgement rests on: an internal order of Bytewax 0.21.1, held here.

Each item is marked when the sink has written it. At the first `next_batch` after a
`snapshot` all that was emitted before it must be marked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from feature_pipeline.flow import build_flow

_BATCHES, _BATCH = 60, 7
Route = Callable[[Stream[int]], Stream[int]]


class _Ledger:
    """What was emitted, what was written, and what a snapshot promised too early."""

    def __init__(self) -> None:
        self.emitted = 0
        self.promised = 0
        self.written: set[int] = set()
        self.checks = 0
        self.violations = 0

    def check(self) -> None:
        self.checks += 1
        self.violations += any(item not in self.written for item in range(self.promised))


class _Partition(StatefulSourcePartition[int, None]):
    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._due = False

    def next_batch(self) -> list[int]:
        ledger = self._ledger
        if self._due:
            ledger.check()
            self._due = False
        if ledger.emitted >= _BATCHES * _BATCH:
            raise StopIteration
        batch = list(range(ledger.emitted, ledger.emitted + _BATCH))
        ledger.emitted += _BATCH
        return batch

    def next_awake(self) -> datetime | None:
        return None

    def snapshot(self) -> None:
        self._ledger.promised = self._ledger.emitted
        self._due = True


class _Source(FixedPartitionedSource[int, None]):
    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger

    def list_parts(self) -> list[str]:
        return ["only"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition:
        return _Partition(self._ledger)


class _SinkPartition(StatelessSinkPartition[int]):
    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger

    def write_batch(self, items: list[int]) -> None:
        time.sleep(0.001)
        self._ledger.written.update(items)


class _Sink(DynamicSink[int]):
    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _SinkPartition:
        return _SinkPartition(self._ledger)


def _run(route: Route) -> _Ledger:
    ledger = _Ledger()
    flow = Dataflow("invariant")
    items = op.input("in", flow, _Source(ledger))
    op.output("out", route(items), _Sink(ledger))
    cli_main(flow, epoch_interval=timedelta(0))
    return ledger


def _stateless(items: Stream[int]) -> Stream[int]:
    mapped = op.map("decode", items, lambda item: item)
    return op.flat_map_batch("reduce", mapped, lambda batch: batch)


def _collecting(items: Stream[int]) -> Stream[int]:
    keyed: KeyedStream[int] = op.key_on("key", items, lambda _: "all")
    groups = op.collect("collect", keyed, timeout=timedelta(seconds=1), max_size=50)
    return op.flat_map("flat", groups, lambda group: group[1])


@pytest.mark.fault(22)
def test_everything_emitted_before_a_snapshot_is_written_at_the_next_batch() -> None:
    """With the operators of our flow, what a snapshot promises has left the sink."""
    ledger = _run(_stateless)
    assert ledger.checks >= _BATCHES
    assert ledger.violations == 0
    assert len(ledger.written) == _BATCHES * _BATCH


def test_an_operator_that_keeps_items_would_break_it() -> None:
    """The negative control: `collect` keeps items between epochs, and the check sees it."""
    ledger = _run(_collecting)
    assert ledger.violations > 0


def test_our_flow_holds_stateless_operators_only() -> None:
    """The real flow is made of input, map, flat_map_batch and output, and of nothing else."""
    flow = build_flow("queue", _never, _never, _never)  # type: ignore[arg-type]
    assert [type(step).__name__ for step in flow.substeps] == [
        "input",
        "map",
        "flat_map_batch",
        "output",
    ]


def _never(*_: Any) -> Any:
    raise AssertionError("building a flow starts nothing")
