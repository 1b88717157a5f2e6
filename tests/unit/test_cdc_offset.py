"""Where to go on: the offset as a value, and the snapshots in it."""

from __future__ import annotations

from dataclasses import replace

from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.position import Position
from data_cdc.keeping.state import snapshots_of

NAMES = ("articles", "posts", "repositories", "repository_files")


def task(name: str = "s", collections: tuple[str, ...] = NAMES) -> SnapshotTask:
    return SnapshotTask(id=name, why="test", collections=collections, not_before=Timestamp(5, 1))


def offset(*tasks: SnapshotTask) -> Offset:
    return Offset(position=Position(Timestamp(1, 1)), snapshots=tasks)


def test_the_earliest_read_is_that_of_all_chunks() -> None:
    """The marker's time: nothing that any chunk has seen may be older than it."""
    read = task().read(500, Timestamp(9, 2), {"_id": 1}).read(3, Timestamp(9, 1), {"_id": 2})
    assert (read.earliest, read.rows, read.after) == (Timestamp(9, 1), 503, {"_id": 2})
    assert read.next_collection().after is None


def test_snapshots_run_one_after_the_other() -> None:
    """The first runs; its end makes room for the next, and is remembered."""
    both = offset(task("a"), task("b"))
    assert both.running == task("a")
    later = both.without_running()
    assert (later.running, later.finished) == (task("b"), ("a",))
    assert all(later.knows(name) for name in ("a", "b"))
    assert not later.knows("c")


def test_a_finished_snapshot_is_remembered_until_its_asker_is_told() -> None:
    """However many there are: one that is forgotten before would be made again."""
    kept = offset()
    for number in range(40):
        kept = kept.with_task(task(str(number))).without_running()
    assert all(kept.knows(str(number)) for number in range(40))
    assert kept.forgetting({"3", "39"}).finished[2:4] == ("2", "4")
    assert kept.forgetting(kept.finished).finished == ()


def test_a_snapshot_covers_what_it_has_still_to_read_in_full() -> None:
    """One of documents does not stand for one of collections, nor one that is half done."""
    assert offset(task()).will_read(NAMES)
    assert not offset(task().next_collection()).will_read(NAMES)
    assert not offset(replace(task(), keys=("1",))).will_read(NAMES)


@given(
    captured=st.sets(st.sampled_from(NAMES)),
    current=st.integers(0, len(NAMES)),
)
def test_a_task_survives_another_choice_of_collections(captured: set[str], current: int) -> None:
    """What is left to read is what was left and is captured, and goes on where it stood."""
    before = replace(task(), current=current, after={"_id": 7} if current < len(NAMES) else None)
    after = before.only(captured)
    left = [name for name in before.remaining if name in captured]
    if not captured:
        assert after is None
        return
    # Also where all is read: the marker, which has what was not seen removed, is still to be told.
    assert after is not None
    assert list(after.remaining) == left
    assert set(after.collections) == captured & set(NAMES)
    goes_on = after.collection is not None and after.collection == before.collection
    assert after.after == (before.after if goes_on else None)


def test_a_task_that_an_older_or_newer_version_kept_can_be_read() -> None:
    """Fields that we do not know are left out, and those that are not there have defaults."""
    kept = {
        "id": "a",
        "why": "w",
        "collections": ["posts"],
        "not_before": Timestamp(1, 1),
        "keys": None,
        "from_the_future": 1,
    }
    [found] = snapshots_of({"snapshots": [kept]})
    assert found == SnapshotTask(
        id="a", why="w", collections=("posts",), not_before=Timestamp(1, 1)
    )
