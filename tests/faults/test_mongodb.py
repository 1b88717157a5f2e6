"""MongoDB goes away, answers with errors, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from core.events import ChangeEvent
from local_stack.mongo import MEMBERS
from local_stack.stack import LocalStack
from tests.cdc_harness import replay
from tests.fault_harness import Rig, repeated
from tests.tcp_proxy import Proxy
from tests.twin_harness import until

# What a server that shuts down, steps down, loses a cursor or is plainly confused answers.
_CODES = (11600, 91, 43, 189, 6, 237, 50, 8000)
OFTEN = "heartbeatFrequencyMS=500"


def impatient(rig: Rig) -> dict[str, str]:
    """A driver that looks often whether a server is well again that said it was not.

    A server that really steps down tells the driver at once when that is over; one
    that a failpoint makes say so leaves it to the next look, after ten seconds.
    """
    return {"MONGO_DATABASE_HOST": f"{rig.environment['MONGO_DATABASE_HOST']}&{OFTEN}"}


@pytest.mark.fault(3)
def test_a_primary_that_dies_loses_nothing(rig: Rig, infra: LocalStack) -> None:
    """kill -9 of the primary under load: the stream goes on with the next one where it was."""
    rig.start()
    with rig.load():
        until(lambda: rig.database.posts.count_documents({}) > 5, "some documents")
        rig.client.admin.command("ping")
        dead = rig.client.primary
        assert dead is not None
        member = next(name for name in MEMBERS if getattr(infra.ports, name) == dead[1])
        infra.kill(member)
        until(lambda: rig.client.primary not in (None, dead), "another primary", 60)
        time.sleep(0.5)
    rig.converges()


@pytest.mark.fault(4)
def test_an_error_once_is_nothing(rig: Rig) -> None:
    """Whatever a getMore fails with, the next event is the one that would have come."""
    rig.start(**impatient(rig))
    with rig.load():
        for code in _CODES:
            with rig.failing("getMore", errorCode=code, times=1) as hit:
                hit(1)
        with rig.failing("getMore", closeConnection=True, times=1) as hit:
            hit(1)
    assert repeated(rig.converges()) == 0


@pytest.mark.fault(4)
@pytest.mark.parametrize("code", [11600, 8000])
def test_errors_again_and_again_are_waited_for(rig: Rig, code: int) -> None:
    """As long as neither reading nor opening works it tries, slower and slower, and says so."""
    rig.start(**impatient(rig))
    with rig.load():
        with rig.failing("getMore", "aggregate", errorCode=code, times=6) as hit:
            hit(6)
        rig.cdc.says("stream.interrupted")
    assert repeated(rig.converges()) == 0


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """A network between data_cdc and the present primary."""
    rig.client.admin.command("ping")
    assert rig.client.primary is not None
    with Proxy(rig.client.primary[1]) as proxy:
        yield proxy
        rig.cdc.kill()


def through(proxy: Proxy) -> dict[str, str]:
    """The setting that leads data_cdc through `proxy`, and nowhere else."""
    address = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&{OFTEN}"
    return {"MONGO_DATABASE_HOST": address}


@pytest.mark.fault(5)
def test_a_network_that_is_cut_slow_and_gone_loses_nothing(rig: Rig, proxy: Proxy) -> None:
    """After cut connections, long ways and a while without any network the stream goes on."""
    rig.start(**through(proxy))
    with rig.load():
        for _ in range(3):
            time.sleep(0.4)
            proxy.cut()
        proxy.delay_s = 0.02
        time.sleep(0.5)
        with proxy.refusing():
            rig.cdc.says('"waiting_for": "MongoDB"')
        proxy.delay_s = 0.0
    assert repeated(rig.converges()) == 0


@pytest.mark.fault(5)
def test_a_half_open_network_is_noticed(rig: Rig, proxy: Proxy) -> None:
    """Connections on which nothing moves any more are given up for new ones."""
    rig.start(**through(proxy))
    with rig.load():
        time.sleep(0.5)
        proxy.freeze()
        time.sleep(2)
    received = rig.converges(timeout=60)
    assert repeated(received) == 0


@pytest.mark.fault(13)
def test_a_transaction_tells_each_of_its_writes(rig: Rig) -> None:
    """Three writes of one document are three events of one time, in order of their places."""
    rig.start()
    articles = rig.database.articles
    articles.insert_one({"_id": "other"})
    with rig.client.start_session() as session, session.start_transaction():
        articles.insert_one({"_id": "thrice", "n": 1}, session=session)
        articles.update_one({"_id": "thrice"}, {"$set": {"n": 2}}, session=session)
        articles.delete_one({"_id": "other"}, session=session)
        articles.replace_one({"_id": "thrice"}, {"n": 3}, session=session)
    received = rig.converges()
    versions = [
        one.event.version
        for one in received
        if isinstance(one.event, ChangeEvent) and one.event.key == '"thrice"'
    ]
    assert len(versions) == 3
    assert len({version.number for version in versions if version}) == 1
    assert len({version.pos for version in versions if version}) == 3
    assert replay(received)[("articles", '"thrice"')]["n"] == 3
