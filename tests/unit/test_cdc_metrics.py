"""What data_cdc counts, and what it says of its health."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bson.timestamp import Timestamp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from data_cdc.operations.metrics import CdcMetrics
from data_cdc.operations.vitals import OplogWindow, Vitals, live, ready

ROOT = Path(__file__).parents[2]

# Contract: dashboards and alerts of other people name them.
NAMES = [
    "cdc_source_lag_seconds",
    "cdc_oplog_headroom_seconds",
    "cdc_last_event_age_seconds",
    "cdc_events",
    "cdc_events_filtered",
    "cdc_events_parked",
    "cdc_bytes",
    "cdc_getmore_seconds",
    "cdc_stream_restarts",
    "cdc_gap_declared",
    "cdc_publish_inflight",
    "cdc_confirm_seconds",
    "cdc_nacks",
    "cdc_returns",
    "cdc_republished",
    "cdc_broker_blocked",
    "cdc_checkpoint_age_seconds",
    "cdc_checkpoint_pos_t",
    "cdc_queue_depth",
    "cdc_snapshot_running",
    "cdc_snapshot_rows",
    "cdc_snapshot_remaining_collections",
    "cdc_snapshot_duration_seconds",
    "cdc_leader",
    "cdc_source_behind_seconds",
    "cdc_oplog_headroom_ratio",
]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> CdcMetrics:
    return CdcMetrics(registry, "twin", ("articles", "posts"))


def now_ms() -> int:
    return int(time.time() * 1000)


def busy(metrics: CdcMetrics) -> None:
    """Everything has happened once."""
    metrics.leads(leader=True)
    metrics.read(now_ms() - 5000)
    metrics.turned(in_flight=3, oldest_ms=now_ms() - 5000, connected=True, blocked=False)
    metrics.confirmed("c", "articles", 1000, now_ms() - 400, time.monotonic() - 0.02)
    metrics.filtered()
    metrics.parked("too_large")
    metrics.stream_broke(43)
    metrics.rested()
    metrics.getmore(0.2)
    metrics.gap_declared()
    metrics.checkpoint(Timestamp(1100, 7))
    metrics.nacked()
    metrics.returned()
    metrics.republished(12)
    metrics.snapshot(2)
    metrics.snapshot_rows(500)
    metrics.now.queue_depth = 9
    metrics.now.oplog = OplogWindow(1000, 1200, 0.9)


def test_the_names_are_those_of_the_contract(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """Each metric has its name, and none comes that nobody expects."""
    busy(metrics)
    assert {family.name for family in registry.collect()} == set(NAMES)


def test_alerts_and_manual_name_metrics_that_there_are() -> None:
    """The alert rules name what is collected, and the table in the manual all of it."""
    alerts = (ROOT / ".docker/prometheus/alerts.yml").read_text()
    manual = (ROOT / "INSTALL_AND_USAGE.md").read_text().partition("\n## Metrics and health")[2]
    cells = re.findall(r"^\| (`cdc_.*?) \|", manual.partition("\n## ")[0], re.MULTILINE)
    assert in_contract(re.findall(r"\bcdc_[a-z_]+", alerts)) <= set(NAMES)
    assert in_contract(re.findall(r"\bcdc_[a-z_]+", " ".join(cells))) == set(NAMES)


def in_contract(names: list[str]) -> set[str]:
    """As families are called, without what is no metric but a collection of MongoDB."""
    return {name.removesuffix("_total") for name in names} - {"cdc_parked"}


def test_both_formats_can_be_read_by_prometheus(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """What is collected is valid OpenMetrics, the stricter of the two formats."""
    busy(metrics)
    text = generate_openmetrics(registry).decode()
    assert {family.name for family in text_string_to_metric_families(text)} == set(NAMES)
    assert b"cdc_events_total" in generate_latest(registry)


def test_values_are_those_that_were_counted(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """What happened once is told once, under the collection and reason it belongs to."""
    busy(metrics)
    value = registry.get_sample_value
    assert value("cdc_events_total", {"op": "c", "ns": "twin.articles"}) == 1
    assert value("cdc_events_total", {"op": "d", "ns": "twin.posts"}) == 0
    assert value("cdc_events_parked_total", {"reason": "too_large"}) == 1
    assert value("cdc_stream_restarts_total", {"code": "43"}) == 1
    assert value("cdc_bytes_total") == 1000
    assert value("cdc_republished_total") == 12
    assert value("cdc_snapshot_remaining_collections") == 2
    assert value("cdc_snapshot_rows_total") == 500
    assert value("cdc_queue_depth") == 9
    assert value("cdc_checkpoint_pos_t") == 1100
    assert value("cdc_oplog_headroom_seconds") == 100
    assert value("cdc_oplog_headroom_ratio") == 0.5
    assert value("cdc_source_lag_seconds_count") == 1
    assert value("cdc_source_lag_seconds_sum") == pytest.approx(0.4, abs=0.3)
    assert value("cdc_confirm_seconds_sum") == pytest.approx(0.02, abs=0.3)
    assert value("cdc_source_behind_seconds") == pytest.approx(5, abs=1)


def test_what_is_not_known_is_not_told(metrics: CdcMetrics, registry: CollectorRegistry) -> None:
    """Before the first look there is no headroom and no depth, rather than a zero."""
    names = {family.name for family in registry.collect()}
    assert {"cdc_leader", "cdc_events", "cdc_gap_declared"} <= names
    assert not {"cdc_oplog_headroom_seconds", "cdc_queue_depth", "cdc_checkpoint_pos_t"} & names


def test_lag_is_told_on_the_clock_of_mongodb(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """A MongoDB whose clock is an hour ahead does not make the lag negative, nor zero."""
    metrics.now.skew_s = 3600
    metrics.confirmed("u", "posts", 10, now_ms() + 3_600_000 - 2000, time.monotonic())
    assert registry.get_sample_value("cdc_source_lag_seconds_sum") == pytest.approx(2, abs=1)


def test_documents_read_by_a_snapshot_have_no_lag(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """A read of an old document says nothing of how fast changes travel."""
    metrics.confirmed("r", "articles", 10, 0, time.monotonic())
    metrics.confirmed("m", "control", 10, 0, time.monotonic())
    assert registry.get_sample_value("cdc_source_lag_seconds_count") == 0
    assert registry.get_sample_value("cdc_confirm_seconds_count") == 2


def test_labels_are_bounded(metrics: CdcMetrics, registry: CollectorRegistry) -> None:
    """Names and reasons that come from elsewhere cannot fill Prometheus."""
    for number in range(1000):
        metrics.confirmed("u", f"made_up_{number}", 1, 0, 0.0)
        metrics.parked(f"reason {number}: and the text of an error")
        metrics.stream_broke(number)
    samples = [s for family in registry.collect() for s in family.samples]
    assert len(samples) < 500
    assert registry.get_sample_value("cdc_events_parked_total", {"reason": "reason 1"}) == 1
    told = [s.value for s in samples if s.name == "cdc_events_total"]
    assert sum(told) == 1000


def test_an_event_costs_less_than_two_microseconds(metrics: CdcMetrics) -> None:
    """Counting takes a small part of the hundred microseconds that an event has."""
    wall, sent, best = now_ms(), time.monotonic(), 1.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(10_000):
            metrics.read(wall)
            metrics.confirmed("c", "articles", 1000, wall, sent)
        best = min(best, (time.perf_counter() - begun) / 10_000)
    # Twice the aim, for a machine that is busy with something else.
    assert best < 4e-6


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        (lambda m: m.rested(), 0),
        (lambda m: m.read(now_ms() - 60_000), 60),
        (lambda m: (m.read(now_ms() - 60_000), m.rested()), 0),
        (lambda m: (m.checkpoint(Timestamp(int(time.time()) - 90, 1)), m.mongo_away()), 90),
        (lambda m: m.mongo_away(), None),
    ],
)
def test_how_far_behind_is_known_without_events_too(
    metrics: CdcMetrics, change: Callable[[CdcMetrics], object], seconds: float | None
) -> None:
    """In step is 0; a backlog is as old as what was read last; MongoDB away: as the position."""
    change(metrics)
    behind = metrics.now.behind_s()
    assert behind == (None if seconds is None else pytest.approx(seconds, abs=3))


def test_an_oplog_that_is_not_full_is_no_danger() -> None:
    """Nothing leaves a young oplog, however near its end the position is."""
    now = Vitals(checkpoint_t=1001, oplog=OplogWindow(1000, 1100, 0.1))
    assert now.headroom_ratio() == 1
    now.oplog = OplogWindow(1000, 1100, 0.9)
    assert now.headroom_ratio() == 0.01
    now.oplog = OplogWindow(1000, 1100, None)
    assert now.headroom_ratio() == 0.01


def leading(metrics: CdcMetrics) -> Vitals:
    metrics.leads(leader=True)
    metrics.rested()
    metrics.turned(in_flight=0, oldest_ms=None, connected=True, blocked=False)
    return metrics.now


def test_one_that_leads_and_streams_is_ready(metrics: CdcMetrics) -> None:
    """Both sides within reach, and a turning loop, is all it takes."""
    now = leading(metrics)
    assert set(live(now).values()) == {None}
    assert set(ready(now).values()) == {None}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda m: m.leads(leader=False), "leader", "stands by"),
        (lambda m: m.stream_broke("AutoReconnect"), "mongodb", "not open"),
        (
            lambda m: m.turned(in_flight=1, oldest_ms=0, connected=False, blocked=False),
            "rabbitmq",
            "no connection",
        ),
        (
            lambda m: m.turned(in_flight=1, oldest_ms=0, connected=True, blocked=True),
            "rabbitmq",
            "alarm",
        ),
        (
            lambda m: (
                m.checkpoint(Timestamp(1005, 1)),
                setattr(m.now, "oplog", OplogWindow(1000, 1100, 1.0)),
            ),
            "oplog",
            "5 s from the oplog's end, 5% of its window",
        ),
        (lambda m: setattr(m.now, "turned_at", time.monotonic() - 99), "loop", "for 99 s"),
    ],
)
def test_what_keeps_it_from_being_ready_is_told(
    metrics: CdcMetrics, change: Callable[[CdcMetrics], object], check: str, words: str
) -> None:
    """One thing that is wrong is one sentence; the others stay well."""
    now = leading(metrics)
    change(metrics)
    problems = {name: text for name, text in ready(now).items() if text is not None}
    assert list(problems) == [check]
    assert words in problems[check]


def test_only_a_loop_that_stands_still_is_not_live(metrics: CdcMetrics) -> None:
    """Standing by, and waiting for a service, is life; a stuck loop needs a new start."""
    assert set(live(metrics.now).values()) == {None}
    metrics.now.turned_at = time.monotonic() - 99
    assert "99 s" in str(live(metrics.now)["loop"])
    metrics.alive()
    assert set(live(metrics.now).values()) == {None}


def test_one_that_lost_the_lease_tells_of_no_lag(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """What was true of a leader is not told of a standby, or its lag would seem to grow."""
    busy(metrics)
    metrics.leads(leader=False)
    value = registry.get_sample_value
    gone = ("cdc_source_behind_seconds", "cdc_checkpoint_age_seconds", "cdc_oplog_headroom_ratio")
    assert [value(name) for name in gone] == [None, None, None]
    assert (value("cdc_leader"), value("cdc_publish_inflight")) == (0, 0)
    assert value("cdc_events_total", {"op": "c", "ns": "twin.articles"}) == 1


def test_a_snapshot_has_a_duration_that_stays(
    metrics: CdcMetrics, registry: CollectorRegistry
) -> None:
    """It grows while the snapshot runs, and tells of the last one afterwards."""
    metrics.snapshot(2)
    time.sleep(0.02)
    metrics.snapshot_ended()
    first = registry.get_sample_value("cdc_snapshot_duration_seconds")
    assert registry.get_sample_value("cdc_snapshot_running") == 0
    assert first is not None
    assert first >= 0.02
    assert registry.get_sample_value("cdc_snapshot_duration_seconds") == first
