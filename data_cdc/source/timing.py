"""How long MongoDB takes to answer a change stream, as its driver sees it."""

from __future__ import annotations

from collections.abc import Callable

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

_GETMORE = "getMore"


class GetMoreTimer(CommandListener):
    """Tells `observe` the seconds of each answered getMore."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing to tell yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Called by the driver, in the thread that asked."""
        if event.command_name == _GETMORE:
            self._observe(event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """The stream's own error tells more."""
