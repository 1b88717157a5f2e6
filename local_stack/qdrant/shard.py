"""One collection's points: a shard of the real engine, with one writer at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import qdrant_edge as edge

from local_stack.qdrant.errors import engine_errors
from local_stack.qdrant.filters import has_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from local_stack.qdrant.points import PointId

    # Looks at the shard, under its lock, and gives what to write, one after the other.
    Step = Callable[["Shard"], Iterable[edge.UpdateOperation]]

_PAGE = 10_000


class Shard:
    """Reads and writes of one shard. Thread-safe; only writers wait for each other.

    A write is in the engine's log when `apply` returns, and survives the death of the
    process. `tidy` brings it to the disk itself.
    """

    def __init__(self, engine: edge.EdgeShard) -> None:
        self._engine = engine
        self._lock = threading.RLock()
        self._operations = 0
        self._flushed = 0
        self._optimized = 0
        self._last_write = 0.0
        self._last_flush = self._last_optimize = time.monotonic()

    @classmethod
    def create(cls, path: Path, config: edge.EdgeConfig) -> Shard:
        """A new, empty shard in `path`."""
        with engine_errors():
            path.mkdir(parents=True)
            return cls(edge.EdgeShard.create(str(path), config))

    @classmethod
    def load(cls, path: Path) -> Shard:
        """The shard in `path`, with what its log holds replayed."""
        with engine_errors():
            return cls(edge.EdgeShard.load(str(path)))

    def apply(self, steps: Sequence[Step]) -> int:
        """Do `steps` in order, each on what the one before left. Gives the last one's number.

        One that fails ends the row; what was done before stays done.
        """
        with self._lock, engine_errors():
            for step in steps:
                for operation in step(self):
                    self._engine.update(operation)
                self._operations += 1
                self._last_write = time.monotonic()
            return self._operations

    def create_index(self, field_name: str, params: Any) -> None:
        """Index a payload field. The caller remembers that there is to be one."""
        self._change_index(edge.UpdateOperation.create_field_index(field_name, params))

    def delete_index(self, field_name: str) -> None:
        """Drop the index of a payload field."""
        self._change_index(edge.UpdateOperation.delete_field_index(field_name))

    def _change_index(self, operation: edge.UpdateOperation) -> None:
        with self._lock, engine_errors():
            self._engine.update(operation)
            self._operations += 1

    def existing(self, ids: list[PointId]) -> set[PointId]:
        """Those of `ids` that are stored."""
        return {_own_id(found.id) for found in self.retrieve(ids, payload=False, vector=False)}

    def matching(self, condition: edge.Filter) -> list[PointId]:
        """The ids of every point that `condition` matches."""
        ids: list[PointId] = []
        offset: Any = None
        while True:
            page, offset = self.scroll(
                edge.ScrollRequest(
                    offset=offset,
                    limit=_PAGE,
                    filter=condition,
                    with_payload=False,
                    with_vector=False,
                )
            )
            ids += [_own_id(found.id) for found in page]
            if offset is None:
                return ids

    def passing(self, ids: set[PointId], condition: edge.Filter) -> set[PointId]:
        """Those of `ids` that are stored and that `condition` matches."""
        if not ids:
            return set()
        return set(self.matching(edge.Filter(must=[has_ids(list(ids)), condition])))

    def retrieve(self, ids: list[PointId], *, payload: Any, vector: Any) -> list[edge.Record]:
        """The points of `ids` that are stored."""
        with engine_errors():
            return self._engine.retrieve(list(ids), payload, vector)

    def scroll(self, request: edge.ScrollRequest) -> tuple[list[edge.Record], Any]:
        """A page of points, and where the next begins."""
        with engine_errors():
            return self._engine.scroll(request)

    def query(self, requests: list[edge.QueryRequest]) -> list[list[edge.ScoredPoint]]:
        """The hits of each request."""
        with engine_errors():
            return self._engine.query_batch(edge.QueryBatchRequest(requests))

    def count(self, request: edge.CountRequest) -> int:
        """How many points match."""
        with engine_errors():
            return self._engine.count(request)

    def facet(self, request: edge.FacetRequest) -> list[edge.FacetHit]:
        """How many points have each value of a payload field."""
        with engine_errors():
            return self._engine.facet(request).hits

    def info(self) -> edge.ShardInfo:
        """Counts and payload indexes."""
        with engine_errors():
            return self._engine.info()

    def tidy(self, *, flush_every_s: float, idle_s: float, optimize_every_s: float) -> None:
        """Flush what was written, and rebuild the storage where many points were deleted.

        The rebuild holds the interpreter (0.3 s for 20,000 chunks), so it waits until
        nobody wrote for `idle_s`, or until the last one is `optimize_every_s` ago.
        """
        with self._lock, engine_errors():
            now = time.monotonic()
            due = now - self._last_flush >= flush_every_s
            if due and self._flushed != self._operations:
                self._flushed, self._last_flush = self._operations, now
                self._engine.flush()
            quiet = now - self._last_write >= idle_s
            overdue = now - self._last_optimize >= optimize_every_s
            if self._optimized != self._operations and (quiet or overdue):
                self._optimized, self._last_optimize = self._operations, now
                self._engine.optimize()

    def close(self) -> None:
        """Flush and let go of the files. Idempotent; what comes after fails with NotFound."""
        with self._lock:
            self._engine.close()


def _own_id(identity: edge.PointId) -> PointId:
    """The engine takes UUIDs as texts too, and gives them back as UUIDs always."""
    return UUID(identity) if isinstance(identity, str) else identity
