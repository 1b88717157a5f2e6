"""The change stream of one database, which opens itself again wherever it broke.

Database level: it needs no privilege beyond that database, and a rename into a
captured name from anywhere shows in it. It ends with an invalidate event only
when the whole database is dropped; the next one starts after that event.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from pymongo.change_stream import DatabaseChangeStream
from pymongo.database import Database
from pymongo.errors import PyMongoError

from core.config import MongoConfig
from core.errors import ConfigurationError
from core.logging import get_logger
from core.mongo import explain
from core.retry import Backoff
from data_cdc.errors import GapFound, OversizeEvent
from data_cdc.gaps import Meaning, meaning_of
from data_cdc.position import Position, position_of, position_of_token
from data_cdc.translate import pipeline

_AWAIT_MS = 200
_BATCH = 500
# How many changes are read one by one around an oversize one.
_SLIM_CHANGES = 100
_DOCUMENTS = {"fullDocument": 0, "fullDocumentBeforeChange": 0, "updateDescription": 0}

log = get_logger()


class ChangeSource:
    """Reads changes in order, from `position` on. Use from one thread."""

    def __init__(
        self,
        config: MongoConfig,
        database: Database[dict[str, Any]],
        collections: tuple[str, ...],
        position: Position,
        stop: threading.Event,
    ) -> None:
        self._config = config
        self._database = database
        self._collections = collections
        self._position = position
        self._stop = stop
        self._stream: DatabaseChangeStream[dict[str, Any]] | None = None
        self._slim = 0
        self._backoff = Backoff(longest=5.0)

    @property
    def position(self) -> Position:
        """Everything up to here was returned by `next`, or concerns nobody."""
        return self._position

    @property
    def is_open(self) -> bool:
        """Whether MongoDB has accepted the position and nothing broke since."""
        return self._stream is not None

    def next(self) -> Mapping[str, Any] | None:
        """The next change; None when there is none within a moment, or MongoDB is away.

        Raises GapFound when the position is lost, and TerminalError.
        """
        try:
            return self._read()
        except PyMongoError as error:
            self.close()
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
        stages = pipeline(self._collections)
        token = self._position.token
        return self._database.watch(
            [*stages, {"$project": _DOCUMENTS}] if self._slim else stages,
            full_document=None if self._slim else "updateLookup",
            start_after=token,
            start_at_operation_time=None if token else self._position.time,
            batch_size=1 if self._slim else _BATCH,
            max_await_time_ms=_AWAIT_MS,
        )

    def _rest(self, token: Mapping[str, Any] | None) -> None:
        """Nothing is buffered: the stream's own token is ahead of the last event's."""
        if token is not None:
            self._position = position_of_token(token, self._position)
        if self._slim:
            self._slim = 0
            self.close()

    def _lacks_document(self, change: Mapping[str, Any]) -> bool:
        """Whether the server was told to send the change without its document."""
        return bool(self._slim) and change["operationType"] in ("insert", "update", "replace")

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
        if self._slim:
            raise OversizeEvent
        log.warning("stream.oversize_event", after=str(self._position.time))
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
