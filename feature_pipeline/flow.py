"""The dataflow: queue → decode → reduce → write.

Stateless operators only. An operator that keeps items between two batches
(`collect`, `join`, a window) would break the acknowledgement: see source.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event as StopSignal

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.run import cli_main

from core.errors import TwinError
from core.mq.consumer import Consumer
from feature_pipeline.sink import WriterSink
from feature_pipeline.source import QueueSource
from feature_pipeline.work import read, reduce
from feature_pipeline.writer import Writer


def build_flow(
    queue: str,
    consume: Callable[[], Consumer],
    make_writer: Callable[[], Writer],
    stop: StopSignal,
) -> Dataflow:
    """The flow of one queue. `consume` and `make_writer` are called when it starts."""
    flow = Dataflow("feature_pipeline")
    deliveries = op.input("queue", flow, QueueSource(queue, consume, stop))
    incoming = op.map("decode", deliveries, read)
    steps = op.flat_map_batch("reduce", incoming, reduce)
    op.output("qdrant", steps, WriterSink(make_writer))
    return flow


def run_flow(flow: Dataflow) -> None:
    """Run `flow` to its end, each batch an epoch of its own.

    Bytewax wraps what a step raises. An error of ours is raised as it was, since it
    tells who must act.
    """
    try:
        cli_main(flow, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    except BytewaxRuntimeError as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, TwinError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
