"""What services and people ask of data_cdc, through the state database."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

SIGNALS = "signals"
_GAP = "gap"


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """A snapshot that somebody asks for.

    Of all captured collections where `collections` is empty; of the documents `keys`
    (canonical extended JSON of `_id`) alone where there are any. `is_gap` tells that
    something was lost, so that documents are missing until it is answered.
    """

    id: str
    why: str
    collections: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    is_gap: bool = False


def ask_for_snapshot(
    state: Database[dict[str, Any]],
    why: str,
    *,
    collections: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> str:
    """Ask data_cdc to read collections, or the documents `keys` of one, again. Returns an id."""
    request = _new_id()
    asked = {"collections": list(collections), "keys": list(keys)}
    state[SIGNALS].insert_one({"_id": request, "why": why, "at": datetime.now(UTC), **asked})
    return request


def declare_gap(state: Database[dict[str, Any]], why: str) -> None:
    """Ask data_cdc to read everything again, for something was lost.

    Until it has begun to, another call changes nothing but the reason.
    """
    asked = {"request": _new_id(), "why": why, "at": datetime.now(UTC)}
    state[SIGNALS].replace_one({"_id": _GAP}, asked, upsert=True)


def requests(state: Database[dict[str, Any]]) -> list[SnapshotRequest]:
    """What is asked for and not yet answered, a gap first, then the oldest."""
    asked = [_request(signal) for signal in state[SIGNALS].find().sort("at", 1)]
    return sorted(asked, key=lambda request: not request.is_gap)


def answer(state: Database[dict[str, Any]], request: str) -> None:
    """The request with this id is fulfilled. A gap declared anew meanwhile stays."""
    state[SIGNALS].delete_one({"$or": [{"_id": request}, {"request": request}]})


def answer_gap(state: Database[dict[str, Any]]) -> None:
    """Everything will be read from the beginning, which answers a gap, too."""
    state[SIGNALS].delete_one({"_id": _GAP})


def _request(signal: dict[str, Any]) -> SnapshotRequest:
    return SnapshotRequest(
        id=str(signal.get("request", signal["_id"])),
        why=str(signal.get("why", "")),
        collections=tuple(signal.get("collections", ())),
        keys=tuple(signal.get("keys", ())),
        is_gap=signal["_id"] == _GAP,
    )


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
