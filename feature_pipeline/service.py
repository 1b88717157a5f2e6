"""One feature pipeline process: wait for the services, load the model, run the flow."""

from __future__ import annotations

from threading import Event as StopSignal

from pika.adapters.blocking_connection import BlockingConnection

from core.config import Settings
from core.embedding import load_embedder
from core.logging import get_logger
from core.mq.consumer import Consumer
from core.mq.dead_letters import DeadLetters
from core.mq.topology import Topology
from core.qdrant.client import client_of
from core.qdrant.schema import EmbeddingSpace
from feature_pipeline.flow import build_flow, run_flow
from feature_pipeline.reference import MongoDocuments
from feature_pipeline.startup import prepare_qdrant, prepare_queue
from feature_pipeline.store import QdrantStore
from feature_pipeline.writer import Stopping, Writer

log = get_logger()


def run(settings: Settings, stop: StopSignal) -> None:
    """Consume until `stop` is set and everything taken is acknowledged.

    Waits for MongoDB, Qdrant and RabbitMQ where they are not up. Raises TerminalError
    subclasses when somebody must act.
    """
    topology = Topology(settings.mongo.database, settings.cdc.collections, settings.rabbitmq.queue)
    embedder = load_embedder(settings.embedding)
    log.info("model.loaded", model=embedder.identity, size=embedder.size)
    client = client_of(settings.qdrant)
    dead_letters = DeadLetters(settings.rabbitmq, topology.dead_queue)
    documents = MongoDocuments(settings.mongo)
    try:
        prepare_qdrant(settings, EmbeddingSpace(model=embedder.identity, size=embedder.size), stop)
        flow = build_flow(
            topology.queue,
            lambda: _consume(settings, topology),
            lambda: Writer(
                QdrantStore(client, settings.qdrant, settings.mongo.database),
                embedder,
                dead_letters,
                documents,
                database=settings.mongo.database,
                stop=stop,
            ),
            stop,
        )
        log.info("feature_pipeline.consuming", queue=topology.queue, qdrant=settings.qdrant.address)
        run_flow(flow)
        log.info("feature_pipeline.stopped", drained=True)
    except Stopping as error:
        log.warning("feature_pipeline.stopped", drained=False, reason=str(error))
    finally:
        dead_letters.close()
        documents.close()
        client.close()


def _consume(settings: Settings, topology: Topology) -> Consumer:
    def prepare(connection: BlockingConnection) -> None:
        prepare_queue(connection, topology, settings)

    return Consumer(
        settings.rabbitmq, topology.queue, prepare=prepare, name="llm-twin-feature-pipeline"
    )
