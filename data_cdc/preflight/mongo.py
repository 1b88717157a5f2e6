"""What MongoDB tells: its kind and version, what the user may do, images, oplog and clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from core.config import CdcConfig, MongoConfig
from core.errors import ConfigurationError
from core.mongo import Client
from data_cdc.errors import not_a_replica_set
from data_cdc.keeping.state import STATUS
from data_cdc.operations.oplog import oplog_use, oplog_window, retention_hours
from data_cdc.operations.watch import clock_skew
from data_cdc.preflight.findings import Finding, error

_VARIABLE = "MONGO_DATABASE_HOST"
# Before, nothing reads with read concern "snapshot" outside a transaction.
_OLDEST = (5, 0)
_IMAGES_SINCE = (6, 0)
_UNAUTHORISED = 13
_LEAST_HOURS = 24.0
# A younger oplog has not seen an ordinary day's writes.
_TELLING_S = 3600
# MongoDB removes entries in stretches, so that a full oplog is not always full to the brim.
_FULL = 0.8
_MOST_SKEW_S = 1.0


@dataclass(frozen=True)
class Subject:
    """Whom to ask, about what."""

    client: Client
    mongo: MongoConfig
    cdc: CdcConfig


def look_at_mongo(subject: Subject) -> Iterator[Finding]:
    """All findings. A look that fails is a finding, too, and none hides the others."""
    for check, look in _LOOKS.items():
        try:
            found = list(look(subject))
        except PyMongoError as problem:
            reason = str(problem).partition(", full error")[0]
            found = [Finding(check, "info", f"could not be looked at: {reason[:200]}")]
        yield from found
        if check == "deployment" and found[0].level == "error":
            return


def _deployment(subject: Subject) -> Iterator[Finding]:
    told = subject.client.admin.command("hello")
    if "setName" in told:
        yield Finding("deployment", "ok", f"this is the replica set {told['setName']}")
    elif told.get("msg") == "isdbgrid":
        yield Finding("deployment", "ok", "this is a router of a sharded cluster")
    else:
        yield error("deployment", not_a_replica_set())


def _version(subject: Subject) -> Iterator[Finding]:
    told = subject.client.server_info()
    if _numbers(told) < _OLDEST:
        problem = f"MongoDB {told['version']} is older than 5.0, which reads at one time need"
        yield error("version", ConfigurationError(_VARIABLE, problem, "Use a newer one."))
    else:
        yield Finding("version", "ok", f"MongoDB {told['version']}")


def _numbers(server_info: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(server_info["versionArray"][:2])


def _rights(subject: Subject) -> Iterator[Finding]:
    mongo = subject.mongo
    attempts: tuple[tuple[Callable[[Subject], None], str, str], ...] = (
        (_open_stream, f"open a change stream on database {mongo.database!r}", "read"),
        (_read_collections, f"read the collections of database {mongo.database!r}", "read"),
        (_write_state, f"write to database {mongo.state_database!r}", "readWrite"),
    )
    refused = [(what, role) for attempt, what, role in attempts if _is_refused(attempt, subject)]
    for what, role in refused:
        remedy = f"Grant the role {role} on that database."
        yield error("rights", ConfigurationError(_VARIABLE, f"the user may not {what}", remedy))
    if not refused:
        yield Finding(
            "rights", "ok", f"the user may read {mongo.database} and write {mongo.state_database}"
        )


def _is_refused(attempt: Callable[[Subject], None], subject: Subject) -> bool:
    try:
        attempt(subject)
    except OperationFailure as problem:
        if problem.code != _UNAUTHORISED:
            raise
        return True
    return False


def _open_stream(subject: Subject) -> None:
    nothing = [{"$match": {"operationType": "none"}}]
    subject.client[subject.mongo.database].watch(nothing, max_await_time_ms=1).close()


def _read_collections(subject: Subject) -> None:
    for name in subject.cdc.collections:
        subject.client[subject.mongo.database][name].find_one({}, {"_id": 1})


def _write_state(subject: Subject) -> None:
    """An update that finds nothing asks for the right, and writes nothing."""
    state = subject.client[subject.mongo.state_database]
    state[STATUS].update_one({"_id": "preflight"}, {"$set": {"at": None}})


def _collections(subject: Subject) -> Iterator[Finding]:
    found = _listed(subject)
    strange = list(strangers(found))
    yield from strange
    if not strange:
        there = f"{len(found)} of {len(subject.cdc.collections)} are there"
        yield Finding("collections", "ok", there)


def _listed(subject: Subject) -> Mapping[str, Mapping[str, Any]]:
    database, names = subject.client[subject.mongo.database], [*subject.cdc.collections]
    listed = database.list_collections(filter={"name": {"$in": names}})
    return {told["name"]: told for told in listed}


def strangers(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """The names that are to be captured and cannot be; `found` is what MongoDB lists of them."""
    for problem, is_one in _UNCAPTURABLE.items():
        if names := [name for name, told in found.items() if is_one(told)]:
            remedy = "Take it out of CDC_COLLECTIONS."
            cause = ConfigurationError("CDC_COLLECTIONS", f"{_and(names)}: {problem}", remedy)
            yield error("collections", cause)


def _is_collection(told: Mapping[str, Any]) -> bool:
    return bool(told.get("type", "collection") == "collection")


_UNCAPTURABLE: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "a view or a time series has no change stream": lambda told: not _is_collection(told),
    "a capped collection cannot be read as of one time": lambda told: bool(
        told.get("options", {}).get("capped")
    ),
}


def _images(subject: Subject) -> Iterator[Finding]:
    can = _numbers(subject.client.server_info()) >= _IMAGES_SINCE
    yield from images(subject.cdc, _listed(subject), can=can)


def images(
    cdc: CdcConfig, found: Mapping[str, Mapping[str, Any]], *, can: bool
) -> Iterator[Finding]:
    """Which captured collections keep a document as it was before and after each change.

    `found` is what MongoDB lists of them; `can` tells whether this version keeps images.
    """
    keeping = [name for name, told in found.items() if _keeps(told)]
    lacking = [name for name in found if name not in keeping]
    if cdc.pre_images and not can:
        yield Finding("images", "warning", "CDC_PRE_IMAGES needs MongoDB 6.0 or newer")
    elif cdc.pre_images and lacking:
        yield Finding(
            "images",
            "warning",
            f"CDC_PRE_IMAGES is set, and {_and(lacking)} keep no images, so that `before` stays "
            f"empty there. Enable them with {_enable(lacking[0])}",
        )
    elif keeping:
        yield Finding("images", "info", f"{_and(keeping)} keep images of their documents")
    else:
        yield Finding(
            "images",
            "info",
            "no collection keeps images: an update carries the document as it is "
            "when it is looked up",
        )


def _keeps(told: Mapping[str, Any]) -> bool:
    kept = told.get("options", {}).get("changeStreamPreAndPostImages", {})
    return bool(kept.get("enabled"))


def _enable(name: str) -> str:
    return f'db.runCommand({{collMod: "{name}", changeStreamPreAndPostImages: {{enabled: true}}}})'


def _and(names: list[str]) -> str:
    return ", ".join(sorted(names))


def _oplog(subject: Subject) -> Iterator[Finding]:
    client = subject.client
    window = oplog_window(client)
    if window is None:
        yield Finding(
            "oplog",
            "info",
            "how far the oplog reaches back is not told to this user; the role clusterMonitor "
            "lets it know, and the metrics too",
        )
        return
    yield oplog(window[1].time - window[0].time, oplog_use(client), retention_hours(client))


def oplog(seconds: int, use: tuple[int, int] | None, retention_h: float) -> Finding:
    """How long data_cdc may be away: what the oplog reaches back, or will once it is full.

    `seconds` lie between its ends; `use` is how many bytes it holds and may hold.
    """
    if use is None:
        said = f"the oplog reaches back {_span(seconds)}; how full it is is not told to this user"
        return Finding("oplog", "info", said)
    share = min(1.0, use[0] / use[1])
    if seconds < _TELLING_S and share < _FULL:
        said = f"the oplog is {_span(seconds)} old and {share:.0%} full: too young to tell"
        return Finding("oplog", "info", said)
    reach = max(seconds if share >= _FULL else seconds / share, retention_h * 3600)
    if share >= _FULL:
        said = f"the oplog is full and reaches back {_span(reach)}"
    else:
        said = f"the oplog is {share:.0%} full after {_span(seconds)}"
        said += f" and will reach back {_span(reach)}"
    if reach >= _LEAST_HOURS * 3600:
        return Finding("oplog", "ok", said)
    return Finding(
        "oplog",
        "warning",
        f"{said}: after a longer pause everything must be read again. Keep more with "
        f"db.adminCommand({{replSetResizeOplog: 1, minRetentionHours: {_LEAST_HOURS:.0f}}})",
    )


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return (
        f"{hours:.0f} h"
        if hours >= 10
        else f"{hours:.1f} h"
        if hours >= 1
        else f"{minutes:.0f} min"
    )


def _clock(subject: Subject) -> Iterator[Finding]:
    skew = clock_skew(subject.client)
    if abs(skew) > _MOST_SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        said = f"MongoDB's clock is {abs(skew):.1f} s {way} ours; the lag is corrected for it"
        yield Finding("clock", "info", said)
    else:
        yield Finding("clock", "ok", "MongoDB's clock and ours agree")


_LOOKS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "deployment": _deployment,
    "version": _version,
    "rights": _rights,
    "collections": _collections,
    "images": _images,
    "oplog": _oplog,
    "clock": _clock,
}
