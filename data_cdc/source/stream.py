"""The change stream of one database, which opens itself again wherever it broke.

Database level: it needs no privilege beyond that database, and a rename into a
captured name from anywhere shows in it. It ends with an invalidate event only
when the whole database is dropped; the next one starts after that event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bson.errors import BSONError
from pymongo.change_stream import DatabaseChangeStream
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from core.documents import document_key
from core.errors import ConfigurationError
from core.logging import get_logger
from core.mongo import explain
from core.retry import Backoff
from data_cdc.context import Context
from data_cdc.errors import GapFound, OversizeEvent
from data_cdc.keeping.parked import Park, Parked
from data_cdc.keeping.position import Position, position_of, position_of_token
from data_cdc.source.gaps import Meaning, meaning_of
from data_cdc.source.timing import StreamListener
from data_cdc.source.translate import pipeline

_AWAIT_MS = 200
_IMPATIENT_MS = 1
_BATCH = 500
# Behind a batch so small that writes come one by one, the server is left alone for a moment:
# each getMore costs it about as much as an insert does.
_SMALL_BATCH = 100
_PAUSE_S = 0.02
# How many changes are read one by one around one that cannot be read like the others.
_SLIM_CHANGES = 100
_DOCUMENTS = {"fullDocument": 0, "fullDocumentBeforeChange": 0, "updateDescription": 0}
# Without documents a reply holds an `_id` of so many bytes once, and twice in hexadecimal: in the
# token of the change, and in that of the batch. All of it must stay below 16 MB.
_SENDABLE = {
    "$match": {"$expr": {"$lte": [{"$bsonSize": {"$ifNull": ["$documentKey", {}]}}, 3_000_000]}}
}
_NOT_ALLOWED = 13

log = get_logger()


@dataclass(frozen=True)
class _Mode:
    """How the stream is opened.

    `patient`: it waits for a change. `slim`: without documents, one change at a time.
    `skips`: without those changes, too, that even so are too large to be sent.
    """

    patient: bool = True
    slim: bool = False
    skips: bool = False

    def stages(self, collections: tuple[str, ...]) -> list[dict[str, Any]]:
        """The pipeline behind $changeStream."""
        stages = pipeline(collections)
        if self.slim:
            stages = [*stages, {"$project": _DOCUMENTS}]
        return [_SENDABLE, *stages] if self.skips else stages


class ChangeSource:
    """Reads changes in order, from `position` on. Use from one thread.

    A change that MongoDB cannot send whole, or whose document is no valid BSON, is asked
    for without its documents. What cannot be read even so is told to `park` and left out.
    """

    def __init__(
        self,
        context: Context,
        database: Database[dict[str, Any]],
        position: Position,
        listener: StreamListener,
        park: Park,
    ) -> None:
        self._config = context.mongo
        self._cdc = context.cdc
        self._metrics = context.metrics
        self._stop = context.stop
        self._database = database
        self._position = position
        self._listener = listener
        self._park = park
        self._mode = _Mode()
        self._slim_left = 0
        self._unread = 0
        self._looks_up = False
        self._opened = False
        self._stream: DatabaseChangeStream[dict[str, Any]] | None = None
        self._backoff = Backoff(longest=5.0)

    @property
    def position(self) -> Position:
        """Everything up to here was returned by `next`, or concerns nobody."""
        return self._position

    @property
    def buffered(self) -> bool:
        """Whether `next` has something without asking MongoDB."""
        return self._unread > 0

    def wait_for_changes(self, *, patient: bool) -> None:
        """Whether `next` waits a moment for a change where there is none."""
        if patient != self._mode.patient:
            self._mode = replace(self._mode, patient=patient)
            self.close()

    def next(self) -> Mapping[str, Any] | None:
        """The next change; None when there is none within a moment, or MongoDB is away.

        Raises GapFound when the position is lost, and TerminalError.
        """
        try:
            return self._read()
        except PyMongoError as error:
            self.close()
            self._metrics.stream_broke(getattr(error, "code", None) or type(error).__name__)
            self._recover(error)
        except BSONError as error:
            self.close()
            self._begin_slim("stream.undecodable_event", type(error).__name__)
        return None

    def close(self) -> None:
        """Close the cursor; `next` would open another. Idempotent."""
        stream, self._stream, self._unread = self._stream, None, 0
        if stream is not None:
            try:
                stream.close()
            except PyMongoError as error:
                log.debug("stream.close_failed", reason=type(error).__name__)

    def _read(self) -> Mapping[str, Any] | None:
        stream = self._stream = self._stream or self._open()
        change = self._try_next(stream)
        self._backoff.reset()
        if change is None:
            self._metrics.rested()
            self._rest(stream.resume_token)
            return None
        if self._lacks_document(change):
            change["fullDocument"] = self._look_up(change)
        self._count_slim()
        self._position = position_of(change)
        if change["operationType"] == "invalidate":
            self.close()
        return change

    def _try_next(self, stream: DatabaseChangeStream[dict[str, Any]]) -> dict[str, Any] | None:
        if self._unread > 0:
            self._unread -= 1
            return stream.try_next()
        if 0 < self._listener.batch < _SMALL_BATCH and self._mode.patient:
            self._stop.wait(_PAUSE_S)
        self._listener.batch = 0
        change = stream.try_next()
        self._unread = self._listener.batch - 1
        return change

    def _open(self) -> DatabaseChangeStream[dict[str, Any]]:
        after, before = self._images()
        token = self._position.token
        self._listener.batch = 0
        stream = self._database.watch(
            self._mode.stages(self._cdc.collections),
            full_document=after,
            full_document_before_change=before,
            start_after=token,
            start_at_operation_time=None if token else self._position.time,
            batch_size=1 if self._mode.slim else _BATCH,
            max_await_time_ms=_AWAIT_MS if self._mode.patient else _IMPATIENT_MS,
        )
        self._unread = self._listener.batch
        self._announce()
        return stream

    def _announce(self) -> None:
        if not self._opened:
            self._opened = True
            log.info(
                "cdc.streaming",
                database=self._database.name,
                collections=list(self._cdc.collections),
                position=str(self._position.time),
            )

    def _images(self) -> tuple[str | None, str | None]:
        """Which states of the document the server sends along with a change: after, before."""
        keeps_images = not self._mode.slim and self._keeps_images()
        self._looks_up = self._mode.slim or keeps_images
        if self._mode.slim:
            return None, None
        if not keeps_images:
            return "updateLookup", None
        return "whenAvailable", "whenAvailable" if self._cdc.pre_images else None

    def _keeps_images(self) -> bool:
        """Whether MongoDB keeps pre- and post-images of a captured collection."""
        captured = {"name": {"$in": list(self._cdc.collections)}}
        try:
            with self._database.list_collections(filter=captured) as found:
                return any(
                    info.get("options", {}).get("changeStreamPreAndPostImages", {}).get("enabled")
                    for info in found
                )
        except OperationFailure as error:
            if error.code != _NOT_ALLOWED:
                raise
            return False

    def _rest(self, token: Mapping[str, Any] | None) -> None:
        """Nothing is buffered: the stream's own token is ahead of the last event's."""
        if token is not None:
            self._position = position_of_token(token, self._position)
        self._end_slim()

    # -- without documents -------------------------------------------------------

    def _lacks_document(self, change: Mapping[str, Any]) -> bool:
        """Whether the server was told not to look the document up where it has none at hand."""
        return (
            self._looks_up
            and change["operationType"] in ("insert", "update", "replace")
            and change.get("fullDocument") is None
        )

    def _look_up(self, change: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The document as of the change or later, as a majority has it; None if it is gone."""
        collection = self._database[change["ns"]["coll"]]
        identifier = change["documentKey"]["_id"]
        try:
            with self._database.client.start_session(causal_consistency=True) as session:
                session.advance_operation_time(change["clusterTime"])
                return collection.find_one({"_id": {"$eq": identifier}}, session=session)
        except BSONError:
            name, key = change["ns"]["coll"], document_key(identifier)
            parked = Parked(id=_name(change["_id"]), collection=name, key=key, reason="undecodable")
            self._park(parked)
            return None

    def _begin_slim(self, event: str, reason: str) -> None:
        """Read on around a change that cannot be read like the others."""
        if self._mode.skips:
            raise OversizeEvent
        skips = self._mode.slim
        log.warning(event, after=str(self._position.time), reason=reason, skips=skips)
        if skips:
            after = _name(self._position.token) or str(self._position.time)
            self._park(Parked(id=f"after:{after}", collection="", key="", reason="unreadable"))
        self._mode = replace(self._mode, slim=True, skips=skips)
        self._slim_left = _SLIM_CHANGES

    def _count_slim(self) -> None:
        if self._mode.slim:
            self._slim_left -= 1
            if not self._slim_left:
                self._end_slim()

    def _end_slim(self) -> None:
        if self._mode.slim:
            self._mode = _Mode(patient=self._mode.patient)
            self.close()

    # -- errors ------------------------------------------------------------------

    def _recover(self, error: PyMongoError) -> None:
        match meaning_of(error):
            case Meaning.LOST:
                reason = str(error).partition(", full error")[0]
                raise GapFound(f"MongoDB can no longer resume ({reason})")
            case Meaning.UNKNOWN if self._position.token is not None:
                log.warning("stream.token_unknown", begins_at=str(self._position.time))
                self._position = Position(self._position.time)
            case Meaning.OVERSIZE:
                self._begin_slim("stream.oversize_event", "over 16 MB")
            case _:
                self._wait(error)

    def _wait(self, error: PyMongoError) -> None:
        told = explain(error, self._config)
        if isinstance(told, ConfigurationError):
            raise told from error
        delay = self._backoff.next_delay()
        log.warning(
            "stream.interrupted",
            waiting_for="MongoDB",
            reason=str(told),
            retry_in_s=round(delay, 1),
        )
        self._stop.wait(delay)


def _name(token: Mapping[str, Any] | None) -> str:
    """What names a change in a record: a token may have megabytes."""
    return str((token or {}).get("_data", ""))[:1000]
