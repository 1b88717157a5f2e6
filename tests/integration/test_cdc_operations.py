"""Metrics, health and preflight of data_cdc, on real services."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from local_stack.mongo import mongod_binary
from local_stack.ports import free_ports
from tests.cdc_harness import Cdc, cdc_process
from tests.twin_harness import until

if TYPE_CHECKING:
    from local_stack.stack import LocalStack


class Operations:
    """One data_cdc as those see it who watch it."""

    def __init__(self, cdc: Cdc) -> None:
        self.cdc = cdc
        self.port = free_ports(1)[0]

    def start(self, *, ready: bool = False) -> None:
        """Start it with a port to ask at."""
        self.cdc.start(ready=ready, CDC_HTTP_PORT=str(self.port))

    def health(self, path: str) -> tuple[int, dict[str, str]]:
        """The status, and what each check says."""
        status, body = self._get(path)
        return status, json.loads(body)["checks"] if body else {}

    def becomes_ready(self, timeout: float = 60) -> None:
        """Wait for status 200."""
        until(lambda: self.health("/readyz")[0] == 200, "readyz to say 200", timeout)

    def becomes_unready(self, check: str, words: str, timeout: float = 60) -> None:
        """Wait for status 503 with these words about `check`."""
        until(
            lambda: words in self.health("/readyz")[1].get(check, ""),
            f"readyz to say {words!r}",
            timeout,
        )
        assert self.health("/readyz")[0] == 503

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of /metrics."""
        for family in text_string_to_metric_families(self._get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def shows(self, name: str, value: float, **labels: str) -> None:
        """Wait until a sample has this value."""
        until(lambda: self.value(name, **labels) == value, f"{name} to be {value}", 40)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        except OSError:
            return 0, ""
        with answer:
            return answer.status, answer.read().decode()


@pytest.fixture
def one(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Operations]:
    with cdc_process(environment, tmp_path) as cdc:
        yield Operations(cdc)


@pytest.fixture
def other(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Operations]:
    (tmp_path / "other").mkdir()
    with cdc_process(environment, tmp_path / "other") as cdc:
        yield Operations(cdc)


def preflight(environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit status and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "data_cdc", "--preflight"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


# -- metrics and health --------------------------------------------------------------


def test_metrics_tell_what_happens(one: Operations, database: Any) -> None:
    """Snapshot, changes, position, oplog and queue each move their numbers."""
    database.posts.insert_many([{"_id": number} for number in range(700)])
    one.start(ready=True)
    namespace = f"{database.name}.articles"
    one.shows("cdc_snapshot_rows_total", 700)
    one.shows("cdc_snapshot_running", 0)
    one.shows("cdc_events_total", 700, op="r", ns=f"{database.name}.posts")
    database.articles.insert_one({"_id": "a"})
    one.shows("cdc_events_total", 1, op="c", ns=namespace)
    database.articles.update_one({"_id": "a"}, {"$set": {"content": "b"}})
    # An update whose document is gone when it is looked up is left to its delete.
    one.shows("cdc_events_total", 1, op="u", ns=namespace)
    database.articles.delete_one({"_id": "a"})
    one.shows("cdc_events_total", 1, op="d", ns=namespace)
    one.shows("cdc_source_lag_seconds_count", 3)
    assert 0 <= (one.value("cdc_source_lag_seconds_sum") or -1) < 30
    one.shows("cdc_publish_inflight", 0)
    one.shows("cdc_source_behind_seconds", 0)
    assert one.value("cdc_leader") == 1
    assert (one.value("cdc_bytes_total") or 0) > 1000
    assert (one.value("cdc_confirm_seconds_count") or 0) >= 703
    assert (one.value("cdc_getmore_seconds_count") or 0) > 0
    assert (one.value("cdc_last_event_age_seconds") or 99) < 30
    assert (one.value("process_resident_memory_bytes") or 0) > 10_000_000
    until(lambda: (one.value("cdc_queue_depth") or 0) >= 703, "the queue's depth", 40)
    until(lambda: (one.value("cdc_oplog_headroom_seconds") or -1) >= 0, "the oplog's headroom", 40)
    assert one.value("cdc_oplog_headroom_ratio") == 1  # the oplog is nearly empty
    assert (one.value("cdc_checkpoint_age_seconds") or 99) < 30


def test_readiness_follows_the_broker(one: Operations, infra: LocalStack, database: Any) -> None:
    """Broker gone: 503 with the reason, alive, and the lag grows; broker back: 200 by itself."""
    one.start(ready=True)
    one.becomes_ready()
    infra.stop("mq")
    database.articles.insert_one({"_id": "meanwhile"})
    one.becomes_unready("rabbitmq", "no connection to RabbitMQ")
    until(lambda: (one.value("cdc_source_behind_seconds") or 0) > 1, "the lag to grow")
    assert one.health("/livez") == (200, {"loop": "ok"})
    infra.start("mq")
    one.becomes_ready()
    one.shows("cdc_events_total", 1, op="c", ns=f"{database.name}.articles")
    one.shows("cdc_source_behind_seconds", 0)


@pytest.mark.fault(19)
def test_a_broker_that_raises_an_alarm_is_a_reason(
    one: Operations, infra: LocalStack, database: Any
) -> None:
    """A memory alarm is told as such, and the metric says that publishers are held back."""
    one.start(ready=True)
    one.becomes_ready()
    infra.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        # The broker tells a publisher of the alarm when it publishes.
        database.articles.insert_one({"_id": "blocked"})
        one.becomes_unready("rabbitmq", "holds back publishers")
        assert one.value("cdc_broker_blocked") == 1
    finally:
        infra.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    one.becomes_ready()
    one.shows("cdc_broker_blocked", 0)


@pytest.mark.fault(21)
def test_one_that_stands_by_says_so_and_takes_over(one: Operations, other: Operations) -> None:
    """A standby is alive and not ready; once the leader is killed it leads and is ready."""
    one.start(ready=True)
    one.becomes_ready()
    other.start()
    other.becomes_unready("leader", "stands by")
    assert other.health("/livez")[0] == 200
    assert other.value("cdc_leader") == 0
    one.cdc.kill()
    other.becomes_ready()
    assert other.value("cdc_leader") == 1


def test_a_second_one_on_the_same_port_goes_on(one: Operations, other: Operations) -> None:
    """A taken port is a warning: standing by matters more than being watched."""
    one.start(ready=True)
    other.port = one.port
    other.start()
    other.cdc.says("http.not_served")
    other.cdc.says("cdc.standing_by")
    assert other.cdc.end() == 0


def test_it_is_watched_before_mongodb_is_there(one: Operations) -> None:
    """With no MongoDB to reach it is alive, and says why it is not ready."""
    nowhere = f"mongodb://127.0.0.1:{free_ports(1)[0]}/?replicaSet=none"
    one.cdc.start(CDC_HTTP_PORT=str(one.port), MONGO_DATABASE_HOST=nowhere)
    until(lambda: one.health("/readyz")[0] == 503, "readyz to answer")
    assert one.health("/livez")[0] == 200
    assert one.cdc.end(signal.SIGTERM) == 0


# -- preflight -------------------------------------------------------------------------


def test_preflight_of_a_stack_in_order(environment: Mapping[str, str]) -> None:
    """One line for each check, and status 0; queue and exchanges are not made by looking."""
    status, told = preflight(environment)
    checks = [line.split(maxsplit=2)[1] for line in told.splitlines()]
    assert (status, checks[:7]) == (
        0,
        ["deployment", "version", "rights", "collections", "images", "oplog", "clock"],
    )
    assert not [line for line in told.splitlines() if line.startswith(("warning", "error"))]
    assert f"queue {environment['RABBITMQ_QUEUE_NAME']} is not there yet" in told
    assert preflight(environment) == (status, told)


def test_preflight_tells_of_a_queue_with_other_arguments(
    environment: Mapping[str, str],
) -> None:
    """Somebody's classic queue is a warning, and none that keeps the service from running."""
    broker = pika.ConnectionParameters(
        environment["RABBITMQ_HOST"], int(environment["RABBITMQ_PORT"])
    )
    with pika.BlockingConnection(broker) as connection:
        connection.channel().queue_declare(environment["RABBITMQ_QUEUE_NAME"], durable=True)
    status, told = preflight(environment)
    assert status == 0
    assert [line.split()[:2] for line in told.splitlines() if line.startswith("warning")] == [
        ["warning", "queue"]
    ]


def test_preflight_tells_how_to_enable_pre_images(
    environment: Mapping[str, str], database: Any
) -> None:
    """CDC_PRE_IMAGES without images is a warning, with images it is none."""
    database.create_collection("articles")
    wanting = {**environment, "CDC_PRE_IMAGES": "true", "CDC_COLLECTIONS": "articles"}
    _, told = preflight(wanting)
    assert "articles keep no images" in told
    database.command("collMod", "articles", changeStreamPreAndPostImages={"enabled": True})
    _, told = preflight(wanting)
    assert "articles keep images" in told


def test_what_cannot_be_captured_ends_the_service_at_its_start(
    environment: Mapping[str, str], database: Any, tmp_path: Path
) -> None:
    """A view and a capped collection are errors that name the setting."""
    database.create_collection("articles", capped=True, size=4096)
    database.create_collection("posts", viewOn="articles", pipeline=[])
    status, told = preflight(environment)
    assert status == 4
    assert "posts: a view" in told
    assert "articles: a capped collection" in told
    with cdc_process(environment, tmp_path) as cdc:
        cdc.start()
        assert cdc.wait() == 2
        assert "CDC_COLLECTIONS: posts: a view" in cdc.text()


def test_preflight_of_services_that_are_away(environment: Mapping[str, str]) -> None:
    """Status 3, and a line for each that cannot be reached."""
    port = str(free_ports(1)[0])
    away = {
        "MONGO_DATABASE_HOST": f"mongodb://127.0.0.1:{port}/",
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_PORT": port,
    }
    status, told = preflight({**environment, **away})
    assert status == 3
    assert told.count("cannot be reached") == 2


def test_a_standalone_mongodb_is_an_error(environment: Mapping[str, str], tmp_path: Path) -> None:
    """Preflight says what a replica set is needed for, and the service ends with that."""
    with mongod(tmp_path / "alone") as port:
        alone = {**environment, "MONGO_DATABASE_HOST": f"mongodb://127.0.0.1:{port}/"}
        status, told = preflight(alone)
        assert status == 4
        assert "only a replica set has change streams" in told
        with cdc_process(alone, tmp_path) as cdc:
            cdc.start()
            assert cdc.wait() == 2
            assert "only a replica set has change streams" in cdc.text()


def test_missing_rights_are_errors_that_name_the_role(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    """A user who may do nothing is told each right it lacks, and what to grant."""
    database = environment["MONGO_DATABASE_NAME"]
    with mongod(tmp_path / "guarded", guarded=True) as port:
        rights: dict[str, list[dict[str, str]]] = {
            "none": [],
            "enough": [
                {"role": "read", "db": database},
                {"role": "readWrite", "db": f"{database}_state"},
            ],
        }
        for name, roles in rights.items():
            with admin(port) as client:
                client.admin.command("createUser", name, pwd="secret", roles=roles)
        status, told = preflight({**environment, "MONGO_DATABASE_HOST": uri(port, "none")})
        assert status == 4
        for words in ("change stream", "read the collections", "role readWrite"):
            assert words in told
        status, told = preflight({**environment, "MONGO_DATABASE_HOST": uri(port, "enough")})
        assert status == 0
        assert "not told to this user" in told
        wrong = uri(port, "enough").replace("secret", "guess")
        status, told = preflight({**environment, "MONGO_DATABASE_HOST": wrong})
        assert status == 4
        assert "refuses the credentials" in told
        assert "guess" not in told


def uri(port: int, user: str) -> str:
    return f"mongodb://{user}:secret@127.0.0.1:{port}/?directConnection=true&authSource=admin"


def admin(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri(port, "root"))


@contextmanager
def mongod(folder: Path, *, guarded: bool = False) -> Iterator[int]:
    """One mongod: alone, or a replica set of one that asks for a user's password."""
    folder.mkdir()
    port = free_ports(1)[0]
    extra: list[str] = []
    if guarded:
        key = folder / "key"
        key.write_text(secrets.token_hex(32))
        key.chmod(0o400)
        extra = ["--replSet", "guarded", "--keyFile", str(key), "--oplogSize", "64"]
    where = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
    few = ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([mongod_binary(), *where, *few, *extra], stdout=log)
    try:
        with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client:
            client.admin.command("ping")
            if guarded:
                _guard(client, port)
        yield port
    finally:
        process.kill()
        process.wait()


def _guard(client: MongoClient[dict[str, Any]], port: int) -> None:
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    client.admin.command("replSetInitiate", {"_id": "guarded", "members": members})
    until(lambda: client.admin.command("hello")["isWritablePrimary"], "a primary")
    with suppress(PyMongoError):
        client.admin.command("createUser", "root", pwd="secret", roles=["root"])
