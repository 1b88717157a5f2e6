"""What preflight makes of what MongoDB and RabbitMQ tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from core.config import CdcConfig, load_settings
from core.errors import ConfigurationError
from core.mq.topology import Topology
from data_cdc.preflight.broker import server
from data_cdc.preflight.findings import Finding, error
from data_cdc.preflight.mongo import images, oplog, strangers
from data_cdc.preflight.report import log_findings

HOUR = 3600
MAX = 1_000_000
TOPOLOGY = Topology("twin", ("articles",), "default")


@pytest.fixture
def cdc() -> CdcConfig:
    return replace(load_settings(None).cdc, pre_images=False, oversize_messages="reference")


def collection(
    name: str, *, keeps: bool = False, kind: str = "collection", capped: bool = False
) -> Mapping[str, Any]:
    images = {"changeStreamPreAndPostImages": {"enabled": keeps}}
    return {"name": name, "type": kind, "options": {**images, "capped": capped}}


@pytest.mark.parametrize(
    ("seconds", "used", "retention", "level", "words"),
    [
        (30 * HOUR, 990_000, 0, "ok", "is full and reaches back 30 h"),
        (3 * HOUR, 990_000, 0, "warning", "is full and reaches back 3.0 h"),
        # A full oplog's oldest entries go in stretches.
        (3 * HOUR, 850_000, 0, "warning", "is full"),
        (3 * HOUR, 50_000, 0, "ok", "5% full after 3.0 h and will reach back 60 h"),
        (3 * HOUR, 500_000, 0, "warning", "50% full after 3.0 h and will reach back 6.0 h"),
        (3 * HOUR, 500_000, 48, "ok", "will reach back 48 h"),
        (120, 500_000, 0, "info", "2 min old and 50% full: too young to tell"),
        (120, 990_000, 0, "warning", "is full and reaches back 2 min"),
    ],
)
def test_the_oplogs_window_is_an_honest_estimate(
    seconds: int, used: int, retention: float, level: str, words: str
) -> None:
    """A full oplog reaches as far back as it does; a young one as far as its rate tells."""
    found = oplog(seconds, (used, MAX), retention)
    assert (found.check, found.level) == ("oplog", level)
    assert words in found.sentence
    assert ("replSetResizeOplog" in found.sentence) == (level == "warning")


def test_an_oplog_of_unknown_size_is_no_warning() -> None:
    """Without the right to ask, a short window may be a young one."""
    found = oplog(HOUR, None, 0)
    assert found.level == "info"
    assert "not told to this user" in found.sentence


def test_missing_pre_images_are_a_warning_that_tells_the_command(cdc: CdcConfig) -> None:
    """CDC_PRE_IMAGES on a collection without images names it, and how to enable them."""
    listed = {"posts": collection("posts", keeps=True), "articles": collection("articles")}
    (found,) = images(replace(cdc, pre_images=True), listed, can=True)
    assert found.level == "warning"
    assert "articles keep no images" in found.sentence
    assert 'collMod: "articles", changeStreamPreAndPostImages: {enabled: true}' in found.sentence


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"posts": collection("posts", keeps=True)}, "posts keep images"),
        ({"posts": collection("posts")}, "as it is when it is looked up"),
        ({}, "as it is when it is looked up"),
    ],
)
def test_images_are_information_where_nobody_asked_for_them(
    cdc: CdcConfig, listed: Mapping[str, Mapping[str, Any]], words: str
) -> None:
    """Which collections keep images, or what an update carries without."""
    (found,) = images(cdc, listed, can=True)
    assert found.level == "info"
    assert words in found.sentence


def test_an_old_mongodb_has_no_pre_images(cdc: CdcConfig) -> None:
    """Before 6.0 the setting has no effect, and that is said."""
    found = images(replace(cdc, pre_images=True), {}, can=False)
    assert [finding.level for finding in found] == ["warning"]


@pytest.mark.parametrize(
    ("kind", "capped", "words"),
    [
        ("view", False, "posts: a view or a time series has no change stream"),
        ("timeseries", False, "posts: a view or a time series has no change stream"),
        ("collection", True, "posts: a capped collection cannot be read"),
    ],
)
def test_what_cannot_be_captured_is_an_error(kind: str, capped: bool, words: str) -> None:
    """A view never changes for a stream, and a capped collection cannot be read at one time."""
    listed = {
        "posts": collection("posts", kind=kind, capped=capped),
        "articles": collection("articles"),
    }
    (found,) = strangers(listed)
    assert (found.check, found.level) == ("collections", "error")
    assert words in found.sentence
    assert "CDC_COLLECTIONS" in found.sentence


@pytest.mark.parametrize(
    ("product", "version", "levels", "words"),
    [
        ("RabbitMQ", "3.7.28", ["error"], "no quorum queues"),
        ("RabbitMQ", "3.9.1", ["warning", "info"], "older than 3.10"),
        ("RabbitMQ", "3.10.8", ["ok", "info"], "up to 128 MiB"),
        ("RabbitMQ", "4.2.9", ["ok", "info"], "up to 16 MiB"),
        ("RabbitMQ", "4.3.0-rc.1", ["ok", "info"], "up to 16 MiB"),
        ("LavinMQ", "2.0.0", ["info"], "not RabbitMQ"),
    ],
)
def test_the_brokers_version_tells_what_it_can(
    cdc: CdcConfig, product: str, version: str, levels: list[str], words: str
) -> None:
    """Too old is an error; its limit on messages comes with what becomes of larger ones."""
    found = list(server(product, version, TOPOLOGY, cdc))
    assert [finding.level for finding in found] == levels
    assert words in " ".join(finding.sentence for finding in found)


@pytest.mark.parametrize(
    ("treatment", "words"),
    [("reference", "without its document"), ("park", "set aside in twin_state.cdc_parked")],
)
def test_the_fate_of_large_messages_is_told(cdc: CdcConfig, treatment: Any, words: str) -> None:
    """What CDC_OVERSIZE_MESSAGES means, in words."""
    *_, limit = server("RabbitMQ", "4.0.1", TOPOLOGY, replace(cdc, oversize_messages=treatment))
    assert words in limit.sentence


def test_problems_are_warnings_in_the_log_and_the_rest_is_one_line() -> None:
    """A start in order costs one line."""
    with capture_logs() as lines:
        log_findings("MongoDB", [Finding("a", "ok", "fine"), Finding("b", "warning", "hm")])
    assert [(line["log_level"], line.get("check")) for line in lines] == [
        ("warning", "b"),
        ("info", None),
    ]
    assert lines[1]["found"] == {"a": "fine"}


def test_an_error_ends_the_service_with_its_own_sentence() -> None:
    """What no waiting mends is raised, after all findings are in the log."""
    cause = ConfigurationError("MONGO_DATABASE_HOST", "this is no replica set")
    with capture_logs() as lines, pytest.raises(ConfigurationError, match="no replica set"):
        log_findings("MongoDB", [error("deployment", cause), Finding("b", "warning", "hm")])
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info"]
