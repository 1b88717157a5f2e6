"""The publisher's connection, on a real broker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from pika.exceptions import AMQPError

from core.config import RabbitConfig
from core.errors import ServiceUnavailable
from core.mq.connection import explain, open_briefly
from core.mq.publisher import Publisher
from core.mq.topology import Topology, declare
from local_stack.process import members
from tests.twin_harness import settings_of, until

if TYPE_CHECKING:
    from local_stack.stack import LocalStack


@contextmanager
def paused(infra: LocalStack) -> Iterator[None]:
    """The broker's sockets stay open, and nobody answers."""
    record = infra.layout.record("mq")
    assert record is not None
    pids = members(record.identity)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_an_exclusive_queue_is_given_back_though_the_broker_does_not_answer(
    infra: LocalStack, twin_env: Mapping[str, str], names: Mapping[str, str]
) -> None:
    """Closing ends the connection within seconds in any case, so that the next one may have it."""
    config, queue = settings_of(twin_env).rabbitmq, f"{names['MONGO_DATABASE_NAME']}.held"
    publisher = Publisher(config, exclusive_queue=queue).__enter__()
    with paused(infra):
        begun = time.monotonic()
        publisher.close()
        assert time.monotonic() - begun < 15
        assert not publisher._thread.is_alive()
    until(lambda: opens(config, queue), "the broker to see that the connection is gone", 20)


def test_a_blocking_call_gives_up_on_a_broker_that_does_not_answer(
    infra: LocalStack, twin_env: Mapping[str, str], names: Mapping[str, str]
) -> None:
    """A declaration over an open connection ends within seconds, not with the heartbeat's."""
    config = settings_of(twin_env).rabbitmq
    topology = Topology(names["MONGO_DATABASE_NAME"], ("posts",), config.queue)
    connection = open_briefly(config, "test")
    with paused(infra):
        begun = time.monotonic()
        with pytest.raises(AMQPError) as caught:
            declare(connection, topology)
        assert time.monotonic() - begun < 20
        assert "not done within" in str(explain(caught.value, config))
        assert connection.is_closed
        with pytest.raises(ServiceUnavailable):
            open_briefly(config, "test")
        assert time.monotonic() - begun < 40
    with open_briefly(config, "test") as another:
        declare(another, topology)


def opens(config: RabbitConfig, queue: str) -> bool:
    try:
        with Publisher(config, exclusive_queue=queue):
            return True
    except ServiceUnavailable:
        return False
