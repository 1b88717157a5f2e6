"""kill -9 of data_cdc at any moment loses nothing."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local_stack.stack import LocalStack
from tests.cdc_harness import (
    COLLECTIONS,
    Cdc,
    Client,
    Queue,
    cdc_process,
    contents,
    courses,
    finish,
    replay,
)

DOCUMENTS = 200
CHANCE = random.SystemRandom()

pytestmark = pytest.mark.fault


@pytest.fixture
def environment(infra: LocalStack, names: dict[str, str]) -> Iterator[dict[str, str]]:
    if any(row.state != "running" for row in infra.status()):
        infra.up()
    environment = {**infra.environment(), **names}
    yield environment
    with Client(environment["MONGO_DATABASE_HOST"]) as client:
        for suffix in ("", "_state"):
            client.drop_database(names["MONGO_DATABASE_NAME"] + suffix)
    Queue(environment).delete()


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killing_it_at_random_moments_under_load_loses_nothing(
    kills: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """Every document's final state arrives, and events go back at most once for each kill."""
    queue = Queue(environment)
    with (
        Client(environment["MONGO_DATABASE_HOST"], w="majority", tz_aware=True) as client,
        cdc_process(environment, tmp_path) as cdc,
    ):
        database = client[environment["MONGO_DATABASE_NAME"]]
        with changing(database):
            start_and_kill(cdc, kills)
        cdc.start()
        received = finish(database, queue, timeout=60)
        assert replay(received) == contents(database)
    assert courses(received) <= kills + 1
    assert cdc.text().count("cdc.gap_declared") == 0


def start_and_kill(cdc: Cdc, kills: int) -> None:
    """Some kills fall into the start and the first read, most into the stream."""
    for _ in range(kills):
        cdc.start()
        time.sleep(CHANCE.uniform(0.4, 2.5))
        cdc.end(signal.SIGKILL)


@contextmanager
def changing(database: Any) -> Iterator[None]:
    """Documents walk through insert, update, replace and delete while the block runs."""
    done = threading.Event()

    def walk() -> None:
        number = 0
        while not done.is_set():
            name, query = COLLECTIONS[number % 4], {"_id": CHANCE.randrange(DOCUMENTS)}
            match CHANCE.randrange(5):
                case 0:
                    database[name].delete_one(query)
                case 1:
                    database[name].replace_one(query, {"n": number}, upsert=True)
                case _:
                    database[name].update_one(query, {"$set": {"n": number}}, upsert=True)
            number += 1

    threads = [threading.Thread(target=walk) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
