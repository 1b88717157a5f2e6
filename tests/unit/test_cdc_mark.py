"""The mark on the queue, as far as it needs no broker."""

from __future__ import annotations

from typing import Any, cast

import pytest

from core.errors import ServiceUnavailable
from core.mq.topology import Topology
from data_cdc.delivery.mark import expect_mark


class _Silent:
    """A publisher to whom nothing is ever confirmed."""

    def send(self, _message: object, _timeout_s: float) -> bool:
        return True

    def flush(self, _timeout_s: float) -> bool:
        return False


def test_a_queue_that_confirms_nothing_comes_with_what_a_person_can_do() -> None:
    """One that lost its leader stays silent for ever: the warning says to delete it."""
    topology = Topology("twin", ("posts",), "default")
    with pytest.raises(ServiceUnavailable, match=r"'default' confirms nothing.*delete it"):
        expect_mark(cast("Any", _Silent()), topology, "localhost:5672")
