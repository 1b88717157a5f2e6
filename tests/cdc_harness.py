"""data_cdc as a process, and the queue it fills, for tests on real services."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker
from pymongo import MongoClient

from core.documents import document_key
from core.events import ChangeEvent, Event, Purge, SnapshotCompleted, decode
from core.versions import Version
from tests.twin_harness import ServiceProcess, until

Client = MongoClient[dict[str, Any]]
SENTINEL = "sentinel"
COLLECTIONS = ("articles", "posts", "repositories", "repository_files")


class Cdc(ServiceProcess):
    """`python -m data_cdc`. Starting it does not wait: what it waits for is what tests look at."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__("data_cdc", environment, folder)

    def start(self, *, ready: bool = False, **extra: str) -> None:
        """Start it; with `ready`, wait until it streams."""
        super().start(ready=ready, **extra)


@contextmanager
def cdc_process(environment: Mapping[str, str], folder: Path) -> Iterator[Cdc]:
    """One that has not started yet, and does not outlive the test."""
    cdc = Cdc(environment, folder)
    try:
        yield cdc
    finally:
        cdc.kill()


@dataclass(frozen=True)
class Received:
    """One message of the queue."""

    message_id: str
    headers: Mapping[str, Any]
    event: Event


class Queue:
    """Reads the queue as a consumer would. Only while nobody else does."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._host = environment["RABBITMQ_HOST"]
        self._port = int(environment["RABBITMQ_PORT"])
        self._name = environment["RABBITMQ_QUEUE_NAME"]
        self.received: list[Received] = []

    def read_until(self, done: Callable[[Received], bool], timeout: float = 30) -> list[Received]:
        """Everything up to the first message that is `done`, and what was read before."""
        deadline = time.monotonic() + timeout
        with self._connection() as connection:
            channel = connection.channel()
            while True:
                for method, properties, body in channel.consume(self._name, inactivity_timeout=1):
                    if method is None:
                        break
                    channel.basic_ack(method.delivery_tag)
                    if self._take(properties, body) and done(self.received[-1]):
                        channel.cancel()
                        return self.received
                assert time.monotonic() < deadline, f"not seen in {len(self.received)} messages"

    def read_to(self, entry: str, timeout: float = 30) -> list[Received]:
        """Everything up to the first event of the document whose key is `entry`."""
        return self.read_until(
            lambda one: isinstance(one.event, ChangeEvent) and one.event.key == entry, timeout
        )

    def depth(self) -> int:
        """How many messages wait; none in a queue that does not exist yet."""
        with self._connection() as connection:
            try:
                declared = connection.channel().queue_declare(self._name, passive=True)
            except ChannelClosedByBroker:
                return 0
            return int(declared.method.message_count)

    def fills(self, depth: float) -> None:
        """Wait until more than `depth` messages wait."""
        until(lambda: self.depth() > depth, f"more than {depth:.0f} messages")

    def delete(self) -> None:
        with self._connection() as connection:
            connection.channel().queue_delete(self._name)

    def declare_anew(self, database: str) -> None:
        """Make it again as the feature pipeline does when it starts."""
        from core.mq.topology import Topology, declare

        with self._connection() as connection:
            declare(connection, Topology(database, COLLECTIONS, self._name))

    def _take(self, properties: pika.BasicProperties, body: bytes) -> bool:
        event = decode(body, properties.headers, message_id=properties.message_id)
        if event is None:
            return False
        self.received.append(Received(event.message_id, properties.headers or {}, event))
        return True

    def _connection(self) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.ConnectionParameters(self._host, self._port))


def replay(received: list[Received]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The documents that a consumer ends up with: it drops what is older, sweeps and purges."""
    newest: dict[tuple[str, str], tuple[Version, Mapping[str, Any] | None]] = {}
    for one in received:
        match one.event:
            case ChangeEvent(version=Version() as version) as event:
                name = (event.collection, event.key)
                if name not in newest or newest[name][0] <= version:
                    newest[name] = (version, event.document)
            case Purge() as purge:
                newest = {
                    name: kept
                    for name, kept in newest.items()
                    if purge.collection not in (None, name[0]) or kept[0] > purge.version
                }
            case SnapshotCompleted() as marker:
                newest = {
                    name: kept
                    for name, kept in newest.items()
                    if name[0] not in marker.collections or kept[0].number >= marker.version.number
                }
    return {name: kept[1] for name, kept in newest.items() if kept[1] is not None}


def courses(received: list[Received]) -> int:
    """How many times the stream's events began again from an earlier place.

    Within one course they ascend, over all documents. A repeated update may tell more
    than the first time, since its look-up may find a document that was gone then.
    """
    count, last = 0, None
    for one in received:
        event = one.event
        if not isinstance(event, ChangeEvent) or event.snapshot != "false":
            continue
        if event.version is not None and (last is None or event.version < last):
            count += 1
        last = event.version
    return count


def contents(database: Any) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What MongoDB holds, in the shape of `replay`."""
    return {
        (name, document_key(document["_id"])): document
        for name in COLLECTIONS
        for document in database[name].find()
    }


def finish(database: Any, queue: Queue, timeout: float = 40) -> list[Received]:
    """Once no snapshot is left to be made, write a last document, and read the queue up to it."""
    await_snapshots(database, timeout)
    database.articles.insert_one({"_id": SENTINEL})
    return queue.read_to(f'"{SENTINEL}"', timeout)


def await_snapshots(database: Any, timeout: float = 40) -> None:
    """Wait until none is left to be made."""
    checkpoints = database.client[f"{database.name}_state"].cdc_checkpoints
    until(lambda: _nothing_to_read(checkpoints.find_one()), "snapshots to be made", timeout)


def _nothing_to_read(kept: Mapping[str, Any] | None) -> bool:
    return kept is not None and kept.get("time") is not None and not kept.get("snapshots")
