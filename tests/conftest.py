"""Fixtures that any test may use, and the check that a run leaves no process behind.

`infra` is a real MongoDB replica set, RabbitMQ node and Qdrant on free ports, started
when the first test asks for it. `twin_env` is the environment of one test: databases,
queues and a Qdrant of its own. What uses either is marked `stack` by itself.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_stack.process import MARK, command_name
from local_stack.service import Options
from local_stack.stack import INFRASTRUCTURE, running_stack
from tests.fault_matrix import FaultMatrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_stack.stack import LocalStack

_RUN = "LLM_TWIN_TEST_RUN"
_GRACE_SECONDS = 5.0
_PARTITIONS = 8


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """MongoDB, RabbitMQ and Qdrant for the whole run; `failCommand` is allowed.

    A test that kills one of them need not start it again: the next `twin_env` does.
    """
    folder = tmp_path_factory.mktemp("infra")
    options = Options(management=False, mongo_test_commands=True)
    with running_stack(folder, services=INFRASTRUCTURE, options=options) as stack:
        yield stack
    shutil.rmtree(folder / "data")


@pytest.fixture
def fresh_qdrant(tmp_path: Path) -> Iterator[LocalStack]:
    """An empty Qdrant in a process of its own, for this test alone."""
    folder = tmp_path / "qdrant"
    with running_stack(folder, services=["qdrant"]) as stack:
        yield stack
    shutil.rmtree(folder / "data")


@pytest.fixture
def names() -> dict[str, str]:
    """Names that no other test uses. Routing keys begin with the database's name."""
    unique = uuid.uuid4().hex[:10]
    return {
        "MONGO_DATABASE_NAME": f"twin_{unique}",
        "RABBITMQ_QUEUE_NAME": f"queue_{unique}",
    }


@pytest.fixture
def twin_env(
    infra: LocalStack, fresh_qdrant: LocalStack, names: dict[str, str]
) -> Iterator[dict[str, str]]:
    """The variables with which services and commands of one test find what is theirs.

    Lay them over `os.environ` to start a service. Databases and queues go with the test.
    """
    if any(row.state != "running" for row in infra.status()):
        infra.up()
    port = str(fresh_qdrant.ports.qdrant)
    yield {**infra.environment(), **names, "QDRANT_DATABASE_PORT": port}
    if all(row.state == "running" for row in infra.status()):
        _drop(infra.environment(), names)


def _drop(environment: dict[str, str], names: dict[str, str]) -> None:
    import pika
    from pymongo import MongoClient

    database, queue = names["MONGO_DATABASE_NAME"], names["RABBITMQ_QUEUE_NAME"]
    with MongoClient[dict[str, object]](environment["MONGO_DATABASE_HOST"]) as client:
        for name in (database, f"{database}_state"):
            client.drop_database(name)
    broker = pika.ConnectionParameters(
        environment["RABBITMQ_HOST"], int(environment["RABBITMQ_PORT"])
    )
    with pika.BlockingConnection(broker) as connection:
        channel = connection.channel()
        for suffix in ("", ".dead", *(f".{number}" for number in range(_PARTITIONS))):
            channel.queue_delete(queue + suffix)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real services, so that `-m 'not stack'` starts none."""
    for item in items:
        if {"infra", "fresh_qdrant"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)


def pytest_configure(config: pytest.Config) -> None:
    """Leave a mark that every process started by this run inherits."""
    os.environ[_RUN] = uuid.uuid4().hex
    config.pluginmanager.register(FaultMatrix(), "fault-matrix")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a process of it is still there after all fixtures are gone."""
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    marks = (f"{_RUN}={os.environ[_RUN]}", f"{MARK}={factory.getbasetemp()}{os.sep}")
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _processes_with(marks)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        named = ", ".join(f"{command_name(pid)} (pid {pid})" for pid in left)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nThe tests left processes behind: {named}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _processes_with(marks: tuple[str, ...]) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(tuple(os.fsencode(mark) for mark in marks)) for entry in entries):
            found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]
