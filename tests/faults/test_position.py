"""The place to resume from: lost, not stored, or in the middle of a snapshot."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from http.client import HTTPConnection

import pytest

from core.events import ChangeEvent, Op
from local_stack.ports import free_ports
from tests.fault_harness import Rig, repeated
from tests.tiny_mongod import fill_oplog, roll_oplog
from tests.twin_harness import until

_CHUNK = 500
# Documents of the load that a snapshot finds.
_SLACK = 400
_WRITES = ("update", "insert", "findAndModify")


@pytest.mark.fault(2)
def test_a_kill_before_the_checkpoint_repeats_the_same_messages(rig: Rig) -> None:
    """What was confirmed and not checkpointed comes again under the same ids, and no other does."""
    rig.start()
    rig.read()
    until(lambda: _checkpoint_holds(rig), "the position of what was read")
    before = len(rig.queue.received)
    with rig.failing(*_WRITES, errorCode=8000, namespace=f"{rig.state.name}.cdc_checkpoints"):
        rig.database.articles.insert_many([{"_id": n} for n in range(40)])
        rig.read()
        rig.cdc.says("checkpoint.not_saved")
        rig.crash()
    unsaved = [one.message_id for one in rig.queue.received[before:]]
    rig.start()
    again = [one.message_id for one in rig.converges(most=2)[before + len(unsaved) :]]
    assert again[: len(unsaved)] == unsaved
    assert repeated(rig.queue.received) == len(unsaved)


def _checkpoint_holds(rig: Rig) -> bool:
    """Whether the position of the last event that was read is kept."""
    last = rig.queue.received[-1].event
    assert isinstance(last, ChangeEvent)
    assert last.version is not None
    kept = rig.checkpoint().get("token") or {}
    return bool(kept.get("_data", "") >= last.version.pos)


@pytest.mark.fault(6)
def test_a_position_that_the_oplog_has_lost(tiny_rig: Rig) -> None:
    """`initial` ends with a status of its own; `when_needed` reads again, and deletes are told."""
    rig = tiny_rig
    rig.database.articles.insert_many([{"_id": n} for n in range(5)])
    rig.start()
    rig.database.posts.insert_one({"_id": "before"})
    rig.read()
    rig.crash()
    rig.database.articles.delete_one({"_id": 1})
    rig.database.posts.insert_one({"_id": "missed"})
    roll_oplog(rig.client)
    rig.cdc.start(CDC_SNAPSHOT_MODE="initial")
    assert rig.cdc.wait() == 5
    rig.start()
    rig.converges(most=2, gaps=2)


@pytest.mark.fault(6)
def test_a_cursor_that_the_oplog_has_overtaken(tiny_rig: Rig) -> None:
    """A stream that was too slow is a gap too, declared while the process runs on."""
    rig = tiny_rig
    rig.start()
    rig.database.articles.insert_many([{"_id": n} for n in range(5)])
    rig.read()
    rig.cdc.signal(signal.SIGSTOP)
    rig.database.articles.delete_one({"_id": 1})
    roll_oplog(rig.client)
    rig.cdc.signal(signal.SIGCONT)
    rig.cdc.says("cdc.gap_declared")
    rig.cdc.says("snapshot.completed", times=2)
    rig.converges(most=2, gaps=1)


@pytest.mark.slow
@pytest.mark.fault(17, 29)
def test_the_oplogs_end_is_told_of_before_it_is_there(tiny_rig: Rig) -> None:
    """A consumer that takes nothing holds the position; readiness warns while nothing is lost."""
    rig = tiny_rig
    (port,) = free_ports(1)
    fill_oplog(rig.client)
    rig.limit_queue(20)
    rig.start(CDC_HTTP_PORT=str(port))
    with rig.load():
        rig.cdc.says("it refused a message")
    until(lambda: "from the oplog's end" in readiness(port), "the warning", 40)
    rig.converges(most=1000)


def readiness(port: int) -> str:
    """What /readyz says, whatever its status."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().read().decode()


@pytest.mark.fault(14, 15)
def test_kills_during_a_snapshot_do_not_begin_it_again(rig: Rig) -> None:
    """Each run goes on at the chunk where the last one was killed, while documents change."""
    documents = 8 * _CHUNK
    rig.database.articles.insert_many([{"_id": f"{n:06}"} for n in range(documents)])
    with rig.failing("find", blockConnection=True, blockTimeMS=150), rig.load():
        for part in (0.25, 0.5):
            rig.start()
            rig.queue.fills(part * documents)
            rig.crash()
    rig.start()
    reads = [one for one in rig.converges(most=3) if getattr(one.event, "op", None) is Op.READ]
    assert len(reads) <= documents + _SLACK + 2 * 2 * _CHUNK


@pytest.mark.fault(28)
def test_a_checkpoint_that_cannot_be_stored_stops_nothing_at_first(rig: Rig) -> None:
    """Changes go on being told; once it can be stored again, the position catches up."""
    rig.start()
    rig.read()
    with rig.failing(*_WRITES, errorCode=8000, namespace=f"{rig.state.name}.cdc_checkpoints"):
        with rig.load():
            rig.cdc.says("checkpoint.not_saved", times=2)
        rig.read()
        assert not _checkpoint_holds(rig)
    assert repeated(rig.converges()) == 0
    until(lambda: _checkpoint_holds(rig), "the position to catch up")


@pytest.mark.fault(21, 28)
def test_a_lease_that_cannot_be_renewed_pauses_it(rig: Rig) -> None:
    """Who can no longer prove that it leads sends nothing, and goes on when it can."""
    rig.start()
    rig.read()
    with rig.failing(*_WRITES, errorCode=8000, namespace=f"{rig.state.name}.cdc_lease"):
        rig.cdc.says("lease.not_renewed", times=4)
        time.sleep(1)
        rig.database.articles.insert_one({"_id": "waits"})
        time.sleep(1.5)
        assert rig.queue.depth() == 0
    assert repeated(rig.converges()) == 0
    assert "cdc.leadership_lost" not in rig.cdc.text()
