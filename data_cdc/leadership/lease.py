"""Who leads: one data_cdc of several captures, the others stand by.

The lease is one document in the state database, with an epoch that grows each time it
changes hands. All times in it are MongoDB's, so that clocks of machines need not
agree. A thread renews it, however long the capture is busy with something else. A
leader that died on the same machine is seen to be dead, and not waited for. What
protects the stored position from a leader that was paused is the epoch: see
`StateStore`. What protects the broker is the lock that the publisher holds there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

import pymongo
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from core.logging import get_logger
from data_cdc.leadership.whereabouts import Whereabouts

LEASES = "cdc_lease"
_ID = "data_cdc"
TTL_S = 6.0
_RENEW_EVERY_S = 1.5
_TIMEOUT_S = 2.0
# So much earlier than MongoDB we take it for expired: our clock may run a little slower.
_MARGIN_S = 0.5

log = get_logger()


class Lease:
    """The right to capture. `acquire`, then ask `held` and `lost`; `release` at the end.

    `acquire` and `release` are for one thread, the rest for any.
    """

    def __init__(self, leases: Collection[dict[str, Any]]) -> None:
        self.epoch = 0
        self._leases = leases
        self._here = Whereabouts.here()
        self._until = 0.0
        self._on_expiry: Callable[[], None] = _nothing
        self._lost = threading.Event()
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return monotonic() < self._until and not self._lost.is_set()

    @property
    def lost(self) -> bool:
        """Whether somebody else leads, or has led since."""
        return self._lost.is_set()

    def acquire(self) -> bool:
        """Try once, and renew from then on. Raises pymongo's errors."""
        began = monotonic()
        with pymongo.timeout(_TIMEOUT_S):
            lease = self._take()
        if lease is None:
            return False
        self.epoch, self._until = int(lease["epoch"]), began + TTL_S - _MARGIN_S
        self._thread = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)
        self._thread.start()
        return True

    def when_expired(self, call: Callable[[], None]) -> None:
        """Have `call` made, from the lease's thread, each time it could not be renewed in time.

        What it must do is let go of what would keep another from leading.
        """
        self._on_expiry = call

    def release(self) -> None:
        """Let another lead at once. Idempotent; a MongoDB that is away lets the lease expire."""
        self._released.set()
        if self._thread is None:
            return
        self._thread.join(_TIMEOUT_S + 1)
        self._thread = None
        self._until = 0.0
        try:
            with pymongo.timeout(_TIMEOUT_S):
                self._leases.update_one(self._mine(), [{"$set": {"until": "$$NOW"}}])
        except PyMongoError as error:
            log.debug("lease.not_released", reason=type(error).__name__)

    def _take(self) -> Mapping[str, Any] | None:
        held = self._leases.find_one({"_id": _ID})
        if held is None:
            with suppress(DuplicateKeyError):
                self._leases.insert_one({"_id": _ID, "epoch": 0, "until": None})
        # None sorts before every date.
        free: dict[str, Any] = {"_id": _ID, "$expr": {"$lte": ["$until", "$$NOW"]}}
        if held and self._here.sees_dead(held.get("pid", 0), held.get("space")):
            free = {"_id": _ID, "epoch": held["epoch"]}
        taken = {
            "owner": self._here.name,
            "pid": self._here.pid,
            "space": self._here.space,
            "epoch": {"$add": ["$epoch", 1]},
            "until": _until(),
        }
        return self._leases.find_one_and_update(
            free, [{"$set": taken}], return_document=ReturnDocument.AFTER
        )

    def _renew_for_ever(self) -> None:
        while not self._released.wait(_RENEW_EVERY_S) and not self._lost.is_set():
            self._renew()

    def _renew(self) -> None:
        began = monotonic()
        try:
            with pymongo.timeout(_TIMEOUT_S):
                renewed = self._leases.update_one(self._mine(), [{"$set": {"until": _until()}}])
        except PyMongoError as error:
            log.warning("lease.not_renewed", waiting_for="MongoDB", reason=str(error)[:200])
            if not self.held:
                self._on_expiry()
            return
        if renewed.matched_count:
            self._until = began + TTL_S - _MARGIN_S
        else:
            self._lost.set()
            self._on_expiry()

    def _mine(self) -> Mapping[str, Any]:
        return {"_id": _ID, "owner": self._here.name, "epoch": self.epoch}


def _nothing() -> None:
    return


def _until() -> Mapping[str, Any]:
    return {"$add": ["$$NOW", int(TTL_S * 1000)]}
