"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.stack import LocalStack
from tests.cdc_harness import Client, Queue, cdc_process
from tests.fault_harness import Rig
from tests.tiny_mongod import tiny_mongod


@pytest.fixture
def rig_env(infra: LocalStack, names: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and a queue of one test's own, on services that run before and after it."""
    infra.up()
    environment = {**infra.environment(), **names}
    yield environment
    infra.up()
    with Client(environment["MONGO_DATABASE_HOST"]) as client:
        for suffix in ("", "_state"):
            client.drop_database(names["MONGO_DATABASE_NAME"] + suffix)
    Queue(environment).delete()


@pytest.fixture
def rig(rig_env: dict[str, str], tmp_path: Path) -> Iterator[Rig]:
    """A data_cdc that has not started yet."""
    with (
        Client(rig_env["MONGO_DATABASE_HOST"], w="majority", tz_aware=True) as client,
        cdc_process(rig_env, tmp_path) as cdc,
    ):
        yield Rig(rig_env, tmp_path, client, cdc, Queue(rig_env))


@pytest.fixture
def tiny_rig(rig_env: dict[str, str], tmp_path: Path) -> Iterator[Rig]:
    """The same on a MongoDB of its own, whose oplog holds about a megabyte."""
    with tiny_mongod(tmp_path / "mongod") as address:
        environment = {**rig_env, "MONGO_DATABASE_HOST": address}
        with (
            Client(address, w="majority", tz_aware=True) as client,
            cdc_process(environment, tmp_path) as cdc,
        ):
            yield Rig(environment, tmp_path, client, cdc, Queue(environment))
