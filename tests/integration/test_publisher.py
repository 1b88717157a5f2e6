"""The publisher's connection, on a real broker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.config import RabbitConfig
from core.errors import ServiceUnavailable
from core.mq.publisher import Publisher
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


def test_a_lock_is_given_back_though_the_broker_does_not_answer(
    infra: LocalStack, twin_env: Mapping[str, str], names: Mapping[str, str]
) -> None:
    """Closing ends the connection within seconds in any case, so that the next one may have it."""
    config, lock = settings_of(twin_env).rabbitmq, f"{names['MONGO_DATABASE_NAME']}.lock"
    publisher = Publisher(config, lock=lock).__enter__()
    with paused(infra):
        begun = time.monotonic()
        publisher.close()
        assert time.monotonic() - begun < 15
        assert not publisher._thread.is_alive()
    until(lambda: opens(config, lock), "the broker to see that the connection is gone", 20)


def opens(config: RabbitConfig, lock: str) -> bool:
    try:
        with Publisher(config, lock=lock):
            return True
    except ServiceUnavailable:
        return False
