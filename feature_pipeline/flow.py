"""The dataflow: queue → decode → reduce → write.

Stateless operators only. An operator that keeps items between two batches
(`collect`, `join`, a window) would break the acknowledgement: see source.py.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopSignal

import bytewax.operators as op
from bytewax.dataflow import Dataflow

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
