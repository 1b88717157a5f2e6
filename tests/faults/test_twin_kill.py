"""Killing things under load. The oracle each time: final Qdrant = f(final MongoDB)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp

from core.versions import version_seconds
from local_stack.stack import LocalStack
from tests.fault_harness import under_load
from tests.twin_harness import Twin, open_twin, until

pytestmark = [pytest.mark.stack, pytest.mark.model]


@pytest.fixture
def twin(twin_env: dict[str, str], tmp_path: Path) -> Iterator[Twin]:
    """A twin whose services run."""
    with open_twin(twin_env, tmp_path) as twin:
        twin.cdc.start()
        twin.pipeline.start()
        yield twin


def check_in_step(twin: Twin) -> None:
    """The oracle, and that nothing was set aside on the way."""
    report = twin.report(settle_s=120)
    assert report.in_step, report.as_dict()
    assert twin.dead_letters() == []


@pytest.mark.fault(22)
def test_killing_the_pipeline_loses_nothing(twin: Twin) -> None:
    """kill -9 of the feature pipeline at random moments: every change is there in the end."""
    with under_load(twin) as writer:
        for pause in (0.3, 1.1, 0.7):
            time.sleep(pause)
            twin.pipeline.kill()
            twin.pipeline.start()
    assert writer.operations > 50
    check_in_step(twin)


@pytest.mark.fault(1)
def test_killing_the_capture_loses_nothing(twin: Twin) -> None:
    """kill -9 of data_cdc at random moments: it resumes where the broker had confirmed."""
    with under_load(twin, seed=2):
        for pause in (0.4, 0.9, 0.2, 1.3):
            time.sleep(pause)
            twin.cdc.kill()
            twin.cdc.start()
    check_in_step(twin)


@pytest.mark.fault(16)
def test_a_broker_that_dies_loses_nothing(twin: Twin, infra: LocalStack) -> None:
    """kill -9 of RabbitMQ under load: both services come back to it by themselves."""
    with under_load(twin, seed=3):
        time.sleep(1.5)
        infra.kill("mq")
        time.sleep(1)
        infra.start("mq")
        until(lambda: twin.pipeline.text().count("broker.connected") >= 2, "the consumer", 90)
    check_in_step(twin)


@pytest.mark.fault(22)
def test_a_qdrant_that_dies_loses_nothing(twin: Twin, fresh_qdrant: LocalStack) -> None:
    """kill -9 of Qdrant under load: what was not written waits until it is back."""
    with under_load(twin, seed=4):
        time.sleep(1)
        fresh_qdrant.kill("qdrant")
        twin.pipeline.says("write.retried")
        fresh_qdrant.start("qdrant")
        time.sleep(1)
    check_in_step(twin)


@pytest.mark.fault(3)
def test_a_stepdown_of_the_primary_loses_nothing(twin: Twin) -> None:
    """An election under load: the change stream resumes on the new primary."""
    with under_load(twin, seed=5) as writer:
        time.sleep(1)
        before = writer.operations
        twin.mongo.admin.command({"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 3})
        until(lambda: writer.operations > before + 50, "writes to go on")
    check_in_step(twin)


@pytest.mark.fault(30)
def test_sigterm_drains_and_repeats_nothing(twin: Twin) -> None:
    """A stopped pipeline ends with status 0, and what it wrote is not delivered again."""
    with under_load(twin, seed=6):
        time.sleep(1)
        assert twin.pipeline.end() == 0
    assert '"drained": true' in twin.pipeline.text()
    twin.pipeline.start()
    check_in_step(twin)
    assert "event.stale" not in twin.pipeline.text()


@pytest.mark.fault(25)
def test_a_replay_of_the_whole_log_changes_nothing(twin: Twin) -> None:
    """Old messages that come again bring back neither an old state nor a deleted document."""
    with under_load(twin, seed=7):
        time.sleep(2)
    check_in_step(twin)
    before = _everything(twin)
    oldest = min(version_seconds(payload["version"]) for payload in before.values())
    twin.cdc.end()
    _rewind(twin, oldest)
    received = twin.pipeline.text().count("Received message.")
    twin.cdc.start()
    twin.pipeline.says("Received message.", times=received + 1)
    until(lambda: twin.queue_depth() == 0, "the queue to be empty")
    check_in_step(twin)
    assert _differences(before, _everything(twin)) == []


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[object, ...]]:
    """Each field of each point that is not as it was."""
    missing = {"key": "no point"}
    return [
        (field, old.get(field), new.get(field))
        for point in before.keys() | after.keys()
        for old, new in [(before.get(point, missing), after.get(point, missing))]
        for field in old.keys() | new.keys()
        if old.get(field) != new.get(field)
    ]


def _rewind(twin: Twin, seconds: int) -> None:
    """Make data_cdc begin again where it was at `seconds` since 1970."""
    state = twin.mongo[twin.settings.mongo.state_database]
    earlier = {"token": None, "time": Timestamp(seconds, 1)}
    assert state["cdc_checkpoints"].update_many({}, {"$set": earlier}).modified_count == 1


def _everything(twin: Twin) -> dict[str, dict[str, Any]]:
    """All points by id, tombstones included."""
    return {
        str(record.id): record.payload or {}
        for family in ("articles", "posts")
        for name in (f"cleaned_{family}", f"vector_{family}")
        for record in twin.qdrant.scroll(name, limit=10_000)[0]
    }


@pytest.mark.fault
def test_a_collection_that_qdrant_lost_is_declared_and_filled_again(twin: Twin) -> None:
    """A lost collection is a gap: everything is read again before anybody misses it for long."""
    for name in ("one", "two"):
        twin.db.posts.insert_one({"_id": name, "content": f"The text of {name}."})
    check_in_step(twin)
    twin.pipeline.end()
    twin.qdrant.delete_collection("vector_posts__v1")
    twin.db.posts.delete_one({"_id": "one"})
    twin.pipeline.start()
    assert "qdrant.gap_declared" in twin.pipeline.text()
    twin.cdc.says("snapshot.completed", times=2)
    check_in_step(twin)
    assert [chunk["content"] for chunk in twin.chunks("posts", "two")] == ["The text of two."]
    assert twin.chunks("posts", "one") == []
    twin.pipeline.end()
    twin.pipeline.start()
    assert twin.pipeline.text().count("qdrant.gap_declared") == 1


@pytest.mark.fault
def test_another_database_on_the_same_services_removes_nothing(twin: Twin, tmp_path: Path) -> None:
    """Somebody tries another MONGO_DATABASE_NAME: what is swept for it leaves the first alone."""
    twin.db.posts.insert_one({"_id": "ours", "content": "Ours to keep."})
    check_in_step(twin)
    twin.cdc.end()
    twin.pipeline.end()
    (tmp_path / "other").mkdir()
    name = f"{twin.settings.mongo.database}_other"
    environment = {**twin.environment, "MONGO_DATABASE_NAME": name}
    with open_twin(environment, tmp_path / "other") as other:
        other.db.posts.insert_one({"_id": "theirs", "content": "Theirs, for a moment."})
        other.cdc.start()
        other.pipeline.start()
        check_in_step(other)
        other.mongo.drop_database(name)
        check_in_step(other)
        other.mongo.drop_database(other.settings.mongo.state_database)
    twin.cdc.start()
    twin.pipeline.start()
    check_in_step(twin)
    assert [chunk["content"] for chunk in twin.chunks("posts", "ours")] == ["Ours to keep."]
    assert twin.chunks("posts", "theirs") == []


@pytest.mark.slow
@pytest.mark.fault(1, 22)
@pytest.mark.timeout(1200)
def test_twenty_kills_lose_nothing(twin: Twin) -> None:
    """Twenty kills of either service, at random, under load."""
    chance = random.Random(20)  # noqa: S311 - a repeatable choice
    with under_load(twin, seed=20):
        for _ in range(20):
            time.sleep(chance.uniform(0.1, 2.0))
            victim = chance.choice([twin.cdc, twin.pipeline])
            victim.kill()
            victim.start()
    check_in_step(twin)
