"""What the feature pipeline makes of queues and documents that are not as they should be."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event as StopSignal
from typing import Any, cast

import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from core.errors import DocumentRejected, PoisonError
from core.events import ChangeEvent, Op
from core.mq.connection import open_briefly
from core.mq.consumer import Delivery
from core.mq.topology import Topology, queue_exists
from core.signals import requests
from feature_pipeline.reference import MongoDocuments
from feature_pipeline.startup import prepare_queue
from feature_pipeline.work import Incoming, Segment
from feature_pipeline.writer import Writer
from tests.cdc_harness import Queue
from tests.twin_harness import settings_of

_KEPT = {"_id": "data_cdc", "time": Timestamp(1_700_000_000, 1)}


def prepare(environment: Mapping[str, str]) -> None:
    """As it is done on each new connection."""
    settings = settings_of(environment)
    topology = Topology(settings.mongo.database, ("posts",), settings.rabbitmq.queue)
    with open_briefly(settings.rabbitmq, "test") as connection:
        prepare_queue(connection, topology, settings)
        assert queue_exists(connection, topology.queue)


def test_a_missing_queue_is_a_gap_once_data_cdc_keeps_a_position(
    environment: Mapping[str, str], state: Any, queue: Queue
) -> None:
    """What was in the queue when it went is read again; a queue that stays declares nothing."""
    state.cdc_checkpoints.insert_one(_KEPT)
    prepare(environment)
    [request] = requests(state)
    assert request.is_gap
    assert "is gone" in request.why
    state.signals.delete_many({})
    prepare(environment)
    assert not requests(state)
    queue.delete()
    prepare(environment)
    assert len(requests(state)) == 1


@pytest.mark.parametrize("kept", [None, {"_id": "data_cdc", "epoch": 1, "time": None}])
def test_a_missing_queue_is_no_gap_before_there_is_a_position(
    environment: Mapping[str, str], state: Any, kept: dict[str, Any] | None
) -> None:
    """At the first start, or while everything is to be read anyway, nothing was lost."""
    if kept is not None:
        state.cdc_checkpoints.insert_one(kept)
    prepare(environment)
    assert not requests(state)


def undecodable(key: str) -> RawBSONDocument:
    """An old binary whose inner length is wrong: MongoDB stores it, the driver refuses it."""
    sound = encode({"_id": key, "file": b"12345678"})
    at = sound.index(b"12345678")
    return RawBSONDocument(sound[: at - 1] + b"\x02" + sound[at:])


def reference(key: str) -> ChangeEvent:
    return ChangeEvent(
        op=Op.CREATE,
        db="twin",
        collection="articles",
        key=f'"{key}"',
        document=None,
        by_reference=True,
        version=None,
        wall_ms=0,
        message_id="m",
    )


class _DeadLetters:
    """Remembers why something was set aside."""

    def __init__(self) -> None:
        self.errors: list[PoisonError] = []

    def put(self, _delivery: Delivery, error: PoisonError) -> None:
        self.errors.append(error)


def test_an_undecodable_document_by_reference_is_set_aside(
    environment: Mapping[str, str], database: Any
) -> None:
    """It is no crash, which the broker would answer with the same message again."""
    database.articles.insert_one(undecodable("bad"))
    letters, documents = _DeadLetters(), MongoDocuments(settings_of(environment).mongo)
    nothing = cast("Any", None)
    writer = Writer(
        nothing, _NO_EMBEDDER, cast("Any", letters), documents, database="twin", stop=StopSignal()
    )
    delivery = Delivery(body=b"", headers={}, routing_key="", message_id="m", generation=1, tag=1)
    try:
        writer.write([Segment((Incoming(delivery, reference("bad")),))])
    finally:
        documents.close()
    [error] = letters.errors
    assert isinstance(error, DocumentRejected)
    assert (error.reason, error.stage) == ("undecodable", "read")


class _Embedder:
    identity = "none"
    max_tokens = 10
    size = 1


_NO_EMBEDDER = cast("Any", _Embedder())
