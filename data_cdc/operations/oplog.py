"""What MongoDB's oplog holds, as far as the user may know."""

from __future__ import annotations

from typing import Any

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure

from core.mongo import Client

_OPLOG = "oplog.rs"


def oplog_window(client: Client) -> tuple[Timestamp, Timestamp] | None:
    """The times of the oldest and the newest entry, of the member that answers.

    None where MongoDB does not tell: the user may read neither the database `local`
    nor `serverStatus`, or this is a router of shards. Raises pymongo's errors when it
    cannot be reached.
    """
    try:
        found = _read_window(client)
    except OperationFailure as error:
        _unless_late(error)
        found = None
    return found or _told_window(client)


def oplog_use(client: Client) -> tuple[int, int] | None:
    """Bytes that the oplog holds, and that it may hold; None as for `oplog_window`."""
    try:
        told = client.local.command("collStats", _OPLOG)
    except OperationFailure as error:
        _unless_late(error)
        return None
    size, most = told.get("size"), told.get("maxSize")
    return (int(size), int(most)) if size is not None and most else None


def retention_hours(client: Client) -> float:
    """For how long MongoDB keeps entries whatever their size; 0 where it does not, or tell."""
    try:
        told = client.admin.command({"serverStatus": 1, "oplogTruncation": 1})
    except OperationFailure as error:
        _unless_late(error)
        return 0.0
    return float(told.get("oplogTruncation", {}).get("oplogMinRetentionHours", 0))


def _read_window(client: Client) -> tuple[Timestamp, Timestamp] | None:
    ends = [_end(client, order) for order in (1, -1)]
    oldest, newest = ends
    return (oldest, newest) if oldest is not None and newest is not None else None


def _end(client: Client, order: int) -> Timestamp | None:
    found = client.local[_OPLOG].find_one({}, {"ts": 1}, sort=[("$natural", order)])
    return None if found is None else found["ts"]


def _told_window(client: Client) -> tuple[Timestamp, Timestamp] | None:
    try:
        told: dict[str, Any] = client.admin.command({"serverStatus": 1, "oplog": 1})
    except OperationFailure as error:
        _unless_late(error)
        return None
    oplog = told.get("oplog", {})
    oldest, newest = oplog.get("earliestOptime"), oplog.get("latestOptime")
    return (oldest, newest) if oldest is not None and newest is not None else None


def _unless_late(error: OperationFailure) -> None:
    """A refusal tells something; an answer that did not come in time does not."""
    if error.timeout:
        raise error
