"""Places in the change stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

_TOKEN_TYPE = "82"  # noqa: S105 - the first byte of a resume token: a timestamp follows


@dataclass(frozen=True)
class Position:
    """After the event that `token` names; where there is none, at `time`, which is repeated.

    `time` is kept beside the token, so that a token which the stream no longer
    knows (after another choice of collections) can be replaced by it.
    """

    time: Timestamp
    token: Mapping[str, Any] | None = None


def position_of(change: Mapping[str, Any]) -> Position:
    """The position after `change`."""
    return Position(change["clusterTime"], change["_id"])


def position_of_token(token: Mapping[str, Any], previous: Position) -> Position:
    """The position of a post-batch token, which no event tells the time of."""
    return Position(token_time(str(token.get("_data", ""))) or previous.time, token)


def token_time(data: str) -> Timestamp | None:
    """The clusterTime that a resume token's `_data` begins with, or None for another layout.

    https://github.com/mongodb/mongo/blob/master/src/mongo/db/pipeline/resume_token.h
    """
    if not data.startswith(_TOKEN_TYPE) or len(data) < 18:
        return None
    try:
        return Timestamp(int(data[2:10], 16), int(data[10:18], 16))
    except ValueError:
        return None
