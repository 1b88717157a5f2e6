"""How the service does at this moment, and what that means for who asks after its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, time

# Longer than any one call that the loop waits for: MongoDB's socket timeout is 30 seconds.
_TURNS_WITHIN_S = 40.0
_LEAST_HEADROOM = 0.1


@dataclass(frozen=True)
class OplogWindow:
    """What the oplog holds, in seconds since 1970; how full it is from 0 to 1, where known.

    While it is not full nothing leaves it, whatever its window is.
    """

    oldest_t: int
    newest_t: int
    used: float | None = None


@dataclass(slots=True)
class Vitals:
    """How the service is at this moment. Read it from any thread, each field once: the loop
    may change it meanwhile.

    `CdcMetrics` changes it for the main loop, and `Watch` the last three from its thread.
    `turned_at` is on the monotonic clock. Ages are on MongoDB's: `skew_s` is how far its
    clock is ahead of ours.
    """

    turned_at: float = field(default_factory=monotonic)
    leader: bool = False
    reading: bool = False
    rested: bool = False
    connected: bool = False
    blocked: bool = False
    in_flight: int = 0
    oldest_ms: int | None = None
    read_ms: int | None = None
    checkpoint_t: int | None = None
    checkpoint_at: float | None = None
    snapshot_since: float | None = None
    snapshot_took: float = 0.0
    snapshot_remaining: int = 0
    queue_depth: int | None = None
    oplog: OplogWindow | None = None
    skew_s: float = 0.0

    def behind_s(self) -> float | None:
        """How old the oldest change is that the broker has not confirmed; 0 when in step."""
        oldest_ms, read_ms = self.oldest_ms, self.read_ms
        if self.in_flight and oldest_ms is not None:
            return self._age(oldest_ms / 1000)
        if self.reading:
            return 0.0 if self.rested or read_ms is None else self._age(read_ms / 1000)
        checkpoint_t = self.checkpoint_t
        return None if checkpoint_t is None else self._age(checkpoint_t)

    def last_event_age_s(self) -> float | None:
        """How long ago the last change was made that the stream told."""
        read_ms = self.read_ms
        return None if read_ms is None else self._age(read_ms / 1000)

    def checkpoint_age_s(self) -> float | None:
        """How long ago the position was saved."""
        saved_at = self.checkpoint_at
        return None if saved_at is None else max(0.0, monotonic() - saved_at)

    def headroom_s(self) -> float | None:
        """How far the position is from the oplog's oldest entry; negative once it is lost."""
        oplog, checkpoint_t = self.oplog, self.checkpoint_t
        return None if oplog is None or checkpoint_t is None else checkpoint_t - oplog.oldest_t

    def headroom_ratio(self) -> float | None:
        """The same as a share of the oplog's window; 1 while the oplog is less than half full."""
        headroom, oplog = self.headroom_s(), self.oplog
        if headroom is None or oplog is None:
            return None
        if oplog.used is not None and oplog.used < 0.5:
            return 1.0
        return min(1.0, headroom / max(1, oplog.newest_t - oplog.oldest_t))

    def snapshot_s(self) -> float:
        """How long the present snapshot takes so far, or the last one took."""
        since = self.snapshot_since
        return self.snapshot_took if since is None else monotonic() - since

    def _age(self, wall_s: float) -> float:
        return max(0.0, time() + self.skew_s - wall_s)


def live(now: Vitals) -> Mapping[str, str | None]:
    """Whether the main loop goes round. If not, only a new start helps."""
    since = monotonic() - now.turned_at
    late = since > _TURNS_WITHIN_S
    return {"loop": f"the main loop has not turned for {since:.0f} s" if late else None}


def ready(now: Vitals) -> Mapping[str, str | None]:
    """Whether changes reach the broker. One that stands by is well, and not ready."""
    if not now.leader:
        return {**live(now), "leader": "another data_cdc leads, or none yet; this one stands by"}
    return {
        **live(now),
        "leader": None,
        "mongodb": None if now.reading else "the change stream is not open",
        "rabbitmq": _broker(now),
        "oplog": _oplog(now),
    }


def _broker(now: Vitals) -> str | None:
    if not now.connected:
        return "there is no connection to RabbitMQ"
    return "RabbitMQ holds back publishers (a memory or disk alarm)" if now.blocked else None


def _oplog(now: Vitals) -> str | None:
    ratio, seconds = now.headroom_ratio(), now.headroom_s()
    if ratio is None or seconds is None or ratio >= _LEAST_HEADROOM:
        return None
    return f"the position is {seconds:.0f} s from the oplog's end, {ratio:.0%} of its window"
