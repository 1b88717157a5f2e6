"""From the outbox to the broker: connects, sends, collects confirms, and after a
break sends again, in order, all that was not confirmed (go-back-N).
"""

from __future__ import annotations

from time import monotonic

from pika.exceptions import AMQPError

from core.errors import ServiceUnavailable, TransientError, TwinError
from core.logging import get_logger
from core.mq.connection import explain, open_briefly
from core.mq.publisher import Publisher, PublishInterrupted, Refused, Unroutable
from core.mq.topology import declare
from core.retry import Backoff
from data_cdc.context import Context
from data_cdc.delivery.mark import bind_mark, expect_mark, mark_gone, mark_key
from data_cdc.delivery.outbox import MAX_MESSAGES, Entry, Outbox
from data_cdc.delivery.oversize import Oversize
from data_cdc.errors import GapFound, LeaseExpired
from data_cdc.keeping.parked import Park
from data_cdc.leadership.lease import Lease
from data_cdc.preflight import broker_at_start

_NAME = "llm-twin-data-cdc"
# The exclusive queue whose holder may publish changes of a database.
_HOLDER = "data_cdc"
# No confirm at all for so long, though the broker does not block: the connection is of no use.
_CONFIRM_S = 30.0
# Large messages over a slow line take their time before the first confirm.
_SLOWEST_LINE = 64 * 1024

log = get_logger()


class Relay:
    """Moves what `outbox` holds, while `lease` is held. Use from one thread.

    A broker that is away is waited for, with a warning each try. `expects_mark`
    tells whether the queue must be the one that an earlier run filled.
    """

    def __init__(
        self, context: Context, outbox: Outbox, oversize: Oversize, park: Park, lease: Lease
    ) -> None:
        self.expects_mark = False
        self._config = context.rabbitmq
        self._cdc = context.cdc
        self._topology = context.topology
        self._metrics = context.metrics
        self._stop = context.stop
        self._outbox = outbox
        self._oversize = oversize
        self._park = park
        self._lease = lease
        self._lease.when_expired(self._let_go)
        self._looked = False
        self._publisher: Publisher | None = None
        self._collected = 0
        self._backoff = Backoff(longest=5.0)
        self._not_before = 0.0
        self._progress_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._publisher is not None

    @property
    def blocked(self) -> bool:
        """Whether the broker holds back publishers."""
        return self._publisher is not None and self._publisher.blocked

    def pump(self, wait_s: float = 0.0) -> list[Entry]:
        """Send what waits, and return what was confirmed since the last call.

        Waits up to `wait_s` for something to do, and longer only while it
        connects. Raises GapFound when the queue is not the one that was filled,
        and TerminalError.
        """
        publisher = self._publisher or self._connect(wait_s)
        if publisher is None:
            return []
        try:
            self._send(publisher, wait_s)
            self._check_progress()
        except PublishInterrupted as error:
            return self._break_off(publisher, error)
        return self._collect(publisher)

    def close(self) -> None:
        """End the connection. What is unconfirmed waits again. Idempotent."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
        self._collected = 0
        self._outbox.rewind()

    def _send(self, publisher: Publisher, wait_s: float) -> None:
        publisher.check()
        if not len(self._outbox) or publisher.blocked or not self._lease.held:
            self._progress_at = monotonic()
        if not self._lease.held:
            # Another may lead already. What is in flight may still be confirmed.
            self._stop.wait(wait_s)
            return
        for entry in self._outbox.to_send():
            if not publisher.send(entry.message, wait_s):
                return
        if wait_s and len(self._outbox):
            publisher.wait_confirmed(self._collected + self._outbox.worth_waiting_for, wait_s)
        elif wait_s:
            self._stop.wait(wait_s)

    def _collect(self, publisher: Publisher) -> list[Entry]:
        fresh = publisher.confirmed - self._collected
        if not fresh:
            return []
        self._collected += fresh
        self._progress_at = monotonic()
        self._backoff.reset()
        return self._outbox.confirm(fresh)

    def _break_off(self, publisher: Publisher, error: PublishInterrupted) -> list[Entry]:
        confirmed = self._collect(publisher)
        self._metrics.republished(self._outbox.rewind())
        self.close()
        match error.cause:
            case Unroutable(routing_key=key):
                self._metrics.returned()
                if key == mark_key(self._topology):
                    raise GapFound(mark_gone(self._topology))
            case Refused():
                self._metrics.nacked()
        if error.size_limit is not None:
            self._make_fit(error.size_limit)
        if isinstance(error.cause, LeaseExpired):
            log.warning("publishing.paused", waiting_for="MongoDB", reason=str(error.cause))
        else:
            self._postpone(error)
        return confirmed

    def _make_fit(self, limit: int) -> None:
        self._oversize.learn(limit)
        for entry in self._outbox.larger_than(limit):
            message = self._oversize.fitting(entry.message)
            if message is None:
                self._park(entry.parked("too_large"))
                self._outbox.remove(entry)
            else:
                self._outbox.replace(entry, message)

    def _let_go(self) -> None:
        """Called from the lease's thread: while we are busy, another may have to publish."""
        publisher = self._publisher
        if publisher is not None:
            publisher.interrupt(LeaseExpired())

    def _connect(self, wait_s: float) -> Publisher | None:
        early = self._not_before - monotonic()
        if early > 0 or not self._lease.held:
            self._stop.wait(min(early, wait_s) if early > 0 else wait_s)
            return None
        try:
            self._prepare()
            publisher = self._open()
        except TransientError as error:
            if isinstance(error, GapFound):
                raise
            self._postpone(error)
            return None
        log.info("broker.connected", address=self._config.address, queue=self._topology.queue)
        self._collected, self._progress_at = publisher.confirmed, monotonic()
        self._publisher = publisher
        return publisher

    def _prepare(self) -> None:
        """Make sure that exchange, queue and bindings are there."""
        connection = open_briefly(self._config, f"{_NAME}-topology")
        try:
            if not self._looked:
                broker_at_start(connection, self._topology, self._cdc)
                self._looked = True
            declare(connection, self._topology)
            if not self.expects_mark:
                bind_mark(connection, self._topology)
        except (AMQPError, OSError) as error:
            raise explain(error, self._config) from error
        finally:
            _close(connection)

    def _open(self) -> Publisher:
        publisher = Publisher(
            self._config,
            window=MAX_MESSAGES,
            name=_NAME,
            exclusive_queue=f"{self._topology.db}.{_HOLDER}",
        ).__enter__()
        try:
            if self.expects_mark:
                expect_mark(publisher, self._topology, self._config.address)
            self.expects_mark = True
        except TwinError:
            publisher.close()
            raise
        return publisher

    def _check_progress(self) -> None:
        allowed = _CONFIRM_S + self._outbox.size / _SLOWEST_LINE
        if monotonic() - self._progress_at > allowed:
            cause = f"no confirm for {allowed:.0f} s"
            raise PublishInterrupted(ServiceUnavailable("RabbitMQ", self._config.address, cause))

    def _postpone(self, error: TwinError) -> None:
        delay = self._backoff.next_delay()
        self._not_before = monotonic() + delay
        log.warning(
            "broker.unavailable",
            waiting_for="RabbitMQ",
            reason=str(error),
            unconfirmed=len(self._outbox),
            retry_in_s=round(delay, 1),
        )


def _close(connection: object) -> None:
    """Close a blocking connection that may be gone already."""
    try:
        connection.close()  # type: ignore[attr-defined]
    except (AMQPError, OSError) as error:
        log.debug("broker.close_failed", reason=type(error).__name__)
