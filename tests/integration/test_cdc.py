"""`python -m data_cdc` between a real replica set and a real broker."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from bson import Binary, MaxKey, MinKey, ObjectId
from pymongo.errors import PyMongoError

from core.documents import document_key
from core.events import ChangeEvent, Op, Purge, SnapshotCompleted
from local_stack.stack import LocalStack
from tests.cdc_harness import (
    COLLECTIONS,
    SENTINEL,
    Cdc,
    Client,
    Queue,
    contents,
    courses,
    finish,
    replay,
)
from tests.twin_harness import until

IDS: list[Any] = [
    "a-string",
    ObjectId("6b000512b5d1714ad0f5bf3b"),
    42,
    Binary(uuid.UUID("8b2347ff-8732-447d-9a4e-341e35b37274").bytes, 4),
]


@contextmanager
def writing(work: Callable[[int], object]) -> Iterator[None]:
    """Call `work` with 0, 1, 2 … in a thread while the block runs; a failing one is skipped."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            try:
                work(number)
            except PyMongoError:
                done.wait(0.2)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_each_operation_on_each_collection_with_each_kind_of_id(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """Insert, update, replace and delete arrive in order as c, u, u, d, with the document."""
    cdc.start()
    cdc.says("cdc.streaming")
    for name in COLLECTIONS:
        for identifier in IDS:
            query = {"_id": identifier}
            database[name].insert_one({**query, "content": {"Title": "Été 中文 😀"}})
            database[name].update_one(query, {"$set": {"platform": None}})
            database[name].replace_one(query, {"content": "def f():\n\treturn 1"})
    # An update whose document is deleted before its look-up tells nothing by itself.
    database.posts.insert_one({"_id": "pause"})
    queue.read_to('"pause"')
    for name in COLLECTIONS:
        database[name].delete_many({})
    received = finish(database, queue)
    for name in COLLECTIONS:
        for identifier in IDS:
            key = document_key(identifier)
            events = [
                one.event
                for one in received
                if isinstance(one.event, ChangeEvent)
                and (one.event.collection, one.event.key) == (name, key)
            ]
            assert [event.op for event in events] == [Op.CREATE, Op.UPDATE, Op.UPDATE, Op.DELETE]
            versions = [event.version for event in events]
            assert versions == sorted(versions)  # type: ignore[type-var]
    assert replay(received).keys() == {("articles", f'"{SENTINEL}"')}
    cdc.end()
    text = cdc.text()
    assert "Connection to database with uri: " in text
    assert "Change detected and serialized for a data sample of type articles." in text
    assert "Data of type 'articles' published to RabbitMQ." in text


@pytest.mark.fault(14)
def test_a_first_start_tells_what_was_there_before(cdc: Cdc, database: Any, queue: Queue) -> None:
    """Documents of each `_id` type are read, each once, and a marker closes the read."""
    many = [{"_id": number, "content": "x" * 100} for number in range(1200)]
    mixed = [1.5, "b", ObjectId(), IDS[3], True, {"a": 1}, "$literal", MinKey(), MaxKey()]
    database.articles.insert_many([*many, *({"_id": one} for one in mixed)])
    database.posts.insert_one({"content": None})
    cdc.start()
    received = queue_after_start(cdc, queue)
    reads = [one.event for one in received if isinstance(one.event, ChangeEvent)]
    marker = received[-1].event
    assert {event.op for event in reads} == {Op.READ}
    assert len(reads) == 1200 + len(mixed) + 1
    assert isinstance(marker, SnapshotCompleted)
    assert set(marker.collections) == set(COLLECTIONS)
    assert marker.version.number <= min(event.version.number for event in reads if event.version)
    assert replay(received) == contents(database)


def queue_after_start(cdc: Cdc, queue: Queue) -> list[Any]:
    cdc.says("cdc.streaming")
    return queue.read_until(lambda one: isinstance(one.event, SnapshotCompleted))


@pytest.mark.fault(14)
def test_changes_while_the_first_read_runs_are_not_lost(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """Reading and writing at once ends in what MongoDB holds, deletes included."""
    database.articles.insert_many([{"_id": n, "n": 0} for n in range(3000)])

    def write(number: int) -> None:
        database.articles.update_one({"_id": number * 7 % 3000}, {"$inc": {"n": 1}}, upsert=True)
        database.articles.delete_one({"_id": number * 13 % 3000})

    with writing(write):
        cdc.start()
        cdc.says("snapshot.completed")
    received = finish(database, queue)
    assert replay(received) == contents(database)
    assert courses(received) == 1


@pytest.mark.fault(16)
def test_it_waits_for_a_broker_that_is_not_up_and_says_so(
    infra: LocalStack, cdc: Cdc, database: Any, queue: Queue
) -> None:
    """Started before the broker it waits with a warning; stopped under load it loses nothing."""
    infra.kill("mq")
    cdc.start()
    cdc.says('"waiting_for": "RabbitMQ"')
    infra.start("mq")
    cdc.says("cdc.streaming")
    with writing(lambda number: database.posts.insert_one({"_id": number})):
        until(lambda: database.posts.count_documents({}) > 50, "some documents")
        infra.stop("mq")
        cdc.says("broker.unavailable", times=cdc.text().count("broker.unavailable") + 1)
        infra.start("mq")
        cdc.says("broker.connected", times=2)
    received = finish(database, queue)
    assert replay(received) == contents(database)
    assert courses(received) <= 2


@pytest.mark.fault(3)
def test_a_stepdown_under_load_loses_nothing(
    client: Client, cdc: Cdc, database: Any, queue: Queue
) -> None:
    """The stream goes on with the next primary where it was."""
    cdc.start()
    cdc.says("cdc.streaming")
    with writing(lambda number: database.articles.insert_one({"_id": number})):
        until(lambda: database.articles.count_documents({}) > 50, "some documents")
        primary = client.primary
        client.admin.command("replSetStepDown", 15, secondaryCatchUpPeriodSecs=5, force=True)
        until(lambda: client.primary not in (None, primary), "another primary", 30)
        count = database.articles.count_documents({})
        until(lambda: database.articles.count_documents({}) > count + 50, "more documents")
    received = finish(database, queue)
    assert replay(received) == contents(database)
    assert courses(received) == 1


@pytest.mark.fault(30)
def test_sigterm_drains_and_the_next_run_repeats_nothing(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """What was read is confirmed and kept before it ends with status 0."""
    cdc.start()
    cdc.says("cdc.streaming")
    with writing(lambda number: database.articles.insert_one({"_id": number})):
        until(lambda: database.articles.count_documents({}) > 100, "some documents")
        assert cdc.end() == 0
    cdc.start()
    received = finish(database, queue)
    assert replay(received) == contents(database)
    assert len({one.message_id for one in received}) == len(received)


@pytest.mark.fault(8, 9)
def test_a_dropped_or_replaced_collection_is_told(cdc: Cdc, database: Any, queue: Queue) -> None:
    """drop and dropDatabase purge, $out purges and reads again, and the stream goes on."""
    cdc.start()
    cdc.says("cdc.streaming")
    database.articles.insert_many([{"_id": number} for number in range(5)])
    database.posts.insert_one({"_id": "old"})
    database.articles.aggregate([{"$match": {"_id": {"$lt": 2}}}, {"$out": "posts"}])
    database.articles.drop()
    cdc.says("snapshot.completed", times=2)
    database.repositories.insert_one({"_id": 1})
    received = queue.read_until(lambda one: getattr(one.event, "collection", "") == "repositories")
    assert replay(received) == contents(database)
    assert replay(received).keys() == {
        ("posts", document_key(0)),
        ("posts", document_key(1)),
        ("repositories", document_key(1)),
    }
    database.client.drop_database(database.name)
    received = finish(database, queue)
    assert [one.event.reason for one in received if isinstance(one.event, Purge)] == [
        *("rename", "drop"),
        *(["drop"] * (len([one for one in received if isinstance(one.event, Purge)]) - 3)),
        "dropDatabase",
    ]
    assert replay(received).keys() == {("articles", f'"{SENTINEL}"')}


@pytest.mark.fault(18)
def test_a_queue_that_is_gone_is_a_gap(
    cdc: Cdc, database: Any, queue: Queue, names: Mapping[str, str]
) -> None:
    """A queue deleted, even if made anew by a consumer, is declared, and answered by a read."""
    database.articles.insert_one({"_id": 1})
    cdc.start()
    cdc.says("cdc.streaming")
    assert cdc.end() == 0
    queue.delete()
    database.articles.delete_one({"_id": 1})
    database.articles.insert_one({"_id": 2})
    queue.declare_anew(names["MONGO_DATABASE_NAME"])
    cdc.start()
    cdc.says("cdc.gap_declared")
    cdc.says("cdc.streaming", times=2)
    received = finish(database, queue)
    assert any(isinstance(one.event, SnapshotCompleted) for one in received)
    assert replay(received) == contents(database)


@pytest.mark.fault(18)
def test_a_queue_that_goes_while_it_runs_is_a_gap(
    cdc: Cdc, database: Any, queue: Queue, names: Mapping[str, str]
) -> None:
    """Deleted and made anew at once, so that no message comes back: declared all the same."""
    cdc.start(ready=True)
    database.articles.insert_many([{"_id": number} for number in range(20)])
    until(lambda: queue.depth() >= 20, "the messages that will be lost")
    queue.delete()
    queue.declare_anew(names["MONGO_DATABASE_NAME"])
    cdc.says("cdc.gap_declared")
    received = finish(database, queue)
    assert replay(received) == contents(database)


@pytest.mark.fault(6)
def test_a_position_that_the_oplog_lost_is_a_gap(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """`initial` ends with a status of its own and says what to do; `when_needed` reads again."""
    cdc.start()
    cdc.says("snapshot.completed")
    assert cdc.end() == 0
    kept = state.cdc_checkpoints.find_one()
    state.cdc_checkpoints.update_one(
        {"_id": kept["_id"]}, {"$set": {"token": {"_data": "not a token"}}}
    )
    cdc.start(CDC_SNAPSHOT_MODE="initial")
    assert cdc.wait() == 5
    assert "CDC_SNAPSHOT_MODE=when_needed" in cdc.text()
    cdc.start()
    cdc.says("cdc.gap_declared", times=2)
    cdc.says("snapshot.completed", times=2)
    received = finish(database, queue)
    assert len([one for one in received if isinstance(one.event, SnapshotCompleted)]) == 2


@pytest.mark.fault(7)
def test_a_token_that_the_filter_now_hides_is_no_gap(cdc: Cdc, database: Any, queue: Queue) -> None:
    """Another choice of collections resumes by time, and reads what is newly captured."""
    database.articles.insert_one({"_id": "before"})
    cdc.start(CDC_COLLECTIONS="posts")
    cdc.says("cdc.streaming")
    database.posts.insert_one({"_id": 1})
    cdc.says("Data of type 'posts'")
    assert cdc.end() == 0
    cdc.start(CDC_COLLECTIONS="articles")
    received = finish(database, queue)
    assert "cdc.gap_declared" not in cdc.text()
    assert ("articles", '"before"') in replay(received)


@pytest.mark.fault(10)
def test_a_change_over_16_mb_is_told_all_the_same(cdc: Cdc, database: Any, queue: Queue) -> None:
    """An update that MongoDB cannot send whole is asked for without its document."""
    cdc.start()
    cdc.says("cdc.streaming")
    large = "x" * (10 * 1024 * 1024)
    database.articles.insert_one({"_id": "large"})
    database.articles.update_one({"_id": "large"}, {"$set": {"content": large}})
    received = finish(database, queue, timeout=60)
    assert "stream.oversize_event" in cdc.text()
    assert replay(received) == contents(database)


def test_the_check_tells_whether_it_runs(
    environment: Mapping[str, str], cdc: Cdc, state: Any, database: Any, queue: Queue
) -> None:
    """`--check` is 0 while the heartbeat is fresh, and 1 without one."""
    assert check(environment) == 1
    cdc.start()
    until(state.cdc_status.find_one, "a heartbeat")
    assert check(environment) == 0


def check(environment: Mapping[str, str]) -> int:
    import os

    command = [sys.executable, "-m", "data_cdc", "--check"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=False, capture_output=True
    )
    return done.returncode


def test_a_refused_password_is_a_clear_end(cdc: Cdc, environment: Mapping[str, str]) -> None:
    """What no waiting mends ends the process with a sentence and status 2."""
    cdc.start(RABBITMQ_DEFAULT_USERNAME="nobody")
    assert cdc.wait() == 2
    assert "RABBITMQ_DEFAULT_USERNAME" in cdc.text()


def test_standalone_settings_are_explained(cdc: Cdc, environment: Mapping[str, str]) -> None:
    """A value that is no URI is one sentence that names the variable."""
    cdc.start(MONGO_DATABASE_HOST="localhost")
    assert cdc.wait() == 2
    assert "MONGO_DATABASE_HOST" in cdc.text()


def test_the_course_s_message_form(cdc: Cdc, database: Any, queue: Queue) -> None:
    """CDC_MESSAGE_FORMAT=flat tells the same, for consumers of the course's messages."""
    cdc.start(CDC_MESSAGE_FORMAT="flat")
    cdc.says("cdc.streaming")
    database.articles.insert_one({"_id": "a", "platform": "medium"})
    database.articles.insert_one({"_id": "b"})
    database.articles.delete_one({"_id": "b"})
    received = finish(database, queue)
    kept = {key: dict(document) for (_, key), document in replay(received).items()}
    assert kept == {'"a"': {"platform": "medium"}, f'"{SENTINEL}"': {}}
