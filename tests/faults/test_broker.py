"""The broker goes away, refuses, blocks, or answers and is not heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core.events import ChangeEvent
from core.mq.topology import EXCHANGE
from local_stack.stack import LocalStack
from tests.cdc_harness import contents, replay
from tests.fault_harness import Rig, repeated
from tests.tcp_proxy import Proxy

# data_cdc has at most so many messages on their way, and so many may come twice after a break.
_WINDOW = 512
_LIMIT = 50


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """A network between data_cdc and the broker."""
    with Proxy(int(rig.environment["RABBITMQ_PORT"])) as proxy:
        yield proxy
        rig.cdc.kill()


@pytest.mark.fault(11)
def test_a_message_that_the_broker_finds_too_large_is_parked(rig: Rig, infra: LocalStack) -> None:
    """With `park` it is set aside with its reason, and those behind it flow."""
    with message_limit(infra, 100_000):
        rig.start(CDC_OVERSIZE_MESSAGES="park")
        rig.database.articles.insert_one({"_id": "large", "content": "x" * 200_000})
        rig.database.articles.insert_one({"_id": "small"})
        received = rig.read()
        rig.cdc.kill()
    parked = rig.state.cdc_parked.find_one()
    assert (parked["key"], parked["reason"]) == ('"large"', "too_large")
    expected = contents(rig.database)
    del expected["articles", '"large"']
    assert replay(received) == expected
    assert rig.cdc.text().count("event.parked") == 1


@pytest.mark.fault(11)
def test_a_message_that_the_broker_finds_too_large_goes_by_reference(
    rig: Rig, infra: LocalStack
) -> None:
    """With `reference` its event names the document, which the consumer reads from MongoDB."""
    with message_limit(infra, 100_000):
        rig.start(CDC_OVERSIZE_MESSAGES="reference")
        with rig.load():
            rig.database.articles.insert_one({"_id": "large", "content": "x" * 200_000})
            time.sleep(0.5)
        received = rig.read()
        rig.cdc.kill()
    (large,) = [one.event for one in received if getattr(one.event, "key", "") == '"large"']
    assert isinstance(large, ChangeEvent)
    assert large.by_reference
    expected = contents(rig.database)
    del expected["articles", '"large"']
    assert replay(received) == expected


@contextmanager
def message_limit(infra: LocalStack, limit: int) -> Iterator[None]:
    """Channels that are opened within the block take no larger message."""
    infra.rabbitmqctl("eval", f"application:set_env(rabbit, max_message_size, {limit}).")
    try:
        yield
    finally:
        infra.rabbitmqctl("eval", "application:unset_env(rabbit, max_message_size).")


@pytest.mark.fault(16)
def test_a_broker_that_dies_under_load_loses_nothing(rig: Rig, infra: LocalStack) -> None:
    """kill -9 of the broker: what it had not confirmed is sent again, in order."""
    rig.start()
    with rig.load():
        time.sleep(3)  # a queue younger than that may lose its leader with the broker, for good
        infra.kill("mq")
        rig.cdc.says("broker.unavailable")
        infra.start("mq")
        rig.cdc.says("broker.connected", times=2)
    assert repeated(rig.converges(most=2)) <= _WINDOW


@pytest.mark.fault(16)
def test_a_leader_of_the_queue_that_moves(rig: Rig) -> None:
    """The replicas of a quorum queue elect another leader, and what was unconfirmed comes again."""
    pytest.skip("a quorum queue with replicas needs three broker nodes; this machine runs one")


@pytest.mark.fault(17)
def test_a_full_queue_holds_the_stream_back(rig: Rig) -> None:
    """Refused messages wait, in order, until a consumer makes room; none is forgotten."""
    rig.limit_queue(_LIMIT)
    rig.start()
    rig.database.articles.insert_many([{"_id": n} for n in range(20 * _LIMIT)])
    rig.cdc.says("it refused a message", times=2)
    assert rig.queue.depth() < 20 * _LIMIT
    received = rig.converges(most=1000, timeout=60)
    assert repeated(received) <= rig.cdc.text().count("it refused a message") * _WINDOW


@pytest.mark.fault(18)
def test_a_binding_that_is_deleted_comes_back(rig: Rig) -> None:
    """A message that no queue takes is returned, said, and sent again once it is bound again."""
    rig.start()
    with rig.load():
        names = rig.topology
        with rig.channel() as channel:
            channel.queue_unbind(names.queue, EXCHANGE, f"{names.db}.articles")
        rig.cdc.says("no queue takes routing key")
    assert repeated(rig.converges(most=2)) <= _WINDOW


@pytest.mark.fault(18)
def test_an_exchange_that_is_deleted_is_a_gap(rig: Rig) -> None:
    """Nobody can tell what its loss took along, so it is declared, and everything read again."""
    rig.start()
    with rig.load():
        with rig.channel() as channel:
            channel.exchange_delete(EXCHANGE)
        rig.cdc.says("cdc.gap_declared")
        rig.cdc.says("snapshot.completed", times=2)
    rig.converges(most=3, gaps=1)


@pytest.mark.fault(19)
def test_a_broker_in_need_of_memory_is_waited_for(rig: Rig, infra: LocalStack) -> None:
    """While it blocks publishers, changes wait; afterwards none is missing and none came twice."""
    rig.start()
    with rig.load():
        with memory_alarm(infra):
            rig.cdc.says("broker.blocked")
            time.sleep(1)
        rig.cdc.says("broker.unblocked")
    assert repeated(rig.converges()) == 0


@pytest.mark.slow
@pytest.mark.fault(19, 30)
def test_a_broker_that_blocks_keeps_nobody_from_ending(rig: Rig, infra: LocalStack) -> None:
    """SIGTERM while nothing can be confirmed ends it in time, and what was left comes later."""
    rig.start()
    with rig.load():
        with memory_alarm(infra):
            rig.cdc.says("broker.blocked")
            assert rig.cdc.end(timeout=15) == 0
            rig.cdc.start()
            time.sleep(1)
        rig.cdc.says("cdc.streaming", times=2)
    assert repeated(rig.converges(most=2)) <= _WINDOW


@contextmanager
def memory_alarm(infra: LocalStack) -> Iterator[None]:
    """The broker believes that it has too little memory within the block."""
    infra.rabbitmqctl("set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        infra.rabbitmqctl("set_vm_memory_high_watermark", "0.4")


@pytest.mark.fault(20)
def test_confirms_that_are_lost_only_repeat(rig: Rig, proxy: Proxy) -> None:
    """What the broker took without our hearing of it is sent once more, under the same ids."""
    rig.start(RABBITMQ_PORT=str(proxy.port))
    with proxy.swallowing():
        rig.database.articles.insert_many([{"_id": n} for n in range(100)])
        rig.queue.fills(99)
    received = rig.converges(most=2)
    assert 100 <= repeated(received) <= _WINDOW


@pytest.mark.slow
@pytest.mark.fault(20)
def test_a_half_open_connection_to_the_broker_is_given_up(rig: Rig, proxy: Proxy) -> None:
    """Without any answer for half a minute it connects anew, and sends again."""
    rig.start(RABBITMQ_PORT=str(proxy.port))
    with rig.load():
        proxy.freeze()
        rig.cdc.says("broker.connected", times=2, timeout=120)
    assert repeated(rig.converges(most=2)) <= _WINDOW
