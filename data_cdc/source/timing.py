"""What MongoDB's driver tells of a change stream: its answers' times, and how much they hold."""

from __future__ import annotations

from collections.abc import Callable

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

_BATCHES = {"aggregate": "firstBatch", "getMore": "nextBatch"}


class StreamListener(CommandListener):
    """Tells `observe` the seconds of each answered getMore, and counts what the last one holds.

    The stream's are the only aggregations and getMores of this service's client.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self.batch = 0
        self._observe = observe

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing to tell yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Called by the driver, in the thread that asked."""
        batch = _BATCHES.get(event.command_name)
        if batch is None:
            return
        self.batch = len(event.reply.get("cursor", {}).get(batch, ()))
        if event.command_name == "getMore":
            self._observe(event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """The stream's own error tells more."""
