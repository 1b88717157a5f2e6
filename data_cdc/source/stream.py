"""The change stream of one database, which opens itself again wherever it broke.

Database level: it needs no privilege beyond that database, and a rename into a
captured name from anywhere shows in it. It ends with an invalidate event only
when the whole database is dropped; the next one starts after that event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymongo.change_stream import DatabaseChangeStream
from pymongo.database import Database
from pymongo.errors import PyMongoError

from core.errors import ConfigurationError
from core.logging import get_logger
from core.mongo import explain
from core.retry import Backoff
from data_cdc.context import Context
from data_cdc.errors import GapFound, OversizeEvent
from data_cdc.keeping.position import Position, position_of, position_of_token
from data_cdc.source.gaps import Meaning, meaning_of
from data_cdc.source.translate import pipeline

_AWAIT_MS = 200
_IMPATIENT_MS = 1
_BATCH = 500
# How many changes are read one by one around an oversize one.
_SLIM_CHANGES = 100
# Without its documents a change holds its `_id` once and, in hexadecimal, in its resume token.
_SENDABLE = {
    "$match": {"$expr": {"$lte": [{"$bsonSize": {"$ifNull": ["$documentKey", {}]}}, 4_000_000]}}
}
_DOCUMENTS = {"fullDocument": 0, "fullDocumentBeforeChange": 0, "updateDescription": 0}

log = get_logger()


class _Images(NamedTuple):
    """Which states of the document the server sends along with a change."""

    after: str | None
    before: str | None = None


class ChangeSource:
    """Reads changes in order, from `position` on. Use from one thread.

    A change that MongoDB cannot send whole is asked for without its documents; one that
    it cannot send at all is left out, and `on_skip` told the position before it.
    """

    def __init__(
        self,
        context: Context,
        database: Database[dict[str, Any]],
        position: Position,
        on_skip: Callable[[Position], None],
    ) -> None:
        self._config = context.mongo
        self._cdc = context.cdc
        self._metrics = context.metrics
        self._stop = context.stop
        self._database = database
        self._on_skip = on_skip
        self._patient = True
        self._looks_up = False
        self._position = position
        self._stream: DatabaseChangeStream[dict[str, Any]] | None = None
        self._slim = 0
        self._skips = False
        self._opened = False
        self._backoff = Backoff(longest=5.0)

    @property
    def position(self) -> Position:
        """Everything up to here was returned by `next`, or concerns nobody."""
        return self._position

    @property
    def patient(self) -> bool:
        """Whether `next` waits a moment for a change where there is none."""
        return self._patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        if patient != self._patient:
            self._patient = patient
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
            return None

    def close(self) -> None:
        """Close the cursor; `next` would open another. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except PyMongoError as error:
                log.debug("stream.close_failed", reason=type(error).__name__)

    def _read(self) -> Mapping[str, Any] | None:
        stream = self._stream = self._stream or self._open()
        change = stream.try_next()
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

    def _open(self) -> DatabaseChangeStream[dict[str, Any]]:
        images, token = self._images(), self._position.token
        stream = self._database.watch(
            self._stages(),
            full_document=images.after,
            full_document_before_change=images.before,
            start_after=token,
            start_at_operation_time=None if token else self._position.time,
            batch_size=1 if self._slim else _BATCH,
            max_await_time_ms=_AWAIT_MS if self._patient else _IMPATIENT_MS,
        )
        if not self._opened:
            self._opened = True
            log.info(
                "cdc.streaming",
                database=self._database.name,
                collections=list(self._cdc.collections),
                position=str(self._position.time),
            )
        return stream

    def _stages(self) -> list[dict[str, Any]]:
        stages = pipeline(self._cdc.collections)
        if self._slim:
            stages = [*stages, {"$project": _DOCUMENTS}]
        return [_SENDABLE, *stages] if self._skips else stages

    def _images(self) -> _Images:
        keepers = () if self._slim else self._image_keepers()
        self._looks_up = bool(self._slim or keepers)
        if self._slim:
            return _Images(None)
        if not keepers:
            return _Images("updateLookup")
        return _Images("whenAvailable", "whenAvailable" if self._cdc.pre_images else None)

    def _image_keepers(self) -> tuple[str, ...]:
        """The captured collections of which MongoDB keeps pre- and post-images."""
        captured = {"name": {"$in": list(self._cdc.collections)}}
        with self._database.list_collections(filter=captured) as found:
            return tuple(
                info["name"]
                for info in found
                if info.get("options", {}).get("changeStreamPreAndPostImages", {}).get("enabled")
            )

    def _rest(self, token: Mapping[str, Any] | None) -> None:
        """Nothing is buffered: the stream's own token is ahead of the last event's."""
        if token is not None:
            self._position = position_of_token(token, self._position)
        if self._slim:
            self._end_slim()

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
        with self._database.client.start_session(causal_consistency=True) as session:
            session.advance_operation_time(change["clusterTime"])
            return collection.find_one({"_id": {"$eq": identifier}}, session=session)

    def _count_slim(self) -> None:
        if self._slim:
            self._slim -= 1
            if not self._slim:
                self._end_slim()

    def _end_slim(self) -> None:
        self._slim, self._skips = 0, False
        self.close()

    def _recover(self, error: PyMongoError) -> None:
        match meaning_of(error):
            case Meaning.LOST:
                reason = str(error).partition(", full error")[0]
                raise GapFound(f"MongoDB can no longer resume ({reason})")
            case Meaning.UNKNOWN if self._position.token is not None:
                log.warning("stream.token_unknown", begins_at=str(self._position.time))
                self._position = Position(self._position.time)
            case Meaning.OVERSIZE:
                self._begin_slim()
            case _:
                self._wait(error)

    def _begin_slim(self) -> None:
        if self._skips:
            raise OversizeEvent
        self._skips = bool(self._slim)
        log.warning("stream.oversize_event", after=str(self._position.time), skips=self._skips)
        if self._skips:
            self._on_skip(self._position)
        self._slim = _SLIM_CHANGES

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
