"""What fault tests share: a capture under test with its load, its oracle and its failpoints."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pymongo.errors import PyMongoError

from core.mq.topology import Topology
from tests.cdc_harness import COLLECTIONS, Cdc, Client, Queue, Received, contents, courses, replay
from tests.twin_harness import Twin, until

APP = "data_cdc"
CHANCE = random.SystemRandom()
_DOCUMENTS = 200
_TEXTS = 25
_SENTENCES = [f"Sentence number {n} says that {n * 37 % 101} is a number." for n in range(60)]


@contextmanager
def changing(database: Any, *, writers: int = 2, pause_s: float = 0.0) -> Iterator[None]:
    """Documents walk through insert, update, replace and delete while the block runs."""
    done = threading.Event()

    def walk() -> None:
        number = 0
        while not done.is_set():
            try:
                _step(database, number)
            except PyMongoError:  # an election, or the server is away: that write is not promised
                done.wait(0.2)
            number += 1
            done.wait(pause_s)

    threads = [threading.Thread(target=walk) for _ in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _step(database: Any, number: int) -> None:
    collection = database[COLLECTIONS[number % len(COLLECTIONS)]]
    query = {"_id": CHANCE.randrange(_DOCUMENTS)}
    match CHANCE.randrange(5):
        case 0:
            collection.delete_one(query)
        case 1:
            collection.replace_one(query, {"n": number}, upsert=True)
        case _:
            collection.update_one(query, {"$set": {"n": number}}, upsert=True)


class Writer(threading.Thread):
    """Walks documents through insert, edit, delete and insert again, at random, until stopped."""

    def __init__(self, twin: Twin, seed: int) -> None:
        super().__init__(daemon=True)
        self._twin = twin
        self._random = random.Random(seed)  # noqa: S311 - a repeatable walk
        self._ending = threading.Event()
        self.operations = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._ending.wait(0.03):
                self._step()
                self.operations += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error

    def end(self) -> None:
        self._ending.set()
        self.join(30)
        assert self.error is None, self.error

    def _step(self) -> None:
        collection = self._twin.db[self._random.choice(["articles", "posts"])]
        name = f"doc-{self._random.randrange(_TEXTS)}"
        if self._random.random() < 0.25:
            collection.delete_one({"_id": name})
        else:
            collection.replace_one({"_id": name}, self._document(), upsert=True)

    def _document(self) -> dict[str, Any]:
        text = " ".join(self._random.sample(_SENTENCES, self._random.randrange(1, 12)))
        return {"content": {"Title": "A title", "Content": text}, "author_id": "me"}


@contextmanager
def under_load(twin: Twin, seed: int = 1) -> Iterator[Writer]:
    """Writes go on inside the block, and have ended after it."""
    writer = Writer(twin, seed)
    writer.start()
    try:
        yield writer
    finally:
        writer.end()


def repeated(received: Sequence[Received]) -> int:
    """How many messages came more than once."""
    return len(received) - len({one.message_id for one in received})


@dataclass
class Rig:
    """One data_cdc, its database and its queue, which nobody consumes but the test."""

    environment: Mapping[str, str]
    folder: Path
    client: Client
    cdc: Cdc
    queue: Queue
    _sentinels: int = field(default=0, init=False)

    @property
    def database(self) -> Any:
        """What is captured."""
        return self.client[self.environment["MONGO_DATABASE_NAME"]]

    @property
    def state(self) -> Any:
        """Where data_cdc keeps its position."""
        return self.client[self.environment["MONGO_DATABASE_NAME"] + "_state"]

    def start(self, **extra: str) -> None:
        """Start data_cdc, with other settings where `extra` says so, and wait until it streams."""
        self.cdc.start(ready=True, **extra)

    @property
    def topology(self) -> Topology:
        """What data_cdc declares on the broker."""
        names = self.environment
        return Topology(names["MONGO_DATABASE_NAME"], COLLECTIONS, names["RABBITMQ_QUEUE_NAME"])

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """The broker as an operator has it."""
        host, port = self.environment["RABBITMQ_HOST"], int(self.environment["RABBITMQ_PORT"])
        with pika.BlockingConnection(pika.ConnectionParameters(host, port)) as connection:
            yield connection.channel()

    def limit_queue(self, messages: int) -> None:
        """Before the start: the queue refuses what is more than so many messages."""
        limited = {**self.topology.arguments(), "x-max-length": messages}
        with self.channel() as channel:
            channel.queue_declare(self.topology.queue, durable=True, arguments=limited)

    def crash(self) -> None:
        """kill -9, after which nobody waits until the lease of the dead one expires."""
        self.cdc.kill()
        self.state.cdc_lease.update_one({}, {"$set": {"until": None}})

    def load(self, pause_s: float = 0.005) -> Any:
        """A light load while the block runs."""
        return changing(self.database, writers=1, pause_s=pause_s)

    def read(self, timeout: float = 40) -> list[Received]:
        """Write one more document, and read the queue up to it: all that was received so far.

        A snapshot that runs is waited for.
        """
        until(self._has_read_all, "the end of the snapshot")
        self._sentinels += 1
        name = f"sentinel-{self._sentinels}"
        self.database.articles.insert_one({"_id": name})
        return self.queue.read_to(f'"{name}"', timeout)

    def converges(self, *, most: int = 1, gaps: int = 0, timeout: float = 40) -> list[Received]:
        """The oracle: consumers end up with what MongoDB holds. Returns all that was received.

        The stream began again at most `most - 1` times, and `gaps` gaps were declared.
        """
        received = self.read(timeout)
        assert replay(received) == contents(self.database)
        assert courses(received) <= most
        assert self.cdc.text().count("cdc.gap_declared") == gaps
        return received

    def checkpoint(self) -> dict[str, Any]:
        """What data_cdc would resume from."""
        return self.state.cdc_checkpoints.find_one({"_id": "data_cdc"}) or {}

    def _has_read_all(self) -> bool:
        kept = self.checkpoint()
        return kept.get("time") is not None and not kept.get("snapshots")

    def failing(self, *commands: str, **data: Any) -> Any:
        """`failCommand` on the primary for data_cdc alone, as `fail_commands` does it."""
        return fail_commands(self.client, commands, **data)


@contextmanager
def fail_commands(
    client: Client, commands: Sequence[str], *, times: int | None = None, **data: Any
) -> Iterator[Callable[[int], None]]:
    """data_cdc's `commands` fail as `data` says, `times` times or until the block ends.

    Yields a function that waits until that many have failed.
    """
    mode = "alwaysOn" if times is None else {"times": times}
    wanted = {"failCommands": list(commands), "appName": APP, **data}
    with _primary(client) as primary:
        begun = primary.admin.command("configureFailPoint", "failCommand", mode=mode, data=wanted)

        def hit(count: int) -> None:
            primary.admin.command(
                "waitForFailPoint",
                "failCommand",
                timesEntered=begun["count"] + count,
                maxTimeMS=30_000,
            )

        try:
            yield hit
        finally:
            primary.admin.command("configureFailPoint", "failCommand", mode="off")


def _primary(client: Client) -> Client:
    """A connection to the present primary alone, which stays with it through an election."""
    client.admin.command("ping")
    assert client.primary is not None
    return Client(*client.primary, directConnection=True)
