"""The writer, as far as it decides without any service."""

from __future__ import annotations

from threading import Event as StopSignal
from typing import Any, cast

from core.events import Purge, SnapshotCompleted
from core.mq.consumer import Delivery
from core.versions import Version
from feature_pipeline.work import Incoming
from feature_pipeline.writer import Writer


class _Embedder:
    identity = "none"
    max_tokens = 10
    size = 1


class _Store:
    """Remembers that it was asked what is older; holds nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def older_than(self, types: list[str], number: int) -> list[Any]:
        self.asked.append((tuple(types), number))
        return []


def _write(event: Purge | SnapshotCompleted) -> list[tuple[tuple[str, ...], int]]:
    store = _Store()
    writer = Writer(
        cast("Any", store),
        cast("Any", _Embedder()),
        cast("Any", None),
        cast("Any", None),
        database="twin",
        stop=StopSignal(),
    )
    delivery = Delivery(body=b"", headers={}, routing_key="", message_id="m", generation=1, tag=1)
    writer.write([Incoming(delivery, event)])
    return store.asked


def _completed(db: str) -> SnapshotCompleted:
    return SnapshotCompleted(
        db=db,
        collections=("posts", "users"),
        snapshot_id="s",
        version=Version(5, "~"),
        wall_ms=0,
        message_id="m",
    )


def _purge(collection: str | None) -> Purge:
    return Purge(
        db="twin",
        collection=collection,
        reason="drop",
        version=Version(5, "82"),
        wall_ms=0,
        message_id="m",
    )


def test_a_sweep_spares_what_the_snapshot_itself_read() -> None:
    """Only what is strictly older than the snapshot goes, of collections that have points."""
    assert _write(_completed("twin")) == [(("posts",), 5)]


def test_a_purge_takes_all_up_to_its_time() -> None:
    """A dropped collection loses what is not newer than the drop; a database all of it."""
    assert _write(_purge("articles")) == [(("articles",), 6)]
    [(types, number)] = _write(_purge(None))
    assert (set(types), number) == ({"articles", "posts", "repositories", "repository_files"}, 6)


def test_control_events_of_another_database_remove_nothing() -> None:
    """What the store would remove for such a marker are our own points."""
    assert _write(_completed("other")) == []
