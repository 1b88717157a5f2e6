"""What one service asks of another, through the state database: durable, and in nobody's way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

SIGNALS = "signals"
_SNAPSHOT = "snapshot"


def ask_for_snapshot(state: Database[dict[str, Any]], why: str) -> None:
    """Ask data_cdc to read everything again. Idempotent until it is answered."""
    state[SIGNALS].replace_one(
        {"_id": _SNAPSHOT}, {"why": why, "at": datetime.now(UTC)}, upsert=True
    )


def asked_for_snapshot(state: Database[dict[str, Any]]) -> str | None:
    """Why somebody asks for a snapshot, or None where nobody does."""
    asked = state[SIGNALS].find_one({"_id": _SNAPSHOT})
    return None if asked is None else str(asked["why"])


def answer_snapshot(state: Database[dict[str, Any]]) -> None:
    """The snapshot will be made, whatever happens from now on."""
    state[SIGNALS].delete_one({"_id": _SNAPSHOT})
