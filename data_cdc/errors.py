"""Errors that only this service has, in the branches of core.errors."""

from __future__ import annotations

from core.errors import ConfigurationError, TerminalError, TransientError


class Stopping(Exception):
    """Told to stop: unwinds to where the service drains, and goes no further."""


class LeadershipLost(Exception):
    """Somebody else leads: unwinds to where the service stands by."""


class LeaseExpired(TransientError):
    """The lease could not be renewed in time: whoever holds it next may publish, not we."""

    def __init__(self) -> None:
        super().__init__("the lease could not be renewed in time, so another may lead.")


class GapFound(TransientError):
    """Changes between the position and now are lost to the stream; only a read can tell them."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"changes were missed: {why}.")


class GapUnanswered(TerminalError):
    """A gap that the configuration forbids to close."""

    exit_status = 5

    def __init__(self, why: str, mode: str) -> None:
        super().__init__(
            f"Changes were missed: {why}. CDC_SNAPSHOT_MODE={mode} forbids to read the collections "
            "again. Start with CDC_SNAPSHOT_MODE=when_needed, which reads them and removes what "
            "is no longer there."
        )


class OversizeEvent(TerminalError):
    """A change that is over MongoDB's limit of 16 MB even without its document."""

    def __init__(self) -> None:
        super().__init__(
            "MongoDB cannot send the next change: it is over 16 MB even without the document, and "
            "cannot be told from others. Delete data_cdc's record in cdc_checkpoints to read "
            "everything again."
        )


def not_a_replica_set() -> ConfigurationError:
    """What a standalone server's missing change streams mean for who runs us."""
    return ConfigurationError(
        "MONGO_DATABASE_HOST",
        "this MongoDB is no replica set, and only a replica set has change streams",
        "Start mongod with --replSet and initiate it.",
    )
