"""Before consuming: the services are there, and so is everything that was there before.

A queue that is gone although data_cdc keeps a position took messages along: data_cdc is
asked to read everything again before an empty one takes its place.

Which collections Qdrant held is remembered in the state database. One that has gone
since is a gap as well: an empty one would stay wrong until each document changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as StopSignal
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from qdrant_client import QdrantClient

from core.config import Settings
from core.errors import TransientError
from core.logging import get_logger
from core.mongo import connect, explain
from core.mq.topology import Topology, declare, queue_exists
from core.qdrant.client import client_of
from core.qdrant.schema import (
    EmbeddingSpace,
    collection_names,
    ensure_collections,
    missing_collections,
)
from core.retry import Backoff
from core.signals import declare_gap

_KNOWN = "feature_collections"
# Where data_cdc keeps its position, under its own name; `time` is null where it has none.
_CHECKPOINTS, _CDC = "cdc_checkpoints", "data_cdc"

log = get_logger()


def prepare_qdrant(settings: Settings, space: EmbeddingSpace, stop: StopSignal) -> None:
    """Make what is missing in Qdrant, and declare what was lost. Waits for Qdrant and MongoDB.

    Returns without having done so when `stop` is set. Raises TerminalError.
    """
    _insist(stop, lambda: _with_qdrant(settings, space))


def prepare_queue(connection: BlockingConnection, topology: Topology, settings: Settings) -> None:
    """Declare what is consumed, and before that the loss of a queue that was there.

    MongoDB is needed only where the queue is not there. Raises pika's errors, TransientError
    and TerminalError.
    """
    if not queue_exists(connection, topology.queue):
        with _state(settings) as state:
            kept = state[_CHECKPOINTS].find_one({"_id": _CDC, "time": {"$ne": None}})
            # data_cdc declares the queue before it keeps its first position, maybe just now.
            if kept is not None and not queue_exists(connection, topology.queue):
                _declare_gap(state, f"queue {topology.queue!r} is gone", "queue.gap_declared")
    declare(connection, topology)


def _with_qdrant(settings: Settings, space: EmbeddingSpace) -> None:
    client = client_of(settings.qdrant)
    try:
        with _state(settings) as state:
            _declare_losses(state, settings, client)
        ensure_collections(client, settings.qdrant, space)
    finally:
        client.close()


@contextmanager
def _state(settings: Settings) -> Iterator[Database[dict[str, Any]]]:
    """The state database. Raises TransientError and TerminalError."""
    mongo = connect(settings.mongo, app="llm-twin-feature-pipeline")
    try:
        yield mongo[settings.mongo.state_database]
    except PyMongoError as error:
        raise explain(error, settings.mongo) from error
    finally:
        mongo.close()


def _declare_losses(
    state: Database[dict[str, Any]], settings: Settings, client: QdrantClient
) -> None:
    missing = missing_collections(client, settings.qdrant)
    known = state[_KNOWN].distinct("_id")
    lost = [name for name in missing if name in known]
    if lost:
        why = f"Qdrant at {settings.qdrant.address} has lost {', '.join(lost)}"
        _declare_gap(state, why, "qdrant.gap_declared")
    for name in set(collection_names()) - set(known):
        state[_KNOWN].replace_one({"_id": name}, {}, upsert=True)


def _declare_gap(state: Database[dict[str, Any]], why: str, event: str) -> None:
    log.error(event, why=why)
    declare_gap(state, why)


def _insist(stop: StopSignal, action: Callable[[], None]) -> None:
    backoff = Backoff()
    while not stop.is_set():
        try:
            action()
        except TransientError as error:
            delay = backoff.next_delay()
            log.warning("service.unavailable", reason=str(error), retry_in_s=round(delay, 1))
            stop.wait(delay)
        else:
            return
