"""Setting messages aside on a real broker."""

from __future__ import annotations

import pytest

from core.errors import MalformedEvent, TransientError
from core.mq.connection import open_blocking
from core.mq.consumer import Delivery
from core.mq.dead_letters import DeadLetters
from core.mq.topology import Topology, declare
from local_stack.stack import LocalStack
from tests.twin_harness import settings_of, until

pytestmark = pytest.mark.stack


def _delivery(body: bytes) -> Delivery:
    return Delivery(
        body=body, headers={}, routing_key="default", message_id="m", generation=1, tag=1
    )


@pytest.mark.fault(19)
def test_a_broker_that_blocks_publishers_loses_no_dead_letter(
    infra: LocalStack, twin_env: dict[str, str]
) -> None:
    """Under a memory alarm setting aside fails, to be tried again; it never only seems done."""
    rabbitmq = settings_of(twin_env).rabbitmq
    topology = Topology(twin_env["MONGO_DATABASE_NAME"], ("posts",), rabbitmq.queue)
    with open_blocking(rabbitmq, "test") as connection:
        declare(connection, topology)
    letters = DeadLetters(rabbitmq, topology.dead_queue, timeout_s=1)
    error = MalformedEvent("no event")
    try:
        letters.put(_delivery(b"before"), error)
        infra.rabbitmqctl("set_vm_memory_high_watermark", "0.0001")
        try:
            until(lambda: _refused(letters, error), "the alarm")
            with pytest.raises(TransientError):
                letters.put(_delivery(b"during"), error)
        finally:
            infra.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        until(lambda: not _refused(letters, error), "the alarm to end")
        letters.put(_delivery(b"after"), error)
    finally:
        letters.close()
    with open_blocking(rabbitmq, "test") as connection:
        channel = connection.channel()
        bodies = set()
        while (got := channel.basic_get(topology.dead_queue, auto_ack=True))[0] is not None:
            bodies.add(got[2])
    assert {b"before", b"after"} <= bodies


def _refused(letters: DeadLetters, error: MalformedEvent) -> bool:
    try:
        letters.put(_delivery(b"probe"), error)
    except TransientError:
        return True
    return False
