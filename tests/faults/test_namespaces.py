"""Collections that go, come and change places; changes that are too large for one reply."""

from __future__ import annotations

import pytest

from core.events import ChangeEvent, Purge
from tests.cdc_harness import Received, replay
from tests.fault_harness import Rig, repeated
from tests.twin_harness import until

_MB = 1024 * 1024
_SPLITS = (7, 0)


def purges(received: list[Received]) -> list[str | None]:
    """The collections that were purged, in order."""
    return [one.event.collection for one in received if isinstance(one.event, Purge)]


@pytest.mark.fault(8)
def test_a_database_that_is_dropped_and_made_anew(rig: Rig) -> None:
    """An invalidate ends neither this run nor, after a kill right behind it, the next one."""
    rig.start()
    for generation in range(2):
        rig.database.articles.insert_many([{"_id": n, "n": generation} for n in range(3)])
        rig.database.posts.insert_one({"_id": generation})
        rig.client.drop_database(rig.database.name)
    until(lambda: _checkpointed_behind(rig), "the position behind the drop")
    rig.crash()
    rig.database.articles.insert_one({"_id": 1, "n": 2})
    rig.start()
    received = rig.converges(most=2)
    assert purges(received).count(None) >= 2
    assert replay(received)[("articles", '{"$numberInt":"1"}')]["n"] == 2


def _checkpointed_behind(rig: Rig) -> bool:
    """Whether all that was written up to now is behind the kept position."""
    now = rig.client.admin.command("ping")["operationTime"]
    kept = rig.checkpoint().get("time")
    return kept is not None and now.time - kept.time <= 1


@pytest.mark.fault(8)
def test_a_collection_that_goes_by_another_name(rig: Rig) -> None:
    """What is renamed away is purged, and the name may be used again at once."""
    rig.start()
    with rig.load():
        rig.database.articles.insert_one({"_id": "away"})
        rig.database.articles.rename("archive", dropTarget=True)
        rig.database.articles.insert_one({"_id": "here"})
    received = rig.converges()
    assert "articles" in purges(received)
    assert ("articles", '"away"') not in replay(received)


@pytest.mark.fault(9)
def test_a_collection_that_takes_a_captured_name(rig: Rig) -> None:
    """A rename that drops its target purges the old documents and reads the new ones."""
    rig.database.articles.insert_many([{"_id": n, "old": True} for n in range(20)])
    rig.database.drafts.insert_many([{"_id": n} for n in range(10, 30)])
    rig.start()
    with rig.load():
        rig.database.drafts.rename("articles", dropTarget=True)
        rig.cdc.says("snapshot.completed", times=2)
    received = rig.converges()
    assert purges(received) == ["articles"]
    assert not any(document.get("old") for document in replay(received).values())


@pytest.mark.fault(9)
def test_an_aggregation_that_writes_into_a_captured_name(rig: Rig) -> None:
    """What $out replaces is purged and read, also while others write."""
    rig.database.posts.insert_many([{"_id": f"old-{n}"} for n in range(10)])
    rig.database.drafts.insert_many([{"_id": f"new-{n}"} for n in range(10)])
    rig.start()
    with rig.load():
        rig.database.drafts.aggregate([{"$out": "posts"}])
        rig.cdc.says("snapshot.completed", times=2)
    assert "posts" in purges(rig.converges())


@pytest.mark.fault(12)
def test_a_crash_at_a_change_that_is_too_large(rig: Rig) -> None:
    """Killed while it reads a change in parts, the next run tells the whole of it."""
    rig.start()
    rig.database.articles.insert_one({"_id": "large"})
    with rig.failing("find", errorCode=8000, namespace=f"{rig.database.name}.articles") as hit:
        large = "x" * (10 * _MB)
        rig.database.articles.update_one({"_id": "large"}, {"$set": {"content": large}})
        hit(1)
        rig.crash()
    rig.start()
    rig.converges(most=2, timeout=60)


@pytest.mark.fault(10, 12)
def test_an_event_in_fragments_is_told_whole(rig: Rig) -> None:
    """Images before and after make an event of several fragments, and one change is told."""
    version = tuple(rig.client.server_info()["versionArray"][:2])
    if version < _SPLITS:
        pytest.skip(f"split events need MongoDB 7.0, this is {version[0]}.{version[1]}")
    rig.database.create_collection("articles", changeStreamPreAndPostImages={"enabled": True})
    rig.start(CDC_PRE_IMAGES="true")
    rig.database.articles.insert_one({"_id": "large", "content": "x" * (15 * _MB)})
    rig.database.articles.update_one({"_id": "large"}, {"$set": {"content": "y" * (15 * _MB)}})
    received = rig.converges(timeout=60)
    told = [one for one in received if isinstance(one.event, ChangeEvent)]
    assert repeated(told) == 0
