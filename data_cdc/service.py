"""The service: read what is there, then stream, from the kept position to the stop signal.

    MongoDB ── ChangeSource ──► translate ──► Outlet: encode, Outbox, Relay ──► RabbitMQ
                 chunks ──────────────────►      │
                                            Keeper: the safe position ──► MongoDB

One thread. Either side may go away at any time: what was read and not confirmed
stays in the outbox, in order, and nothing more is read while that is full.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from bson.max_key import MaxKey
from bson.timestamp import Timestamp
from pymongo.errors import PyMongoError

from core.config import CdcConfig, MongoConfig, RabbitConfig
from core.errors import ConfigurationError, ServiceUnavailable
from core.logging import get_logger
from core.mongo import Client, connect, explain
from core.mq.topology import Topology
from core.retry import Backoff
from data_cdc.errors import GapFound, GapUnanswered, Stopping, not_a_replica_set
from data_cdc.keeper import Keeper
from data_cdc.outlet import Outlet
from data_cdc.position import Position, position_of
from data_cdc.snapshot import Chunk, ReadTooEarly, completed, read_chunk, read_events, read_last
from data_cdc.state import StateStore
from data_cdc.stream import ChangeSource
from data_cdc.translate import translate

_TIMEOUT_S = 3.0
_CONNECTED = "Connection to database with uri: {} successful"  # the course's phrase
_LONGEST_WAIT_S = 5.0

T = TypeVar("T")

log = get_logger()


def serve(
    mongo: MongoConfig, rabbitmq: RabbitConfig, cdc: CdcConfig, stop: threading.Event
) -> None:
    """Run until `stop` is set. Raises TerminalError when a person must act."""
    client = await_mongo(mongo, stop)
    if client is not None:
        with client:
            Capture(client, mongo, rabbitmq, cdc, stop).run()


def await_mongo(config: MongoConfig, stop: threading.Event) -> Client | None:
    """A connected client, however long that takes; None when told to stop meanwhile."""
    backoff = Backoff(longest=_LONGEST_WAIT_S)
    while not stop.is_set():
        try:
            client = connect(config, timeout_s=_TIMEOUT_S, app="data_cdc")
        except ServiceUnavailable as error:
            _warn(error, delay := backoff.next_delay())
            stop.wait(delay)
        else:
            log.info(_CONNECTED.format(config.address))
            return client
    return None


class Capture:
    """One run over one client."""

    def __init__(
        self,
        client: Client,
        mongo: MongoConfig,
        rabbitmq: RabbitConfig,
        cdc: CdcConfig,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._mongo = mongo
        self._cdc = cdc
        self._stop = stop
        self._database = client[mongo.database]
        self._store = StateStore(client[mongo.state_database])
        topology = Topology(mongo.database, cdc.collections, rabbitmq.queue)
        keeper = Keeper(self._store, cdc.collections, stop)
        self._outlet = Outlet(rabbitmq, topology, cdc.message_format, keeper, stop)

    def run(self) -> None:
        """Until told to stop."""
        try:
            while True:
                self._run_until_gap()
        except Stopping:
            self._outlet.drain()
        finally:
            self._outlet.close()

    def _run_until_gap(self) -> None:
        try:
            self._follow(self._begin())
        except GapFound as gap:
            self._answer(gap)

    def _answer(self, gap: GapFound) -> None:
        """Declare the gap; then the next beginning reads everything, or we end."""
        mode = self._cdc.snapshot_mode
        log.error("cdc.gap_declared", why=gap.why, snapshot_mode=mode)
        if mode != "when_needed":
            raise GapUnanswered(gap.why, mode)
        self._insist(partial(self._store.abandon, gap.why), idle=self._stop.wait)
        self._insist(self._store.answer_snapshot, idle=self._stop.wait)

    # -- beginning -------------------------------------------------------------

    def _begin(self) -> Position:
        """Where the stream begins, after what must be read before."""
        kept = self._insist(self._store.load, idle=self._stop.wait)
        self._outlet.begin(resumes=kept is not None)
        start = Position(self._insist(self._now)) if kept is None else kept.position
        known = () if kept is None else kept.collections
        self._outlet.await_broker()
        new = tuple(name for name in self._cdc.collections if name not in known)
        if new and self._cdc.snapshot_mode != "no_data":
            self._snapshot(new, self._insist(self._now) if kept else start.time, resume=start)
        else:
            self._outlet.advance(start)
        return start

    def _now(self) -> Timestamp:
        """The server's time: no write that was acknowledged is after it."""
        now: Timestamp | None = self._client.admin.command("ping").get("operationTime")
        if now is None:
            raise not_a_replica_set()
        return now

    # -- the stream ------------------------------------------------------------

    def _follow(self, start: Position) -> None:
        source = ChangeSource(self._mongo, self._database, self._cdc.collections, start, self._stop)
        announced = False
        try:
            while True:
                change = source.next()
                if source.is_open and not announced:
                    self._announce(start)
                    announced = True
                if change is None:
                    self._outlet.rest(source.position)
                else:
                    self._handle(change)
        finally:
            source.close()

    def _announce(self, start: Position) -> None:
        self._outlet.phase = "streaming"
        log.info(
            "cdc.streaming",
            database=self._mongo.database,
            collections=list(self._cdc.collections),
            position=str(start.time),
        )

    def _handle(self, change: Mapping[str, Any]) -> None:
        step, position = translate(change, self._cdc.collections), position_of(change)
        if step.reread is not None:
            for event in step.events:
                self._outlet.put(event, None)
            self._snapshot((step.reread,), position.time, resume=position)
            self._outlet.phase = "streaming"
            return
        for event in step.events[:-1]:
            self._outlet.put(event, None)
        if step.events:
            self._outlet.put(step.events[-1], position)
        else:
            self._outlet.advance(position)

    # -- reading what is there -------------------------------------------------

    def _snapshot(
        self, collections: tuple[str, ...], not_before: Timestamp, *, resume: Position
    ) -> None:
        """Tell all documents, then the marker. Only its confirm makes `resume` safe."""
        self._outlet.phase = "snapshot"
        snapshot_id = uuid.uuid4().hex[:12]
        log.info("snapshot.started", snapshot_id=snapshot_id, collections=list(collections))
        times = [self._read(snapshot_id, name, not_before) for name in collections]
        earliest = min((time for time in times if time is not None), default=not_before)
        marker = completed(snapshot_id, self._mongo.database, collections, earliest)
        self._outlet.put(marker, resume)
        log.info("snapshot.completed", snapshot_id=snapshot_id, as_of=str(earliest))

    def _read(self, snapshot_id: str, collection: str, not_before: Timestamp) -> Timestamp | None:
        """Tell the documents of one collection. Returns the earliest time it was read at."""
        count, earliest = 0, None
        for chunk in self._chunks(collection, not_before):
            for event in read_events(snapshot_id, self._mongo.database, collection, chunk):
                self._outlet.put(event, None)
            count += len(chunk.documents)
            earliest = earliest or chunk.at
        log.info("snapshot.collection_read", collection=collection, documents=count)
        return earliest

    def _chunks(self, collection: str, not_before: Timestamp) -> Iterator[Chunk]:
        after: Mapping[str, Any] | None = None
        while True:
            chunk = self._insist(partial(read_chunk, self._database, collection, after, not_before))
            yield chunk
            if not chunk.documents or isinstance(chunk.documents[-1]["_id"], MaxKey):
                break
            after = {"_id": chunk.documents[-1]["_id"]}
        if after is not None and not chunk.documents:
            yield self._insist(partial(read_last, self._database, collection, not_before))

    # -- MongoDB is away ---------------------------------------------------------

    def _insist(self, call: Callable[[], T], idle: Callable[[float], object] | None = None) -> T:
        """What `call` returns, however often it must be tried. Raises ConfigurationError."""
        wait, backoff = idle or self._outlet.tick, Backoff(longest=_LONGEST_WAIT_S)
        while True:
            if self._stop.is_set():
                raise Stopping
            try:
                return call()
            except ReadTooEarly as error:
                log.debug("snapshot.too_early", reason=str(error))
                wait(backoff.next_delay())
            except PyMongoError as error:
                told = explain(error, self._mongo)
                if isinstance(told, ConfigurationError):
                    raise told from error
                _warn(told, delay := backoff.next_delay())
                wait(delay)


def _warn(error: ServiceUnavailable, delay: float) -> None:
    log.warning(
        "mongo.unavailable",
        waiting_for="MongoDB",
        reason=str(error),
        retry_in_s=round(delay, 1),
    )
