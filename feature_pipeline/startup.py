"""Before consuming: the services are there, and so is everything that was there before.

Which collections Qdrant held is remembered in the state database. One that has gone
since is a gap: an empty one in its place would stay wrong until each document changed.
So data_cdc is asked to read everything again, before the empty one is made.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopSignal
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError
from qdrant_client import QdrantClient

from core.config import Settings
from core.errors import TransientError
from core.logging import get_logger
from core.mongo import connect, explain
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

log = get_logger()


def prepare_qdrant(settings: Settings, space: EmbeddingSpace, stop: StopSignal) -> None:
    """Make what is missing in Qdrant, and declare what was lost. Waits for Qdrant and MongoDB.

    Returns without having done so when `stop` is set. Raises TerminalError.
    """
    _insist(stop, lambda: _with_qdrant(settings, space))


def _with_qdrant(settings: Settings, space: EmbeddingSpace) -> None:
    client = client_of(settings.qdrant)
    try:
        _with_mongo(settings, client)
        ensure_collections(client, settings.qdrant, space)
    finally:
        client.close()


def _with_mongo(settings: Settings, client: QdrantClient) -> None:
    mongo = connect(settings.mongo, app="llm-twin-feature-pipeline")
    try:
        _declare_losses(mongo[settings.mongo.state_database], settings, client)
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
        log.error("qdrant.gap_declared", why=why)
        declare_gap(state, why)
    for name in set(collection_names()) - set(known):
        state[_KNOWN].replace_one({"_id": name}, {}, upsert=True)


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
