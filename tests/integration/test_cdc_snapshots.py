"""When `python -m data_cdc` reads collections in full, how it goes on, and who may ask for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from bson import ObjectId

from core import signals
from core.events import ChangeEvent, Op, SnapshotCompleted
from tests.cdc_harness import Cdc, Queue, Received, contents, finish, replay
from tests.twin_harness import until

MANY = 6000


def reads(received: list[Received]) -> list[ChangeEvent]:
    """The events that come from a snapshot, deletes of what was asked for included."""
    return [
        one.event
        for one in received
        if isinstance(one.event, ChangeEvent) and one.event.snapshot == "true"
    ]


def markers(received: list[Received]) -> list[SnapshotCompleted]:
    return [one.event for one in received if isinstance(one.event, SnapshotCompleted)]


def twin(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fill(database: Any, count: int = MANY) -> None:
    """Documents of some size, so that a read of them takes a while."""
    database.articles.insert_many([{"_id": n, "content": "x" * 2000} for n in range(count)])


def test_always_reads_at_every_start(cdc: Cdc, database: Any, queue: Queue) -> None:
    """With CDC_SNAPSHOT_MODE=always a second start tells again what the first one told."""
    database.articles.insert_one({"_id": "a"})
    for number in (1, 2):
        cdc.start(CDC_SNAPSHOT_MODE="always")
        cdc.says("snapshot.completed", times=number)
        assert cdc.end() == 0
    cdc.start()
    received = finish(database, queue)
    assert [event.key for event in reads(received)] == ['"a"', '"a"']
    assert len(markers(received)) == 2
    assert cdc.text().count("cdc.gap_declared") == 0


def test_initial_only_ends_when_all_is_read_and_the_stream_follows_on_later(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """It ends with status 0; a later start takes up every change made since it began."""
    fill(database, 1200)
    cdc.start(CDC_SNAPSHOT_MODE="initial_only")
    assert cdc.wait() == 0
    database.articles.update_one({"_id": 7}, {"$set": {"content": "y"}})
    database.articles.delete_one({"_id": 8})
    cdc.start(CDC_SNAPSHOT_MODE="initial_only")
    assert cdc.wait() == 0
    cdc.start()
    received = finish(database, queue)
    assert len(reads(received)) == 1200
    assert len(markers(received)) == 1
    assert replay(received) == contents(database)


def test_no_data_begins_with_what_is_written_from_now_on(
    cdc: Cdc, database: Any, queue: Queue
) -> None:
    """What was there before is not told, and nothing is swept."""
    database.articles.insert_one({"_id": "before"})
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="no_data")
    received = finish(database, queue)
    assert [one.event.key for one in received if isinstance(one.event, ChangeEvent)] == [
        '"sentinel"'
    ]
    assert not markers(received)


@pytest.mark.fault(15)
def test_a_crash_in_the_middle_of_a_snapshot_costs_a_chunk_and_no_more(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """A kill -9 resumes behind the last document that was confirmed, also after changes."""
    fill(database)
    cdc.start()
    until(lambda: progress(state) > 1000, "some chunks to be confirmed")
    cdc.kill()
    kept = progress(state)
    database.articles.delete_many({"_id": {"$gte": MANY - 10}})
    database.articles.update_one({"_id": 1}, {"$set": {"content": "later"}})
    assert 0 < kept < MANY
    cdc.start()
    cdc.says("snapshot.resumed")
    cdc.says("snapshot.completed")
    received = finish(database, queue)
    assert replay(received) == contents(database)
    # What was published and not yet kept is read again: a quarter of a second's worth, and the
    # window that was in flight.
    assert len(reads(received)) < MANY + 4000
    assert len(markers(received)) == 1
    assert cdc.text().count("snapshot.started") == 1


def progress(state: Any) -> int:
    kept = state.cdc_checkpoints.find_one() or {}
    rows: int = next(iter(kept.get("snapshots", [])), {}).get("rows", 0)
    return rows


def test_the_stream_goes_on_while_a_snapshot_runs(cdc: Cdc, database: Any, queue: Queue) -> None:
    """A change made in the middle of a long read does not wait for its end."""
    fill(database, 10_000)
    cdc.start(ready=True)
    database.posts.insert_one({"_id": "at once"})
    received = queue.read_to('"at once"')
    assert not markers(received)
    assert len(reads(received)) < 10_000


def test_documents_can_be_asked_for_while_the_stream_goes_on(
    cdc: Cdc, environment: Mapping[str, str], database: Any, state: Any, queue: Queue
) -> None:
    """twin snapshot --ids tells each as it is now, and one that is gone as deleted; no sweep."""
    there, gone = ObjectId(), ObjectId()
    database.posts.insert_many([{"_id": there}, {"_id": 5}, {"_id": "other"}])
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="no_data")
    asked = twin(
        environment,
        *("snapshot", "--collection", "posts", "--ids", f"{there},5", "--ids", str(gone)),
        *("--wait", "30", "--json"),
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["state"] == "completed"
    received = finish(database, queue)
    told = {event.key: event.op for event in reads(received)}
    assert told == {
        f'{{"$oid":"{there}"}}': Op.READ,
        '{"$numberInt":"5"}': Op.READ,
        f'{{"$oid":"{gone}"}}': Op.DELETE,
        f'"{gone}"': Op.DELETE,
    }
    assert not markers(received)
    assert state.signals.count_documents({}) == 0


def test_requests_by_hand_are_answered_and_what_is_none_is_refused(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """An `_id` that MongoDB chose is as good as ours; nonsense neither ends data_cdc nor stays."""
    database.articles.insert_one({"_id": "a"})
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="no_data")
    state.signals.insert_many(
        [
            {"collections": None},
            {"collections": ["articles"], "keys": ["not json"]},
            {"collections": ["articles"]},
        ]
    )
    cdc.says("snapshot.completed")
    until(lambda: not state.signals.count_documents({}), "all to be taken off the list")
    assert cdc.text().count("signal.refused") == 2
    received = finish(database, queue)
    assert [event.key for event in reads(received)] == ['"a"']


def test_a_collection_can_be_asked_for_and_what_it_lacks_is_swept(
    cdc: Cdc, environment: Mapping[str, str], database: Any, queue: Queue
) -> None:
    """twin snapshot --collection reads that one alone, and its marker names it alone."""
    database.articles.insert_one({"_id": "a"})
    database.posts.insert_one({"_id": "p"})
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="no_data")
    asked = twin(environment, "snapshot", "--collection", "posts", "--wait", "30")
    assert asked.returncode == 0, asked.stderr
    received = finish(database, queue)
    assert [event.key for event in reads(received)] == ['"p"']
    assert [marker.collections for marker in markers(received)] == [("posts",)]


@pytest.mark.fault(15)
def test_a_request_outlives_a_kill(
    cdc: Cdc, environment: Mapping[str, str], database: Any, state: Any, queue: Queue
) -> None:
    """Asked for while nothing runs, and killed in the middle: it is fulfilled all the same."""
    fill(database)
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="no_data")
    cdc.kill()
    asked = twin(environment, "snapshot", "--collection", "articles", "--wait", "1")
    assert (asked.returncode, "waiting" in asked.stdout) == (4, True)
    cdc.start()
    until(lambda: progress(state) > 0, "the first chunk to be confirmed")
    cdc.end(signal.SIGKILL)
    assert state.signals.count_documents({}) == 1
    cdc.start()
    until(lambda: not state.signals.count_documents({}), "the request to be answered")
    assert replay(finish(database, queue)) == contents(database)


def test_a_declared_gap_is_answered_or_ends_the_service(
    cdc: Cdc, database: Any, state: Any, queue: Queue
) -> None:
    """What another service has lost is read again, unless the mode forbids it: then status 5."""
    database.articles.insert_one({"_id": "a"})
    cdc.start(ready=True, CDC_SNAPSHOT_MODE="initial")
    cdc.says("snapshot.completed")
    signals.declare_gap(state, "a collection is gone")
    assert cdc.wait() == 5
    assert "a collection is gone" in cdc.text()
    cdc.start()
    until(lambda: not state.signals.count_documents({}), "the gap to be answered")
    received = finish(database, queue)
    assert [event.key for event in reads(received)] == ['"a"', '"a"']


def test_status_tells_of_a_running_snapshot(
    cdc: Cdc, environment: Mapping[str, str], database: Any, state: Any
) -> None:
    """twin status --json shows how far a snapshot came, and who leads."""
    fill(database, 20_000)
    cdc.start()
    until(lambda: progress(state) > 0, "the first chunk to be confirmed")
    cdc.kill()
    told = json.loads(twin(environment, "status", "--json").stdout)["mongodb"]["cdc"]
    assert told["snapshots"][0]["total"] == 20_000
    assert 0 < told["snapshots"][0]["rows"] < 20_000
    assert told["snapshots"][0]["collection"] == "articles"


def test_asking_for_what_is_not_captured_is_a_usage_error(environment: Mapping[str, str]) -> None:
    """It names the collection and what is captured; --ids without a collection is one, too."""
    unknown = twin(environment, "snapshot", "--collection", "users")
    assert unknown.returncode == 2
    assert "users is not captured" in unknown.stderr
    assert twin(environment, "snapshot", "--ids", "a").returncode == 2


def test_asking_for_too_many_documents_at_once_is_a_usage_error(
    environment: Mapping[str, str], state: Any
) -> None:
    """It says how many one request may have, and asks for nothing."""
    ids = ",".join(map(str, range(10_001)))
    refused = twin(environment, "snapshot", "--collection", "posts", "--ids", ids)
    assert refused.returncode == 2
    assert "more than the 10000 of one request" in refused.stderr
    assert state.signals.count_documents({}) == 0
