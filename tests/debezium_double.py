"""What Debezium Server would send for changes of MongoDB, in any of its forms, for tests.

It stands in for a server that needs images of its own, and is written from its documentation,
as the golden files in fixtures/debezium are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
from bson import ObjectId, json_util

from core.config import RabbitConfig
from core.mq.connection import open_blocking
from core.mq.topology import EXCHANGE

PREFIX = "dbz"
Document = Mapping[str, Any]

_STRICT_V1 = json_util.JSONOptions(
    json_mode=json_util.JSONMode.LEGACY,
    strict_number_long=True,
    datetime_representation=json_util.DatetimeRepresentation.LEGACY,
)
MODES = {
    "legacy": _STRICT_V1,
    "extended": json_util.CANONICAL_JSON_OPTIONS,
    "relaxed": json_util.RELAXED_JSON_OPTIONS,
}


@dataclass(frozen=True)
class Form:
    """How a server is configured: flattened, or an envelope with states in a mode; its schema."""

    name: str
    mode: str = "legacy"
    flattened: bool = False
    wrapped: bool = False


FORMS = (
    *(
        Form(f"{mode}-{'wrapped' if wrapped else 'bare'}", mode, wrapped=wrapped)
        for mode in MODES
        for wrapped in (False, True)
    ),
    Form("flattened-bare", flattened=True),
    Form("flattened-wrapped", flattened=True, wrapped=True),
)


class DebeziumDouble:
    """Publishes to our exchange as the sink does: by topic, confirmed, not mandatory, no id."""

    def __init__(self, channel: Any, database: str) -> None:
        self._channel = channel
        self._database = database

    def send(
        self,
        form: Form,
        op: str,
        collection: str,
        *,
        before: Document | None = None,
        after: Document | None = None,
        snapshot: str = "false",
    ) -> None:
        """One change as one message."""
        source = self._source(collection, snapshot)
        if form.flattened:
            value = _flattened(op, source, after or before or {})
        else:
            value = _envelope(op, source, _text(before, form.mode), _text(after, form.mode))
        body = {"schema": {"type": "struct"}, "payload": value} if form.wrapped else value
        self.send_body(f"{PREFIX}.{self._database}.{collection}", json.dumps(body).encode())

    def tombstone(self, collection: str) -> None:
        """What follows a delete where tombstones are on."""
        self.send_body(f"{PREFIX}.{self._database}.{collection}", b"default")

    def housekeeping(self) -> None:
        """A heartbeat and the border of a transaction, each to a topic of its own."""
        self.send_body(f"__debezium-heartbeat.{PREFIX}", b'{"ts_ms":1795163410123}')
        self.send_body(
            f"{PREFIX}.transaction",
            b'{"status":"BEGIN","id":"1:1","ts_ms":1,"event_count":null,"data_collections":null}',
        )

    def send_body(self, routing_key: str, body: bytes) -> None:
        """Any message with the properties that the sink gives it."""
        headers = {"__debezium.context.connectorLogicalName": f'"{PREFIX}"'}
        properties = pika.BasicProperties(delivery_mode=2, headers=headers)
        self._channel.basic_publish(EXCHANGE, routing_key, body, properties)

    def _source(self, collection: str, snapshot: str) -> dict[str, Any]:
        now = time.time_ns()
        return {
            "version": "3.6.0.Final",
            "connector": "mongodb",
            "name": PREFIX,
            "ts_ms": now // 1_000_000,
            "snapshot": snapshot,
            "db": self._database,
            "sequence": None,
            "ts_us": now // 1000,
            "ts_ns": now,
            "collection": collection,
            "ord": 1,
            "lsid": None,
            "txnNumber": None,
            "wallTime": None if snapshot != "false" else now // 1_000_000,
        }


@contextmanager
def debezium_double(config: RabbitConfig, database: str) -> Iterator[DebeziumDouble]:
    """A server whose exchange exists already."""
    with open_blocking(config, "debezium-double") as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield DebeziumDouble(channel, database)


def _envelope(
    op: str, source: dict[str, Any], before: str | None, after: str | None
) -> dict[str, Any]:
    return {
        "before": before,
        "after": after,
        "updateDescription": None,
        "source": source,
        "op": op,
        "ts_ms": source["ts_ms"] + 5,
        "transaction": None,
    }


def _text(document: Document | None, mode: str) -> str | None:
    return None if document is None else json_util.dumps(document, json_options=MODES[mode])


def _flattened(op: str, source: dict[str, Any], document: Document) -> dict[str, Any]:
    added = {"ts_ms", "ord", "db", "collection"}
    return {
        **{name: _plain(value) for name, value in document.items()},
        "__deleted": op == "d",
        "__op": op,
        **{f"__source_{name}": source[name] for name in added},
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, ObjectId) else value
