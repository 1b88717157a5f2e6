"""The end of the flow: returns only when everything is in Qdrant."""

from __future__ import annotations

from collections.abc import Callable

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from core.logging import get_logger
from feature_pipeline.work import Step
from feature_pipeline.writer import Stopping, Writer

log = get_logger()


class WriterPartition(StatelessSinkPartition[Step]):
    """Hands each batch to the writer, synchronously: the acknowledgement rests on it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write_batch(self, items: list[Step]) -> None:
        """Write `items`. What it raises ends the process, unacknowledged: log it here.

        Bytewax may replace the exception by one of its own on the way out.
        """
        try:
            self._writer.write(items)
        except Stopping:
            raise
        except Exception as error:
            log.exception("feature_pipeline.failed", reason=str(error)[:500])
            raise


class WriterSink(DynamicSink[Step]):
    """One writer a worker, and there is one worker a process."""

    def __init__(self, make_writer: Callable[[], Writer]) -> None:
        self._make_writer = make_writer

    def build(self, step_id: str, worker_index: int, worker_count: int) -> WriterPartition:  # noqa: ARG002
        """Build the writer of this process."""
        return WriterPartition(self._make_writer())
