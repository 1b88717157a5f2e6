"""The way out of the service: events in, confirmed messages and a kept offset behind."""

from __future__ import annotations

from time import monotonic, time

from core.documents import entry_id, identifier_of
from core.events import ChangeEvent, Event, Purge, encode
from core.events.encode import CONTROL
from core.logging import LineBudget, get_logger
from data_cdc.context import Context
from data_cdc.delivery.mark import MARK, mark
from data_cdc.delivery.outbox import Entry, Outbox
from data_cdc.delivery.oversize import Oversize
from data_cdc.delivery.relay import Relay
from data_cdc.errors import GapFound, LeadershipLost, Stopping
from data_cdc.keeping.keeper import Keeper
from data_cdc.keeping.offset import Offset
from data_cdc.keeping.parked import LONGEST_NAME, Parked
from data_cdc.keeping.state import Heartbeat
from data_cdc.leadership.lease import Lease

_FULL_WAIT_S = 0.2
_IDLE_SAVE_EVERY_S = 10.0
_DRAIN_S = 8.0
_EVENTS_PER_TICK = 64
_MARK_EVERY_S = 10.0
# The course's phrases: its followers search the log for them.
_DETECTED = "Change detected and serialized for a data sample of type {}."
_PUBLISHED = "Data of type '{}' published to RabbitMQ."

log = get_logger()


class Outlet:
    """Takes events in order.

    Every call may raise Stopping, GapFound, LeadershipLost or TerminalError.
    """

    def __init__(self, context: Context, keeper: Keeper, lease: Lease) -> None:
        self.phase = "starting"
        self._format = context.cdc.message_format
        self._topology = context.topology
        self._metrics = context.metrics
        self._stop = context.stop
        self._keeper = keeper
        self._lease = lease
        self._outbox = Outbox()
        # What a transform has masked must not be read from MongoDB instead.
        by_reference = not context.chain.may_rewrite
        self._oversize = Oversize(context.cdc.oversize_messages if by_reference else "park")
        self._relay = Relay(context, self._outbox, self._oversize, keeper.park, lease)
        self._detected = LineBudget("Changes detected and serialized.")
        self._published = LineBudget("Data published to RabbitMQ.")
        self._count = 0
        self._next_idle_save = 0.0
        self._next_mark = 0.0
        self._untold = 0

    def begin(self, *, resumes: bool) -> None:
        """A new course of events. `resumes` tells that the queue holds what came before."""
        self._relay.close()
        self._outbox.clear()
        self._keeper.forget()
        self._relay.expects_mark = resumes

    def await_broker(self) -> None:
        """Return once the broker is there, and the queue is the one expected."""
        while not self._relay.connected:
            self.tick(_FULL_WAIT_S)

    def put(self, event: Event, offset: Offset | None) -> None:
        """Hand over `event`; returns when there is room for the next.

        `offset` is safe once the event is confirmed; None while more belongs to it.
        What was put may wait for its turn until the next `tick`.
        """
        try:
            message = self._oversize.fitting(encode(event, self._format))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self.park(event, f"unencodable: {type(error).__name__}", offset)
            return
        if message is None:
            self.park(event, "too_large", offset)
            return
        entry = Entry(message, *_subject(event), offset, event.wall_ms)
        if entry.key and self._detected.take(entry.collection):
            _say(_DETECTED, entry)
        self._outbox.append(entry)
        self._turn()

    def advance(self, offset: Offset) -> None:
        """Nothing needs telling up to `offset`."""
        self._outbox.advance(offset)
        self._turn()

    def rest(self, offset: Offset) -> None:
        """All up to `offset` was handed over, and nothing else is there.

        An idle position must not age, or the oplog would outrun it.
        """
        self.tick()
        if not len(self._outbox) and monotonic() >= self._next_idle_save:
            self._next_idle_save = monotonic() + _IDLE_SAVE_EVERY_S
            self._outbox.advance(offset)

    def park(self, event: Event, reason: str, offset: Offset | None) -> None:
        """Set `event` aside for good, in place of sending it."""
        collection, key = _subject(event)
        self._keeper.park(
            Parked(id=event.message_id, collection=collection, key=key, reason=reason)
        )
        if offset is not None:
            self.advance(offset)

    def _turn(self) -> None:
        """A look at the broker costs as much as an event: a few of them share one."""
        self._untold += 1
        if self._untold >= _EVENTS_PER_TICK:
            self.tick()
        while self._outbox.full:
            self.tick(_FULL_WAIT_S)

    def tick(self, wait_s: float = 0.0) -> None:
        """Move what can be moved, wait up to `wait_s` for a confirm, keep what is due."""
        if self._stop.is_set():
            raise Stopping
        if self._lease.lost:
            raise LeadershipLost
        self._untold = 0
        self._mark()
        self._move(wait_s)

    def flush(self) -> None:
        """Return once all is confirmed and kept."""
        while len(self._outbox) or not self._keeper.has_kept(self._outbox.safe):
            self.tick(_FULL_WAIT_S)

    def drain(self) -> None:
        """Wait, within bounds, until all is confirmed; keep the position; end the connection."""
        deadline = monotonic() + _DRAIN_S
        try:
            while len(self._outbox) and monotonic() < deadline and self._relay.connected:
                self._move(_FULL_WAIT_S)
        except GapFound as gap:
            log.warning("cdc.gap_left_to_the_next_start", why=gap.why)
        self._keeper.keep(self._outbox.safe, now=True)
        self._relay.close()
        log.info("cdc.stopped", published=self._count, unconfirmed=len(self._outbox))

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._relay.close()

    def _mark(self) -> None:
        """A queue that somebody deletes while we run must be noticed, too."""
        if self._relay.connected and not self._outbox.full and monotonic() >= self._next_mark:
            self._next_mark = monotonic() + _MARK_EVERY_S
            self._outbox.append(Entry(mark(self._topology), "", "", None))

    def _move(self, wait_s: float) -> None:
        for entry in self._relay.pump(wait_s):
            if entry.message.type == MARK:
                continue
            self._count += 1
            self._metrics.confirmed(
                entry.message.type, entry.collection, entry.size, entry.wall_ms, entry.sent_at
            )
            if not entry.key:
                _say("control.published", entry)
            elif self._published.take(entry.collection):
                _say(_PUBLISHED, entry)
        self._detected.roll()
        self._published.roll()
        self._keeper.keep(self._outbox.safe)
        oldest = self._outbox.oldest()
        self._metrics.turned(
            in_flight=len(self._outbox),
            oldest_ms=None if oldest is None else oldest.wall_ms,
            connected=self._relay.connected,
            blocked=self._relay.blocked,
        )
        if self._relay.connected and self._keeper.beat_due():
            self._keeper.beat(self._heartbeat())

    def _heartbeat(self) -> Heartbeat:
        oldest = self._outbox.oldest()
        return Heartbeat(
            state=self.phase,
            position=None if self._outbox.safe is None else self._outbox.safe.position,
            lag_s=0.0 if oldest is None else max(0.0, time() - oldest.wall_ms / 1000),
            in_flight=len(self._outbox),
            published=self._count,
        )


def _subject(event: Event) -> tuple[str, str]:
    """The collection and key that an event is about, as far as it is about one."""
    match event:
        case ChangeEvent():
            return event.collection, event.key
        case Purge(collection=str(collection)):
            return collection, ""
        case _:
            return CONTROL, ""


def _say(phrase: str, entry: Entry) -> None:
    log.info(
        phrase.format(entry.collection),
        event_id=entry.message.message_id,
        collection=entry.collection,
        entry_id=entry_id(identifier_of(entry.key))[:LONGEST_NAME] if entry.key else None,
        op=entry.message.type,
    )
