"""The stack as its users meet it: up, again up, killed, down, and beside another one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pymongo import MongoClient, WriteConcern

from local_stack import process
from local_stack.errors import PortTaken, ServiceFailed
from local_stack.layout import Layout
from local_stack.ports import Ports, can_bind
from local_stack.service import Options
from local_stack.stack import LocalStack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("stack of mongo and mq")
    options = Options(management=False)
    with running_stack(folder, services=["mongo", "mq"], options=options) as stack:
        yield stack


def _command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, *rest = words
    return subprocess.run(
        [sys.executable, "-m", "local_stack", command, "--state", str(folder), *rest],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _broker(stack: LocalStack) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stack.ports.amqp))


def _publish(stack: LocalStack, body: bytes) -> None:
    with _broker(stack) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
        channel.exchange_declare("hashed", "x-consistent-hash", durable=True)
        lasting = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", "kept", body, lasting, mandatory=True)
        # The node writes the names of new quorum queues to disk twice a second; until then
        # a SIGKILL leaves a queue that never finds its leader (RabbitMQ 3.10).
        connection.sleep(1)


def _consume(stack: LocalStack) -> bytes | None:
    with _broker(stack) as connection:
        body: bytes | None = connection.channel().basic_get("kept", auto_ack=True)[2]
    return body


def _documents(client: MongoClient[dict[str, Any]]) -> Any:
    return client["kept"].get_collection("texts", write_concern=WriteConcern("majority", 5000))


def test_up_again_changes_nothing(stack: LocalStack) -> None:
    """`up` on a running stack leaves every process as it is."""
    before = stack.status()
    stack.up()
    assert stack.status() == before
    assert {row.state for row in before} == {"running"}


def test_data_outlives_a_kill_of_everything(stack: LocalStack) -> None:
    """After SIGKILL of every process `up` brings back documents and durable messages."""
    with MongoClient[dict[str, Any]](stack.environment()["MONGO_DATABASE_HOST"]) as client:
        _documents(client).insert_one({"_id": "a", "text": "kept"})
    _publish(stack, b"kept")
    for service in stack.services:
        stack.kill(service)
    assert {row.state for row in stack.status()} == {"dead"}
    stack.up()
    with MongoClient[dict[str, Any]](stack.environment()["MONGO_DATABASE_HOST"]) as client:
        assert _documents(client).find_one({"_id": "a"})["text"] == "kept"
    assert _consume(stack) == b"kept"


def test_one_service_dies_alone(stack: LocalStack) -> None:
    """Killing one service touches no other, and `start` brings it back ready."""
    before = {row.service: row for row in stack.status()}
    stack.kill("mongo2")
    after = {row.service: row for row in stack.status()}
    assert after.pop("mongo2").state == "dead"
    assert all(before[name] == row for name, row in after.items())
    stack.start("mongo2")
    assert stack.pid("mongo2") not in {None, before["mongo2"].pid}


def test_the_node_obeys_rabbitmqctl(stack: LocalStack) -> None:
    """rabbitmqctl reaches the stack's own node through its own port mapper."""
    assert "kept" in stack.rabbitmqctl("list_queues", "name")


def test_a_second_stack_runs_beside_the_first(stack: LocalStack, tmp_path: Path) -> None:
    """Two stacks on one machine have nothing in common, and ending one leaves the other."""
    with running_stack(tmp_path, services=["epmd"]) as second:
        assert second.pid("epmd") != stack.pid("epmd")
    assert {row.state for row in stack.status()} == {"running"}


def test_down_leaves_nothing(tmp_path: Path) -> None:
    """After `down` no process with the stack's mark is left and its ports are free again."""
    with running_stack(tmp_path, services=["mq"], options=Options(management=False)) as stack:
        assert len(process.owned_by(str(tmp_path))) >= 3
    assert process.owned_by(str(tmp_path)) == []
    assert can_bind(stack.ports.amqp)
    assert {row.state for row in stack.status()} == {"stopped"}


def test_a_killed_starter_takes_its_stack_along(tmp_path: Path) -> None:
    """When the process that holds `running_stack` is killed, the guard ends the services."""
    program = (
        "import sys, time; from local_stack.stack import running_stack\n"
        "with running_stack(sys.argv[1], services=['epmd']):\n"
        "    print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.owned_by(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.owned_by(str(tmp_path)) == []


def test_a_taken_port_stops_everything_before_it_starts(tmp_path: Path) -> None:
    """A taken port is named with its holder, and no other service was started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = replace(Ports.free(), amqp=server.getsockname()[1])
        stack = LocalStack(Layout.at(tmp_path), ports=ports, services=["mq"])
        with pytest.raises(PortTaken, match=rf"port {ports.amqp} \(AMQP of mq\).*{os.getpid()}"):
            stack.up()
    assert process.owned_by(str(tmp_path)) == []


def test_a_service_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    """A service that cannot run fails the start with the end of its log."""
    ports = Ports.free()
    stack = LocalStack(Layout.at(tmp_path), ports=ports, services=["mongo1"])
    (tmp_path / "data" / "mongo1").mkdir(parents=True)
    (tmp_path / "data" / "mongo1" / "storage.bson").write_text("no BSON")
    with pytest.raises(ServiceFailed, match=r"mongo1 ended while it started[\s\S]*InvalidBSON"):
        stack.up()
    stack.down()


def test_the_command_from_up_to_down(tmp_path: Path) -> None:
    """up, status, logs and down work from separate commands and tell what they did."""
    up = _command(tmp_path, "up", "--free-ports", "--only", "epmd")
    assert (up.returncode, up.stderr) == (0, "")
    assert "epmd              ready after" in up.stdout
    rows = json.loads(_command(tmp_path, "status", "--json").stdout)
    assert [(row["service"], row["state"]) for row in rows] == [("epmd", "running")]
    assert "already running" in _command(tmp_path, "up").stdout
    assert _command(tmp_path, "logs", "epmd").returncode == 0
    assert f"pid {rows[0]['pid']}" in _command(tmp_path, "down").stdout
    status = _command(tmp_path, "status")
    assert status.returncode == 4
    assert "stopped" in status.stdout


@pytest.mark.parametrize(
    ("only", "missing", "remedy"),
    [("epmd", "Erlang (epmd)", "PATH"), ("mongo", "/nowhere/mongod", "MONGOD_BINARY")],
)
def test_a_missing_program_is_named(tmp_path: Path, only: str, missing: str, remedy: str) -> None:
    """A program that is not there ends `up` with its name and a remedy, before anything starts."""
    up = _command(tmp_path, "up", "--only", only, PATH="", MONGOD_BINARY="/nowhere/mongod")
    assert up.returncode == 1
    assert missing in up.stderr
    assert remedy in up.stderr
    assert up.stdout == ""


@pytest.mark.parametrize("words", [("up", "--only", "redis"), ("logs", "redis")])
def test_an_unknown_service_is_a_usage_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A name that is no service exits with status 2 and lists those that are."""
    done = _command(tmp_path, *words)
    assert done.returncode == 2
    assert "feature_pipeline" in done.stderr
