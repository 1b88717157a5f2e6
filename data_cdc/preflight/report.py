"""To whom findings are told: to the log at the start, to a person by `--preflight`."""

from __future__ import annotations

from collections.abc import Sequence

import pymongo
from pika import BlockingConnection
from pika.exceptions import AMQPError

from core.config import CdcConfig, MongoConfig, Settings
from core.errors import ConfigurationError, ServiceUnavailable, TwinError
from core.logging import get_logger
from core.mongo import Client, connect
from core.mq.connection import explain, open_briefly
from core.mq.topology import Topology
from data_cdc.preflight.broker import look_at_broker, look_at_server
from data_cdc.preflight.findings import Finding, error
from data_cdc.preflight.mongo import Subject, look_at_mongo

_LOOK_S = 3.0
_PATIENT_S = 5.0
_UNREACHABLE, _PROBLEMS_FOUND = ServiceUnavailable.exit_status, 4

log = get_logger()


def at_start(client: Client, mongo: MongoConfig, cdc: CdcConfig) -> None:
    """Look at MongoDB for some seconds at most, and log what is found. If it is away, go on.

    Raises ConfigurationError for what no waiting mends.
    """
    with pymongo.timeout(_LOOK_S):
        findings = list(look_at_mongo(Subject(client, mongo, cdc)))
    log_findings("MongoDB", findings)


def broker_at_start(connection: BlockingConnection, topology: Topology, cdc: CdcConfig) -> None:
    """Look at the broker before anything is declared, and log what is found.

    Raises ConfigurationError for what no waiting mends, and pika's errors.
    """
    log_findings("RabbitMQ", list(look_at_server(connection, topology, cdc)))


def preflight(settings: Settings) -> int:
    """Print every finding. The exit status: 0 when the service can run, 4 when it cannot,
    3 when MongoDB or RabbitMQ cannot be reached.
    """
    found, unreachable = list[Finding](), False
    for check, look in (("MongoDB", _mongo), ("RabbitMQ", _rabbitmq)):
        try:
            found += look(settings)
        except ConfigurationError as problem:
            found.append(error(check, problem))
        except TwinError as problem:
            found.append(Finding(check, "error", str(problem)))
            unreachable = True
    for finding in found:
        print(f"{finding.level:<8} {finding.check:<12} {finding.sentence}")
    if unreachable:
        return _UNREACHABLE
    return _PROBLEMS_FOUND if any(finding.level == "error" for finding in found) else 0


def _mongo(settings: Settings) -> list[Finding]:
    with (
        connect(settings.mongo, timeout_s=_PATIENT_S, app="data_cdc-preflight") as client,
        pymongo.timeout(2 * _PATIENT_S),
    ):
        return list(look_at_mongo(Subject(client, settings.mongo, settings.cdc)))


def _rabbitmq(settings: Settings) -> list[Finding]:
    topology = Topology(settings.mongo.database, settings.cdc.collections, settings.rabbitmq.queue)
    try:
        with open_briefly(settings.rabbitmq, "data_cdc-preflight") as connection:
            return list(look_at_broker(connection, topology, settings.cdc))
    except (AMQPError, OSError) as problem:
        raise explain(problem, settings.rabbitmq) from problem


def log_findings(service: str, findings: Sequence[Finding]) -> None:
    """A warning for each problem, one line for all else. Raises the first error's cause."""
    notes = {}
    for finding in findings:
        if finding.level in ("warning", "error"):
            log.warning("preflight", check=finding.check, finding=finding.sentence)
        else:
            notes[finding.check] = finding.sentence
    log.info("preflight", seen=service, found=notes)
    for finding in findings:
        if finding.cause is not None:
            raise finding.cause
