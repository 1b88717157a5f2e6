"""Fixtures of one data_cdc between the real replica set and the real broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local_stack.stack import LocalStack
from tests.cdc_harness import Cdc, Client, Queue, cdc_process


@pytest.fixture
def environment(infra: LocalStack, names: dict[str, str]) -> Iterator[dict[str, str]]:
    if any(row.state != "running" for row in infra.status()):
        infra.up()
    environment = {**infra.environment(), **names}
    yield environment
    if any(row.state != "running" for row in infra.status()):
        infra.up()
    database = names["MONGO_DATABASE_NAME"]
    with Client(environment["MONGO_DATABASE_HOST"]) as client:
        for name in (database, f"{database}_state"):
            client.drop_database(name)
    Queue(environment).delete()


@pytest.fixture
def client(environment: Mapping[str, str]) -> Iterator[Client]:
    with Client(environment["MONGO_DATABASE_HOST"], w="majority", tz_aware=True) as client:
        yield client


@pytest.fixture
def database(client: Client, names: Mapping[str, str]) -> Any:
    return client[names["MONGO_DATABASE_NAME"]]


@pytest.fixture
def state(client: Client, names: Mapping[str, str]) -> Any:
    return client[f"{names['MONGO_DATABASE_NAME']}_state"]


@pytest.fixture
def cdc(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Cdc]:
    with cdc_process(environment, tmp_path) as cdc:
        yield cdc


@pytest.fixture
def queue(environment: Mapping[str, str]) -> Queue:
    return Queue(environment)
