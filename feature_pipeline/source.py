"""The queue as a Bytewax source that acknowledges what every sink has written.

With an epoch interval of zero each batch is an epoch of its own. Bytewax 0.21.1
calls `snapshot()` at the end of an epoch, and `next_batch()` again only after all
that was emitted before has left every sink. So the first `next_batch()` after a
`snapshot()` acknowledges what that snapshot remembered. It holds only while no
step keeps items between epochs; tests/integration/test_acknowledgement.py
holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from threading import Event as StopSignal

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from core.mq.consumer import Consumer, Delivery
from feature_pipeline.health import Pulse

MAX_BATCH = 64
_WAIT_S = 0.05
# A message that a crashing process was given this often may be what crashes it.
_SUSPECT_AFTER = 2


class QueuePartition(StatefulSourcePartition[Delivery, None]):
    """One queue. Ends, with all acknowledged, once `stop` is set."""

    def __init__(self, consumer: Consumer, stop: StopSignal, pulse: Pulse) -> None:
        self._consumer = consumer
        self._stop = stop
        self._pulse = pulse
        self._emitted: Delivery | None = None
        self._written: Delivery | None = None

    def next_batch(self) -> list[Delivery]:
        """At most MAX_BATCH messages; called only when the former ones are written."""
        if self._written is not None:
            self._consumer.acknowledge(self._written)
            self._written = self._emitted = None
        if self._stop.is_set() and self._emitted is None:
            self.close()
            raise StopIteration
        if self._consumer.connected:
            self._pulse.beat()
        batch = self._consumer.fetch(MAX_BATCH, _WAIT_S, suspect_after=_SUSPECT_AFTER)
        if batch:
            self._emitted = batch[-1]
        return batch

    def next_awake(self) -> datetime | None:
        """At once: `next_batch` waits for messages itself."""
        return None

    def snapshot(self) -> None:
        """Called at the end of each epoch: what was emitted up to now belongs to it."""
        self._written = self._emitted

    def close(self) -> None:
        """End the connection. What is not acknowledged comes again."""
        self._pulse.stop()
        self._consumer.close()


class QueueSource(FixedPartitionedSource[Delivery, None]):
    """One partition a queue."""

    def __init__(self, queue: str, consume: Callable[[], Consumer], stop: StopSignal) -> None:
        self._queue = queue
        self._consume = consume
        self._stop = stop

    def list_parts(self) -> list[str]:
        """The queue's name."""
        return [self._queue]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> QueuePartition:  # noqa: ARG002
        """Start consuming. There is no state to resume: the broker keeps what is not written."""
        return QueuePartition(self._consume(), self._stop, Pulse(self._queue))
