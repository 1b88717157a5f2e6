"""Connecting to MongoDB: what no retry mends, what one may, and what is left behind."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from core.config import MongoConfig, load_settings
from core.errors import ConfigurationError, ServiceUnavailable
from core.mongo import connect
from tests.twin_harness import until

if TYPE_CHECKING:
    from local_stack.stack import LocalStack


def config(uri: str) -> MongoConfig:
    return replace(load_settings(None).mongo, uri=SecretStr(uri))


def test_a_name_that_does_not_resolve_is_waited_for() -> None:
    """Whether the DNS is away or the name is wrong cannot be told: the sentence names both."""
    with pytest.raises(ServiceUnavailable, match="check MONGO_DATABASE_HOST, unless the DNS"):
        connect(config("mongodb+srv://twin.nowhere.invalid/"), timeout_s=1)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb+srv://127.0.0.1/",
        "mongodb+srv://twin..invalid/",
        "mongodb://localhost/?tls=perhaps",
        "mongodb://localhost/?tls=true&tlsCAFile=/nowhere/ca.pem",
    ],
)
def test_a_malformed_uri_is_not_waited_for(uri: str) -> None:
    """No retry mends a host that cannot be one, an option without sense, a missing file."""
    with pytest.raises(ConfigurationError, match="MONGO_DATABASE_HOST"):
        connect(config(uri), timeout_s=1)


def test_a_client_that_fails_at_its_first_command_leaves_no_thread(infra: LocalStack) -> None:
    """An authentication that lacks a library is found out late, and is nothing to wait for."""
    before = {thread.ident for thread in threading.enumerate()}
    _, _, host = infra.environment()["MONGO_DATABASE_HOST"].rpartition("@")
    address = host.removeprefix("mongodb://").partition("/")[0]
    with pytest.raises(ConfigurationError, match="MONGO_DATABASE_HOST"):
        connect(config(f"mongodb://somebody@{address}/?authMechanism=GSSAPI"))
    until(
        lambda: {thread.ident for thread in threading.enumerate()} <= before,
        "the driver's threads to end",
        15,
    )
