"""What data_cdc keeps in the state database: its offset, its heartbeat, what it set aside."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from core import signals
from core.signals import SnapshotRequest
from data_cdc.errors import LeadershipLost
from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.parked import Parked
from data_cdc.keeping.position import Position
from data_cdc.leadership.lease import LEASES

CHECKPOINTS, STATUS, PARKED = "cdc_checkpoints", "cdc_status", "cdc_parked"
_ID = "data_cdc"
_STANDBY = "standby"
FRESH_S = 15.0
# An `_id` may have megabytes.
_LONGEST_KEY = 1000
# A standby that was killed leaves its record behind.
_STANDBY_KEPT = timedelta(minutes=10)


@dataclass(frozen=True)
class Checkpoint:
    """Everything up to `offset` is confirmed, for `collections`, which were or will be read.

    `transforms` is the fingerprint of those that events went through.
    """

    offset: Offset
    collections: tuple[str, ...]
    transforms: str = ""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How the service does. `lag_s` is how old the oldest change is that the broker lacks."""

    state: str
    position: Position | None
    lag_s: float
    in_flight: int
    published: int


class StateStore:
    """One document each. Every write is acknowledged by a majority. Raises pymongo's errors.

    `epoch` fences the checkpoint: from `load` on, a leader of an earlier epoch can no
    longer write it, and learns so by LeadershipLost.
    """

    def __init__(self, state: Database[dict[str, Any]], epoch: int = 0) -> None:
        self._state = state
        self._epoch = epoch

    def load(self) -> Checkpoint | None:
        """Take over the checkpoint; None where there is none to resume from.

        Raises LeadershipLost when a later leader has taken it over.
        """
        earlier = {"_id": _ID, "epoch": {"$not": {"$gt": self._epoch}}}
        try:
            self._state[CHECKPOINTS].update_one(
                earlier, {"$set": {"epoch": self._epoch}}, upsert=True
            )
        except DuplicateKeyError:
            self._catch_up()
            raise LeadershipLost from None
        kept = self._state[CHECKPOINTS].find_one({"_id": _ID}) or {}
        if kept.get("time") is None:
            return None
        collections = tuple(kept.get("collections", ()))
        return Checkpoint(_offset(kept), collections, kept.get("transforms", ""))

    def _catch_up(self) -> None:
        """A lease that was removed by hand counts from 1 again: let the next one be later."""
        kept = self._state[CHECKPOINTS].find_one({"_id": _ID}) or {}
        self._state[LEASES].update_one({"_id": _ID}, {"$max": {"epoch": kept.get("epoch", 0)}})

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. Raises LeadershipLost where it is not ours any more."""
        offset = checkpoint.offset
        self._set(
            {
                "token": offset.position.token,
                "time": offset.position.time,
                "collections": list(checkpoint.collections),
                "transforms": checkpoint.transforms,
                "snapshots": [_plain(task) for task in offset.snapshots],
                "finished": list(offset.finished),
            }
        )

    def abandon(self, why: str) -> None:
        """The position is of no use any more: the next start reads everything again.

        That answers what was declared lost as well. Raises LeadershipLost.
        """
        self._set({"token": None, "time": None, "snapshots": [], "gap": why})
        signals.answer_gap(self._state)

    def requests(self, known: Callable[[str], bool]) -> list[SnapshotRequest]:
        """The snapshots that people and other services ask for, but those `known` by their id."""
        return signals.requests(self._state, known)

    def answer(self, request: str) -> None:
        """A snapshot that was asked for is completed."""
        signals.answer(self._state, request)

    def park(self, change: Parked) -> None:
        """Keep what names a change that cannot travel. The same one twice is one record."""
        record = {
            "collection": change.collection,
            "key": change.key[:_LONGEST_KEY],
            "op": change.op,
            "reason": change.reason,
            "bytes": change.size,
            "at": datetime.now(UTC),
        }
        self._state[PARKED].replace_one({"_id": change.id}, record, upsert=True)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Say how we do."""
        position = heartbeat.position
        status = {
            "state": heartbeat.state,
            "position": None if position is None else position.time,
            "lag_s": heartbeat.lag_s,
            "in_flight": heartbeat.in_flight,
            "published": heartbeat.published,
            "epoch": self._epoch,
            **_whereabouts(),
        }
        self._state[STATUS].replace_one({"_id": _ID}, status, upsert=True)

    def beat_as_standby(self) -> None:
        """Say that we wait to take over."""
        status = {"state": _STANDBY, **_whereabouts()}
        self._state[STATUS].replace_one({"_id": _standby_id()}, status, upsert=True)
        old = datetime.now(UTC) - _STANDBY_KEPT
        self._state[STATUS].delete_many({"state": _STANDBY, "at": {"$lt": old}})

    def stand_by_no_more(self) -> None:
        """We lead, or end."""
        self._state[STATUS].delete_one({"_id": _standby_id()})

    def status(self) -> Mapping[str, Any] | None:
        """The last heartbeat of who leads."""
        return self._state[STATUS].find_one({"_id": _ID})

    def standbys(self) -> list[Mapping[str, Any]]:
        """The last heartbeats of those that wait to take over."""
        return list(self._state[STATUS].find({"state": _STANDBY}))

    def _set(self, values: Mapping[str, Any]) -> None:
        """Change our record. Raises LeadershipLost where it is another's by now, or gone: who
        deletes it wants everything read again.
        """
        done = self._state[CHECKPOINTS].update_one(
            {"_id": _ID, "epoch": self._epoch}, {"$set": {**values, "at": datetime.now(UTC)}}
        )
        if not done.matched_count:
            raise LeadershipLost


def snapshots_of(kept: Mapping[str, Any] | None) -> Sequence[SnapshotTask]:
    """The snapshots in a checkpoint as it is stored, the running one first."""
    return tuple(_task(task) for task in (kept or {}).get("snapshots", ()))


def is_fresh(status: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether the heartbeat is recent enough to believe that the service runs."""
    return status is not None and (now - status["at"]).total_seconds() <= FRESH_S


def _whereabouts() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "at": datetime.now(UTC)}


def _standby_id() -> str:
    return f"{_STANDBY}@{socket.gethostname()}:{os.getpid()}"


def _offset(kept: Mapping[str, Any]) -> Offset:
    return Offset(
        position=Position(kept["time"], kept.get("token")),
        snapshots=tuple(snapshots_of(kept)),
        finished=tuple(kept.get("finished", ())),
    )


def _plain(task: SnapshotTask) -> dict[str, Any]:
    values = vars(task)
    return {n: list(value) if isinstance(value, tuple) else value for n, value in values.items()}


def _task(kept: Mapping[str, Any]) -> SnapshotTask:
    known = {field.name: kept[field.name] for field in fields(SnapshotTask) if field.name in kept}
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    return SnapshotTask(**{**known, **lists})
