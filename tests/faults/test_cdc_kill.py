"""kill -9 of data_cdc at any moment loses nothing."""

from __future__ import annotations

import time

import pytest

from tests.fault_harness import CHANCE, Rig, changing


@pytest.mark.fault(1)
@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killing_it_at_random_moments_under_load_loses_nothing(rig: Rig, kills: int) -> None:
    """Every document's final state arrives, and events go back at most once for each kill."""
    with changing(rig.database):
        start_and_kill(rig, kills)
    rig.start()
    rig.converges(most=kills + 1, timeout=60)


def start_and_kill(rig: Rig, kills: int) -> None:
    """Some kills fall into the start and the first read, most into the stream."""
    for _ in range(kills):
        rig.cdc.start()
        time.sleep(CHANCE.uniform(0.4, 2.5))
        rig.crash()
