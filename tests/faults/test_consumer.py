"""The consumer is late, paused, or given what it cannot use. The oracle: Qdrant = f(MongoDB)."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.mq.connection import open_blocking
from core.mq.topology import EXCHANGE, Topology, declare
from local_stack.stack import LocalStack, running_stack
from tests.fault_harness import under_load
from tests.twin_harness import Twin, open_twin, until

pytestmark = [pytest.mark.stack, pytest.mark.model]

_NAMES = {"MONGO_DATABASE_NAME": "twin_faults", "RABBITMQ_QUEUE_NAME": "queue_faults"}
_POISON = b"no event at all"


@pytest.fixture(scope="module")
def running_twin(infra: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A twin whose services run for all tests of this file: the model loads once."""
    folder = tmp_path_factory.mktemp("consumer")
    infra.up()
    with running_stack(folder / "qdrant", services=["qdrant"]) as qdrant:
        port = {"QDRANT_DATABASE_PORT": str(qdrant.ports.qdrant)}
        with open_twin({**infra.environment(), **_NAMES, **port}, folder) as twin:
            twin.cdc.start(ready=False)
            twin.pipeline.start()
            yield twin


@pytest.fixture
def twin(running_twin: Twin) -> Twin:
    """The running twin, with what earlier tests left in step."""
    assert running_twin.report().in_step
    return running_twin


@pytest.mark.fault(22)
def test_a_consumer_that_is_too_late_is_given_it_again(twin: Twin, infra: LocalStack) -> None:
    """The broker takes its channel away; it comes back, and what it had not written comes again."""
    before = _connections(twin)
    with impatient_broker(infra), under_load(twin):
        until(lambda: all(map(int.__gt__, _connections(twin), before)), "both to come back")
        until(lambda: _pause_ends_its_channel(twin), "the broker to lose patience", 90)
        before = _connections(twin)
    until(lambda: all(map(int.__gt__, _connections(twin), before)), "both to come back")
    assert twin.report().in_step


def _pause_ends_its_channel(twin: Twin) -> bool:
    """Stop the pipeline for longer than it may be late; something must be in its hands then."""
    twin.pipeline.signal(signal.SIGSTOP)
    time.sleep(4)
    twin.pipeline.signal(signal.SIGCONT)
    time.sleep(2)
    return "closed the channel" in twin.pipeline.text()


def _connections(twin: Twin) -> list[int]:
    """How often the pipeline and data_cdc have reached the broker."""
    return [one.text().count("broker.connected") for one in (twin.pipeline, twin.cdc)]


@contextmanager
def impatient_broker(infra: LocalStack) -> Iterator[None]:
    """New channels are closed when a delivery waits two seconds for its acknowledgement."""
    infra.rabbitmqctl("eval", "application:set_env(rabbit, consumer_timeout, 2000).")
    infra.rabbitmqctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    infra.rabbitmqctl("close_all_connections", "test")
    try:
        yield
    finally:
        infra.rabbitmqctl("eval", "application:unset_env(rabbit, consumer_timeout).")
        infra.rabbitmqctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
        infra.rabbitmqctl("close_all_connections", "test")


@pytest.mark.fault(24)
def test_a_dead_letter_queue_that_is_gone_keeps_poison_where_it_is(twin: Twin) -> None:
    """What cannot be set aside stays in its queue, and is set aside once there is a place."""
    settings = twin.settings
    topology = Topology(settings.mongo.database, settings.cdc.collections, settings.rabbitmq.queue)
    with open_blocking(settings.rabbitmq, "test") as connection:
        connection.channel().queue_delete(topology.dead_queue)
        retried = twin.pipeline.text().count("write.retried")
        twin.publish(_POISON)
        twin.db.posts.insert_one({"_id": "behind", "content": "Behind the poison."})
        twin.pipeline.says("write.retried", times=retried + 2)
        declare(connection, topology)
    assert twin.report().in_step
    until(lambda: [body for _, body in twin.dead_letters()] == [_POISON], "the dead letter")


@pytest.mark.fault(25)
def test_a_log_that_is_shuffled_and_doubled_changes_nothing(twin: Twin) -> None:
    """Every message again, some twice, in any order: no old state and no deleted document."""
    with recorded(twin) as messages:
        with under_load(twin):
            time.sleep(2)
        assert twin.report().in_step
    again = [*messages, *random.sample(messages, len(messages) // 2)]
    random.shuffle(again)
    for body, headers in again:
        twin.publish(body, headers)
    until(lambda: twin.queue_depth() == 0, "the queue to be empty")
    assert twin.report().in_step


@contextmanager
def recorded(twin: Twin) -> Iterator[list[tuple[bytes, dict[str, Any]]]]:
    """Bodies and headers of all that is published while the block runs."""
    messages: list[tuple[bytes, dict[str, Any]]] = []
    with open_blocking(twin.settings.rabbitmq, "test") as connection:
        channel = connection.channel()
        tap = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(tap, EXCHANGE, f"{twin.db.name}.#")
        yield messages
        while (got := channel.basic_get(tap, auto_ack=True))[0] is not None:
            messages.append((got[2], dict(got[1].headers or {})))


@pytest.mark.fault(29)
def test_a_consumer_that_stands_still_holds_up_nobody(twin: Twin) -> None:
    """The queue grows and data_cdc goes on, without lag; later the consumer catches up."""
    twin.pipeline.signal(signal.SIGSTOP)
    try:
        twin.db.posts.insert_many([{"content": f"Post number {n}."} for n in range(300)])
        with under_load(twin):
            time.sleep(4)
            status = twin.mongo[twin.settings.mongo.state_database].cdc_status.find_one(
                {"_id": "data_cdc"}
            )
        assert status is not None
        assert status["lag_s"] < 3
        assert twin.queue_depth() > 0
    finally:
        twin.pipeline.signal(signal.SIGCONT)
    assert twin.report().in_step
