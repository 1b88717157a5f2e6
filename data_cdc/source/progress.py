"""What log and metrics say of a snapshot: its start, its progress every few seconds, its end."""

from __future__ import annotations

from time import monotonic

from core.logging import get_logger
from data_cdc.keeping.offset import SnapshotTask
from data_cdc.operations.metrics import CdcMetrics

_EVERY_S = 5.0

log = get_logger()


class SnapshotProgress:
    """Tells of one snapshot after the other. Use from one thread."""

    def __init__(self, metrics: CdcMetrics) -> None:
        self._metrics = metrics
        self._id: str | None = None
        self._began = 0.0
        self._rows_before = 0
        self._next = 0.0

    def begin(self, task: SnapshotTask) -> None:
        """`task` is to be read on. Says so once for each task."""
        self._metrics.snapshot(len(task.remaining))
        if task.id == self._id:
            return
        self._id, self._began, self._rows_before = task.id, monotonic(), task.rows
        self._next = self._began + _EVERY_S
        log.info(
            "snapshot.started" if task.is_untouched else "snapshot.resumed",
            snapshot_id=task.id,
            why=task.why,
            collections=list(task.remaining),
            rows=task.rows,
            total=task.total,
        )

    def step(self, before: SnapshotTask, after: SnapshotTask | None) -> None:
        """A portion was read."""
        if after is None:
            self._end(before)
            return
        self._metrics.snapshot_rows(after.rows - before.rows)
        if after.current > before.current:
            log.info(
                "snapshot.collection_read",
                snapshot_id=before.id,
                collection=before.collection,
                rows=after.rows,
            )
        if monotonic() >= self._next:
            self._next = monotonic() + _EVERY_S
            self._tell(after)

    def _tell(self, task: SnapshotTask) -> None:
        rate = (task.rows - self._rows_before) / max(self._seconds(), 0.001)
        log.info(
            "snapshot.progress",
            snapshot_id=task.id,
            collection=task.collection,
            rows=task.rows,
            total=task.total,
            rows_per_s=round(rate),
        )

    def _end(self, task: SnapshotTask) -> None:
        log.info(
            "snapshot.completed",
            snapshot_id=task.id,
            rows=task.rows,
            as_of=str(task.earliest or task.not_before),
            seconds=round(self._seconds(), 1),
        )
        self._metrics.snapshot_ended()
        self._id = None

    def _seconds(self) -> float:
        """How long the snapshot has been read in this process."""
        return monotonic() - self._began
