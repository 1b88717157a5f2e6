"""`twin status`: where documents are, and what waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from pika.exceptions import AMQPError
from pymongo.database import Database
from pymongo.errors import PyMongoError
from qdrant_client import models

from console.output import fail, print_json, print_table
from core.config import Settings
from core.errors import TwinError
from core.mongo import connect, explain
from core.mq.connection import explain as explain_broker
from core.mq.connection import open_briefly
from core.mq.topology import Topology, queue_depth, queue_exists
from core.qdrant.client import client_of, explained
from core.qdrant.schema import FAMILIES, NOT_DELETED, cleaned_name, vector_name
from data_cdc.keeping.offset import SnapshotTask
from data_cdc.keeping.state import CHECKPOINTS, PARKED, StateStore, is_fresh, snapshots_of


@dataclass(frozen=True)
class Probe:
    """One service's part of the report, and whether it answered."""

    values: dict[str, Any]
    error: str | None = None
    exit_status: int = 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> int:
    """Show documents and points per collection, queue depths, and how far CDC lags.

    Exit status 3 when a service cannot be reached; the others are shown all the same.
    """
    probes = {
        "mongodb": _probe(lambda: _mongo(settings)),
        "rabbitmq": _probe(lambda: _rabbitmq(settings)),
        "qdrant": _probe(lambda: _qdrant(settings)),
    }
    if as_json:
        print_json({name: {**probe.values, "error": probe.error} for name, probe in probes.items()})
    else:
        _show(probes)
    for probe in probes.values():
        if probe.error:
            fail(probe.error)
    return max(probe.exit_status for probe in probes.values())


def _probe(read: Callable[[], dict[str, Any]]) -> Probe:
    try:
        return Probe(read())
    except TwinError as error:
        return Probe({}, str(error), error.exit_status)


def _mongo(settings: Settings) -> dict[str, Any]:
    client = connect(settings.mongo, app="twin-status")
    try:
        database = client[settings.mongo.database]
        counts = {
            name: database[name].count_documents({})
            for name in ("users", *settings.cdc.collections)
        }
        return {"documents": counts, "cdc": _cdc(client[settings.mongo.state_database])}
    except PyMongoError as error:
        raise explain(error, settings.mongo) from error
    finally:
        client.close()


def _cdc(state: Database[dict[str, Any]]) -> dict[str, Any]:
    store, now = StateStore(state), datetime.now(UTC)
    beat = store.status()
    told = beat or {}
    return {
        "running": is_fresh(beat, now),
        "state": told.get("state"),
        "lag_s": told.get("lag_s"),
        "in_flight": told.get("in_flight"),
        "leader": told.get("host"),
        "standbys": sum(is_fresh(standby, now) for standby in store.standbys()),
        "parked": state[PARKED].estimated_document_count(),
        "snapshots": [_snapshot(task) for task in snapshots_of(state[CHECKPOINTS].find_one())],
    }


def _snapshot(task: SnapshotTask) -> dict[str, Any]:
    return {
        "snapshot_id": task.id,
        "why": task.why,
        "collection": task.collection,
        "remaining": list(task.remaining),
        "rows": task.rows,
        "total": task.total,
    }


def _rabbitmq(settings: Settings) -> dict[str, Any]:
    topology = Topology(settings.mongo.database, settings.cdc.collections, settings.rabbitmq.queue)
    try:
        with open_briefly(settings.rabbitmq, "twin-status") as connection:
            depths = {
                queue: queue_depth(connection.channel(), queue)
                for queue in (topology.queue, topology.dead_queue)
                if queue_exists(connection, queue)
            }
    except AMQPError as error:
        raise explain_broker(error, settings.rabbitmq) from error
    return {"queues": depths}


def _qdrant(settings: Settings) -> dict[str, Any]:
    client = client_of(settings.qdrant)
    try:
        living = models.Filter(must=[NOT_DELETED])
        with explained(settings.qdrant):
            points = {
                name: client.count(name, count_filter=living).count
                for family in FAMILIES
                for name in (cleaned_name(family), vector_name(family))
                if client.collection_exists(name)
            }
    finally:
        client.close()
    return {"points": points}


def _show(probes: dict[str, Probe]) -> None:
    mongodb, rabbitmq, qdrant = probes["mongodb"], probes["rabbitmq"], probes["qdrant"]
    rows = [
        *(("MongoDB", name, count) for name, count in mongodb.values.get("documents", {}).items()),
        *(("RabbitMQ", name, depth) for name, depth in rabbitmq.values.get("queues", {}).items()),
        *(("Qdrant", name, count) for name, count in qdrant.values.get("points", {}).items()),
    ]
    print_table("What is where", ("service", "collection or queue", "count"), rows)
    cdc = mongodb.values.get("cdc")
    if cdc is not None:
        _show_cdc(cdc)


def _show_cdc(cdc: dict[str, Any]) -> None:
    columns = ("running", "state", "lag in seconds", "on", "standing by", "parked")
    running = "yes" if cdc["running"] else "no"
    row = (running, cdc["state"], cdc["lag_s"], cdc["leader"], cdc["standbys"], cdc["parked"])
    print_table("\nChange data capture", columns, [row])
    if cdc["snapshots"]:
        rows = [
            (task["snapshot_id"], task["why"], task["collection"], _share(task))
            for task in cdc["snapshots"]
        ]
        print_table("\nSnapshots", ("id", "why", "reading", "documents read"), rows)


def _share(task: dict[str, Any]) -> str:
    return f"{task['rows']} of about {task['total']}"
