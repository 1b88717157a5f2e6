"""What the broker's replies tell of a queue."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pika.exceptions import ChannelClosedByBroker

from core.mq.topology import queue_exists


class _Refusing:
    """A connection, and its channel, that answer each declaration with 404 and a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def channel(self) -> _Refusing:
        return self

    def queue_declare(self, _queue: str, *, passive: bool) -> None:
        assert passive
        raise ChannelClosedByBroker(404, self._text)


def test_a_queue_that_nobody_made_is_not_there() -> None:
    """The plain 404."""
    told = "NOT_FOUND - no queue 'q' in vhost '/'"
    assert not queue_exists(cast("Any", _Refusing(told)), "q")


@pytest.mark.parametrize(
    "told",
    [
        "NOT_FOUND - home node 'r@b' of durable queue 'q' in vhost '/' is down or inaccessible",
        "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout",
        "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor",
    ],
)
def test_a_queue_that_cannot_be_reached_is_not_taken_for_a_missing_one(told: str) -> None:
    """The broker says 404 of it as well; it is an error to wait out, and no loss."""
    with pytest.raises(ChannelClosedByBroker):
        queue_exists(cast("Any", _Refusing(told)), "q")
