"""What data_cdc keeps in the state database: its position, its heartbeat, what it set aside."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from core.signals import answer_snapshot, asked_for_snapshot
from data_cdc.outbox import Entry
from data_cdc.position import Position

CHECKPOINTS, STATUS, PARKED = "cdc_checkpoints", "cdc_status", "cdc_parked"
_ID = "data_cdc"
FRESH_S = 15.0


@dataclass(frozen=True)
class Checkpoint:
    """Everything up to `position` is confirmed, for `collections`, read in full before."""

    position: Position
    collections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How the service does. `lag_s` is how old the oldest change is that the broker lacks."""

    state: str
    position: Position | None
    lag_s: float
    in_flight: int
    published: int


class StateStore:
    """One document each. Every write is acknowledged by a majority. Raises pymongo's errors."""

    def __init__(self, state: Database[dict[str, Any]]) -> None:
        self._state = state

    def load(self) -> Checkpoint | None:
        """The checkpoint, or None where there is none to resume from."""
        kept = self._state[CHECKPOINTS].find_one({"_id": _ID})
        if kept is None or kept.get("time") is None:
            return None
        position = Position(kept["time"], kept.get("token"))
        return Checkpoint(position, tuple(kept.get("collections", ())))

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        kept = {
            "token": checkpoint.position.token,
            "time": checkpoint.position.time,
            "collections": list(checkpoint.collections),
            "at": datetime.now(UTC),
        }
        self._state[CHECKPOINTS].replace_one({"_id": _ID}, kept, upsert=True)

    def abandon(self, why: str) -> None:
        """The position is of no use any more: the next start reads everything again."""
        lost = {"token": None, "time": None, "gap": why, "at": datetime.now(UTC)}
        self._state[CHECKPOINTS].update_one({"_id": _ID}, {"$set": lost}, upsert=True)

    def asked_for_snapshot(self) -> str | None:
        """Why another service asks for everything to be read again."""
        return asked_for_snapshot(self._state)

    def answer_snapshot(self) -> None:
        """Only after `abandon`: from then on the next beginning reads everything."""
        answer_snapshot(self._state)

    def park(self, entry: Entry, reason: str) -> None:
        """Keep what names a change that cannot travel. The same one twice is one record."""
        record = {
            "collection": entry.collection,
            "key": entry.key,
            "op": entry.message.type,
            "reason": reason,
            "bytes": entry.size,
            "at": datetime.now(UTC),
        }
        self._state[PARKED].replace_one({"_id": entry.message.message_id}, record, upsert=True)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Say how we do."""
        position = heartbeat.position
        status = {
            "state": heartbeat.state,
            "position": None if position is None else position.time,
            "lag_s": heartbeat.lag_s,
            "in_flight": heartbeat.in_flight,
            "published": heartbeat.published,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "at": datetime.now(UTC),
        }
        self._state[STATUS].replace_one({"_id": _ID}, status, upsert=True)

    def status(self) -> Mapping[str, Any] | None:
        """The last heartbeat."""
        return self._state[STATUS].find_one({"_id": _ID})


def is_fresh(status: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether the heartbeat is recent enough to believe that the service runs."""
    return status is not None and (now - status["at"]).total_seconds() <= FRESH_S
