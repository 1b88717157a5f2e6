"""Every metric of this service: its name, its meaning, and who counts it.

The service's one thread counts, in plain numbers; a scrape reads them from a thread
of the HTTP server. No lock: under CPython an attribute is set, a number read and a
dictionary copied in one step each, nobody but that one thread adds, and a scrape that
sees one event in one number and not yet in another is right a moment later.

An event costs about a microsecond, for one `read` and one `confirmed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic, time

from bson.timestamp import Timestamp
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from core.metrics import Histogram
from data_cdc.operations.vitals import Vitals

# Which events come from the stream, so that their age is the service's doing.
_STREAMED = frozenset("cudt")
_LAG_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
_CALL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# A label whose values come from elsewhere (an error's code, a transform's reason) takes no more.
_MOST_VALUES = 32
_OTHER = "other"
# Told from the start as 0: an increase from nothing is not seen as one.
_REASONS = ("too_large", "unencodable", "unreadable", "transform")


class CdcMetrics:
    """Counts for the service's one thread, and tells `registry` when it asks.

    Each method says when to call it. None blocks, none raises.
    """

    def __init__(
        self, registry: CollectorRegistry, database: str, collections: Sequence[str]
    ) -> None:
        self.now = Vitals()
        self._database = database
        self._events = {(op, name): 0 for name in collections for op in "cudr"}
        self._parked = dict.fromkeys(_REASONS, 0)
        self._restarts: dict[str, int] = {}
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._lag = Histogram(_LAG_BOUNDS)
        self._confirm = Histogram(_CALL_BOUNDS)
        self._getmore = Histogram(_CALL_BOUNDS)
        registry.register(self)

    # -- the loop --------------------------------------------------------------

    def alive(self) -> None:
        """The main loop goes round: while it waits for a service, too, every few seconds."""
        self.now.turned_at = monotonic()

    def turned(
        self, *, in_flight: int, oldest_ms: int | None, connected: bool, blocked: bool
    ) -> None:
        """After each look at the broker: how many messages it has not confirmed, when the
        oldest of those changes was made, and whether it can be reached and takes messages.
        """
        now = self.now
        now.turned_at = monotonic()
        now.in_flight = in_flight
        now.oldest_ms = oldest_ms
        now.connected = connected
        now.blocked = blocked

    def leads(self, *, leader: bool) -> None:
        """The lease was won; or it was lost or given back, and nothing is captured any more."""
        now = self.now
        now.leader = leader
        if not leader:
            now.reading = now.rested = now.connected = now.blocked = False
            now.in_flight, now.oldest_ms, now.read_ms = 0, None, None
            now.checkpoint_t, now.checkpoint_at = None, None
            self.snapshot_ended()

    def mongo_away(self) -> None:
        """A call to MongoDB beside the stream failed, and will be made again."""
        self.now.reading = self.now.rested = False

    # -- MongoDB ---------------------------------------------------------------

    def read(self, wall_ms: int) -> None:
        """The stream told a change that was made then."""
        now = self.now
        now.read_ms = wall_ms
        now.reading, now.rested = True, False

    def rested(self) -> None:
        """The stream is open and has nothing more to tell for now."""
        now = self.now
        now.reading = now.rested = True

    def stream_broke(self, code: int | str) -> None:
        """The stream, or its opening, failed: MongoDB's error code, else the error's name."""
        self.now.reading = self.now.rested = False
        _add(self._restarts, str(code))

    def getmore(self, seconds: float) -> None:
        """MongoDB has answered a getMore of the stream; an idle one waits on purpose."""
        self._getmore.observe(seconds)

    def gap_declared(self) -> None:
        """Changes were missed, and that was logged."""
        self._counts["cdc_gap_declared_total"] += 1

    def checkpoint(self, position: Timestamp) -> None:
        """The position was saved, or loaded now to begin from."""
        self.now.checkpoint_t = position.time
        self.now.checkpoint_at = monotonic()

    # -- events ----------------------------------------------------------------

    def confirmed(self, op: str, collection: str, size: int, wall_ms: int, sent_at: float) -> None:
        """The broker has confirmed a message, sent at `sent_at` on the monotonic clock."""
        try:
            self._events[op, collection] += 1
        except KeyError:
            self._begin(op, collection)
        self._counts["cdc_bytes_total"] += size
        self._confirm.observe(monotonic() - sent_at)
        if op in _STREAMED:
            lag = time() + self.now.skew_s - wall_ms / 1000
            self._lag.observe(lag if lag > 0 else 0.0)

    def filtered(self, count: int = 1) -> None:
        """A transform has dropped an event."""
        self._counts["cdc_events_filtered_total"] += count

    def parked(self, reason: str) -> None:
        """An event was set aside; what stands before a colon in `reason` is the label."""
        _add(self._parked, reason.partition(":")[0])

    # -- the broker ------------------------------------------------------------

    def nacked(self) -> None:
        """The broker refused a message."""
        self._counts["cdc_nacks_total"] += 1

    def returned(self) -> None:
        """The broker gave a message back that no queue takes."""
        self._counts["cdc_returns_total"] += 1

    def republished(self, count: int) -> None:
        """After a break `count` messages that had been sent must be sent again."""
        self._counts["cdc_republished_total"] += count

    # -- snapshots -------------------------------------------------------------

    def snapshot(self, remaining: int) -> None:
        """A snapshot runs, and has so many collections left, the present one included."""
        if self.now.snapshot_since is None:
            self.now.snapshot_since = monotonic()
        self.now.snapshot_remaining = remaining

    def snapshot_rows(self, count: int) -> None:
        """A chunk of a snapshot was read from MongoDB."""
        self._counts["cdc_snapshot_rows_total"] += count
        self.now.reading = True

    def snapshot_ended(self) -> None:
        """No snapshot runs any more: it is complete, or was given up. Idempotent."""
        self.now.snapshot_took = self.now.snapshot_s()
        self.now.snapshot_since, self.now.snapshot_remaining = None, 0

    # -- the scrape --------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, from the thread of a scrape."""
        for name, (text, value) in _GAUGES.items():
            number = value(self.now)
            if number is not None:
                yield GaugeMetricFamily(name, text, value=number)
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=self._counts[name])
        yield _labelled(
            "cdc_events_total",
            "Events that the broker has confirmed.",
            ("op", "ns"),
            (
                ((op, f"{self._database}.{name}"), count)
                for (op, name), count in self._events.copy().items()
            ),
        )
        yield _labelled(
            "cdc_events_parked_total",
            "Events set aside in cdc_parked, and why.",
            ("reason",),
            (((reason,), count) for reason, count in self._parked.copy().items()),
        )
        yield _labelled(
            "cdc_stream_restarts_total",
            "Times the stream had to be opened again, failed tries included, by MongoDB's code.",
            ("code",),
            (((code,), count) for code, count in self._restarts.copy().items()),
        )
        yield _distribution(
            "cdc_source_lag_seconds",
            "From a change in MongoDB to the broker's confirm, on MongoDB's clock.",
            self._lag,
        )
        yield _distribution(
            "cdc_confirm_seconds", "From sending a message to its confirm.", self._confirm
        )
        yield _distribution(
            "cdc_getmore_seconds",
            "MongoDB's answers to the stream's getMore; an idle one waits on purpose.",
            self._getmore,
        )

    def _begin(self, op: str, collection: str) -> None:
        """The first of its kind: a control event, or a name that a transform gave."""
        full = len(self._events) >= 4 * _MOST_VALUES
        key = (op, _OTHER if full else collection)
        self._events[key] = self._events.get(key, 0) + 1


_Value = Callable[[Vitals], float | None]

_GAUGES: dict[str, tuple[str, _Value]] = {
    "cdc_leader": ("1 while this process holds the lease and captures.", lambda n: n.leader),
    "cdc_source_behind_seconds": (
        "Age of the oldest change that the broker has not confirmed; 0 when in step.",
        Vitals.behind_s,
    ),
    "cdc_last_event_age_seconds": (
        "Time since the last change that the stream told was made.",
        Vitals.last_event_age_s,
    ),
    "cdc_oplog_headroom_seconds": (
        "From the oplog's oldest entry to the saved position; at 0 changes are lost.",
        Vitals.headroom_s,
    ),
    "cdc_oplog_headroom_ratio": (
        "The headroom as a share of the oplog's window; 1 while the oplog is not half full.",
        Vitals.headroom_ratio,
    ),
    "cdc_publish_inflight": (
        "Messages handed over and not confirmed.",
        lambda n: n.in_flight,
    ),
    "cdc_broker_blocked": (
        "1 while the broker holds back publishers (a memory or disk alarm).",
        lambda n: n.blocked,
    ),
    "cdc_queue_depth": (
        "Messages that wait in the feature pipeline's queue.",
        lambda n: n.queue_depth,
    ),
    "cdc_checkpoint_age_seconds": ("Time since the position was saved.", Vitals.checkpoint_age_s),
    "cdc_checkpoint_pos_t": (
        "The saved position's cluster time, in seconds since 1970.",
        lambda n: n.checkpoint_t,
    ),
    "cdc_snapshot_running": (
        "1 while collections are read in full.",
        lambda n: n.snapshot_since is not None,
    ),
    "cdc_snapshot_remaining_collections": (
        "Collections that the running snapshot has not finished.",
        lambda n: n.snapshot_remaining,
    ),
    "cdc_snapshot_duration_seconds": (
        "How long the running snapshot takes so far, or the last one took.",
        Vitals.snapshot_s,
    ),
}

_COUNTERS = {
    "cdc_bytes_total": "Bytes of the bodies that the broker has confirmed.",
    "cdc_events_filtered_total": "Events that a transform dropped.",
    "cdc_gap_declared_total": "Times that changes were found to be missed.",
    "cdc_nacks_total": "Messages that the broker refused.",
    "cdc_returns_total": "Messages that no queue took.",
    "cdc_republished_total": "Messages sent again after a break.",
    "cdc_snapshot_rows_total": "Documents read by snapshots.",
}


def _add(counts: dict[str, int], label: str) -> None:
    if label not in counts and len(counts) >= _MOST_VALUES:
        label = _OTHER
    counts[label] = counts.get(label, 0) + 1


def _labelled(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], int]],
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, count in values:
        family.add_metric(label_values, count)
    return family


def _distribution(name: str, text: str, histogram: Histogram) -> Metric:
    total = histogram.total
    return HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=total)
