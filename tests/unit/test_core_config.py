"""Configuration: one clear error that names the variable, and no secret in sight."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.config import CAPTURABLE, MongoConfig, load_settings
from core.errors import ConfigurationError
from core.mongo import client_of


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("MONGO", "RABBITMQ", "QDRANT", "EMBEDDING", "CDC", "FEATURE", "CRAWLER", "LOG"):
        for name in [name for name in os.environ if name.startswith(prefix)]:
            monkeypatch.delenv(name)


def test_the_defaults_suit_services_on_this_machine() -> None:
    """Nothing set means the ports of the local stack."""
    settings = load_settings(None)
    assert "localhost:30001" in settings.mongo.address
    assert settings.rabbitmq.address == "localhost:5673"
    assert settings.qdrant.url == "http://localhost:6333"
    assert settings.cdc.collections == CAPTURABLE


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RABBITMQ_PORT", "abc"),
        ("RABBITMQ_PORT", "0"),
        ("QDRANT_DATABASE_PORT", "70000"),
        ("MONGO_DATABASE_HOST", "localhost:27017"),
        ("MONGO_DATABASE_NAME", "a.b"),
        ("MONGO_DATABASE_NAME", "é" * 29),
        ("MONGO_DATABASE_NAME", "admin"),
        ("RABBITMQ_HOST", "amqp://localhost"),
        ("RABBITMQ_QUEUE_NAME", "x" * 251),
        ("RABBITMQ_QUEUE_NAME", "amq.twin"),
        ("QDRANT_DATABASE_HOST", "http://localhost"),
        ("QDRANT_DATABASE_HOST", "localhost:6333"),
        ("QDRANT_CLOUD_URL", "cluster.example"),
        ("QDRANT_CLOUD_URL", "https://cluster.example:port"),
        ("CDC_COLLECTIONS", "articles,nonsense"),
        ("CDC_SNAPSHOT_MODE", "sometimes"),
        ("CDC_TRANSFORMS", "flatten"),
        ("CDC_TRANSFORMS", "[{'type': 'flatten'}]"),
        ("CDC_TRANSFORMS", "[" * 100_000),
        ("CDC_TRANSFORMS", '{"type": "flatten"}'),
        ("CDC_TRANSFORMS", '["flatten"]'),
        ("EMBEDDING_SIZE", "many"),
        ("USE_QDRANT_CLOUD", "perhaps"),
        ("FEATURE_WORKERS", "0"),
        ("FEATURE_PARTITIONS", "2"),
        ("CRAWLER_PROXY", "not a url"),
        ("CRAWLER_CA_FILE", "/no/such/file.pem"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Each bad value is one error that begins with the variable's name."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"^{variable}: ") as caught:
        load_settings(None)
    assert caught.value.exit_status == 2


def test_the_cloud_needs_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """USE_QDRANT_CLOUD without QDRANT_CLOUD_URL names the missing one."""
    monkeypatch.setenv("USE_QDRANT_CLOUD", "true")
    with pytest.raises(ConfigurationError, match=r"^QDRANT_CLOUD_URL: "):
        load_settings(None)


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CRAWLER_PROXY=` in a compose file is no proxy."""
    monkeypatch.setenv("CRAWLER_PROXY", "")
    assert load_settings(None).crawlers.proxy is None


def test_transforms_are_a_json_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the environment and, without quotes around it, in .env."""
    expected = [{"type": "filter", "expression": "document.state == 'public'"}, {"type": "flatten"}]
    file = tmp_path / ".env"
    file.write_text(f"CDC_TRANSFORMS={json.dumps(expected)}\n")
    assert list(load_settings(file).cdc.transforms) == expected
    monkeypatch.setenv("CDC_TRANSFORMS", json.dumps(expected[1:]))
    assert list(load_settings(file).cdc.transforms) == expected[1:]


def test_the_environment_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """.env is read, and the process environment overrides it."""
    file = tmp_path / ".env"
    file.write_text("RABBITMQ_PORT=1111\nRABBITMQ_QUEUE_NAME=from-file\n")
    monkeypatch.setenv("RABBITMQ_PORT", "2222")
    settings = load_settings(file)
    assert (settings.rabbitmq.port, settings.rabbitmq.queue) == (2222, "from-file")


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings nor an error about them show passwords and keys."""
    monkeypatch.setenv("RABBITMQ_DEFAULT_PASSWORD", "s3cret-rabbit")
    monkeypatch.setenv("QDRANT_APIKEY", "s3cret-qdrant")
    monkeypatch.setenv("MONGO_DATABASE_HOST", "mongodb://me:s3cret-mongo@db.example:27017")
    monkeypatch.setenv("CDC_TRANSFORMS", '[{"type": "mask", "salt": "s3cret-salt"}]')
    settings = load_settings(None)
    assert "s3cret" not in repr(settings)
    assert settings.mongo.address == "mongodb://db.example:27017"
    monkeypatch.setenv("MONGO_DATABASE_HOST", "mongodb://db/?tlsCertificateKeyFilePassword=s3cret")
    assert "s3cret" not in load_settings(None).mongo.address
    monkeypatch.setenv("MONGO_DATABASE_HOST", "mysql://me:s3cret-mongo@db.example")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["tls=maybe", "nosuch=1", "tlsCAFile=/no/such/file.pem"])
def test_an_option_of_the_uri_that_mongodb_s_driver_refuses_is_named(option: str) -> None:
    """Not a warning: a client would go on without what the option asked for."""
    config = MongoConfig(uri=SecretStr(f"mongodb://db.example/?{option}"), database="twin")
    with pytest.raises(ConfigurationError, match=r"^MONGO_DATABASE_HOST: "):
        client_of(config, timeout_s=1, app="test")


def test_levels_may_be_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL=INFO is what everybody writes."""
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    assert load_settings(None).log.level == "info"
