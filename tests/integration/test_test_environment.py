"""The fixtures that other integration tests stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from local_stack.service import http_problem

if TYPE_CHECKING:
    import pytest

    from local_stack.stack import LocalStack


def test_each_test_has_its_own_names(twin_env: dict[str, str], names: dict[str, str]) -> None:
    """The environment of a test carries its own database, queue and Qdrant, which answers."""
    assert twin_env["MONGO_DATABASE_NAME"] == names["MONGO_DATABASE_NAME"]
    assert twin_env["RABBITMQ_QUEUE_NAME"] == names["RABBITMQ_QUEUE_NAME"]
    assert http_problem(int(twin_env["QDRANT_DATABASE_PORT"]), "/readyz") is None


def test_a_fresh_qdrant_is_not_the_shared_one(infra: LocalStack, twin_env: dict[str, str]) -> None:
    """A test's Qdrant is another process than the one that the run shares."""
    assert twin_env["QDRANT_DATABASE_PORT"] != str(infra.ports.qdrant)


def test_what_needs_services_is_marked(infra: LocalStack, request: pytest.FixtureRequest) -> None:
    """A test that uses the shared services is left out by `-m "not stack"`."""
    assert request.node.get_closest_marker("stack") is not None


def test_the_shared_mongodb_takes_fail_points(infra: LocalStack) -> None:
    """Fault tests may use failCommand on the replica set that the run shares."""
    with MongoClient[dict[str, Any]](infra.environment()["MONGO_DATABASE_HOST"]) as client:
        assert client.admin.command("configureFailPoint", "failCommand", mode="off")["ok"]
