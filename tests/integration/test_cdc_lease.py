"""The lease and the fence around the checkpoint, on a real replica set."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from bson.timestamp import Timestamp

from data_cdc.errors import LeadershipLost
from data_cdc.keeping.offset import Offset
from data_cdc.keeping.position import Position
from data_cdc.keeping.state import CHECKPOINTS, Checkpoint, StateStore
from data_cdc.leadership.lease import LEASES, TTL_S, Lease
from data_cdc.leadership.whereabouts import Whereabouts
from tests.twin_harness import until

CHECKPOINT = Checkpoint(Offset(position=Position(Timestamp(7, 1))), ("articles",))


@pytest.fixture
def leases(state: Any) -> Iterator[list[Lease]]:
    """Two that want the same."""
    both = [Lease(state[LEASES]), Lease(state[LEASES])]
    yield both
    for lease in both:
        lease.release()


def test_one_leads_and_the_other_after_it(leases: list[Lease]) -> None:
    """A lease that is held is not given again; released, it is at once, with the next epoch."""
    first, second = leases
    assert first.acquire()
    assert not second.acquire()
    time.sleep(TTL_S + 0.5)
    assert first.held  # renewed meanwhile
    assert not second.acquire()
    first.release()
    assert not first.held
    assert second.acquire()
    assert (first.epoch, second.epoch) == (1, 2)


def test_a_lease_that_is_taken_over_is_lost(leases: list[Lease], state: Any) -> None:
    """Its holder learns so when it renews, and lets go of what it holds."""
    first, _ = leases
    told: list[bool] = []
    first.when_expired(lambda: told.append(first.held))
    assert first.acquire()
    state[LEASES].update_one({}, {"$inc": {"epoch": 1}})
    until(lambda: first.lost, "the loss to be seen", 5)
    assert told == [False]
    assert not first.held


def test_a_holder_seen_dead_is_not_waited_for(leases: list[Lease], state: Any) -> None:
    """On the same machine a process that is gone holds nothing, however long its lease."""
    first, second = leases
    assert first.acquire()
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    state[LEASES].update_one({}, {"$set": {"pid": gone.pid}})
    assert second.acquire()


def test_only_what_is_surely_dead_is_seen_dead() -> None:
    """Another machine's, another container's, and our own process are not."""
    here = Whereabouts.here()
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert here.sees_dead(gone.pid, here.space)
    assert not here.sees_dead(gone.pid, "another")
    assert not here.sees_dead(gone.pid, None)
    assert not here.sees_dead(os.getpid(), here.space)
    assert not here.sees_dead(os.getppid(), here.space)
    assert not replace(here, space=None).sees_dead(gone.pid, None)


def test_an_earlier_leader_can_no_longer_write_the_checkpoint(state: Any) -> None:
    """From the moment the later one has loaded it: a paused leader cannot move it back."""
    earlier, later = StateStore(state, 1), StateStore(state, 2)
    assert earlier.load() is None
    earlier.save(CHECKPOINT)
    assert later.load() == CHECKPOINT
    with pytest.raises(LeadershipLost):
        earlier.save(CHECKPOINT)
    with pytest.raises(LeadershipLost):
        earlier.abandon("it was paused")
    with pytest.raises(LeadershipLost):
        earlier.load()
    later.save(CHECKPOINT)


def test_a_checkpoint_that_somebody_removed_is_begun_anew(state: Any) -> None:
    """Who removes the record wants everything read again: the leader does not put it back."""
    store = StateStore(state, 1)
    store.load()
    store.save(CHECKPOINT)
    state[CHECKPOINTS].delete_one({})
    with pytest.raises(LeadershipLost):
        store.save(CHECKPOINT)
    assert StateStore(state, 2).load() is None
