"""Two data_cdc: one leads, the other takes over, and never do both publish."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cdc_harness import Cdc, cdc_process
from tests.fault_harness import Rig, repeated

_WINDOW = 512


@pytest.fixture
def second(rig: Rig) -> Iterator[Cdc]:
    """Another data_cdc with the same settings, which has not started yet."""
    folder = rig.folder / "second"
    folder.mkdir()
    with cdc_process(rig.environment, folder) as second:
        yield second


@pytest.mark.fault(21, 30)
def test_a_leader_that_ends_hands_over_at_once(rig: Rig, second: Cdc) -> None:
    """The second stands by, publishes nothing, and goes on where the first one ended."""
    rig.start()
    with rig.load():
        second.start()
        second.says("cdc.standing_by")
        assert rig.cdc.end() == 0
        second.says("cdc.streaming", timeout=5)
    assert repeated(rig.converges()) == 0


@pytest.mark.fault(21)
def test_a_leader_that_is_killed_is_followed_within_seconds(rig: Rig, second: Cdc) -> None:
    """Its lease expires, and what it had not checkpointed is all that comes twice."""
    rig.start()
    second.start()
    second.says("cdc.standing_by")
    with rig.load():
        rig.cdc.kill()
        second.says("cdc.streaming", timeout=20)
    assert repeated(rig.converges(most=2)) <= _WINDOW


@pytest.mark.fault(21)
def test_a_leader_that_was_paused_does_not_publish_when_it_wakes(rig: Rig, second: Cdc) -> None:
    """It finds that another leads, and stands by; the stream went back once, for the hand-over."""
    rig.start()
    second.start()
    second.says("cdc.standing_by")
    with rig.load():
        rig.cdc.signal(signal.SIGSTOP)
        second.says("cdc.streaming", timeout=40)
        rig.cdc.signal(signal.SIGCONT)
        rig.cdc.says("cdc.standing_by")
    assert repeated(rig.converges(most=2)) <= _WINDOW
    assert "cdc.leadership_lost" in rig.cdc.text()
    assert "cdc.leadership_lost" not in second.text()


@pytest.mark.fault(21)
def test_a_leader_that_wakes_in_the_middle_of_the_change_is_followed_all_the_same(
    rig: Rig, second: Cdc
) -> None:
    """Woken just when its lease has expired, neither of two forgets or reorders anything."""
    rig.start()
    second.start()
    second.says("cdc.standing_by")
    with rig.load():
        rig.cdc.signal(signal.SIGSTOP)
        second.says("cdc.leading", timeout=40)
        rig.cdc.signal(signal.SIGCONT)
        rig.cdc.says("cdc.standing_by")
        second.says("cdc.streaming", timeout=40)
    assert repeated(rig.converges(most=2)) <= _WINDOW
