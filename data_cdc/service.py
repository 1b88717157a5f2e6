"""The service: connects, waits for its turn to lead, captures until told to stop.

Several may run: one leads, the others stand by and take over within seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pymongo
from pymongo.errors import PyMongoError

from core.config import CdcConfig, MongoConfig, RabbitConfig
from core.logging import get_logger
from core.metrics import OperationsServer, new_registry
from core.mongo import Client, connect
from data_cdc.capture import Capture
from data_cdc.context import Context
from data_cdc.errors import LeadershipLost, Stopping
from data_cdc.insistence import Insistence
from data_cdc.keeping.state import StateStore
from data_cdc.leadership.lease import LEASES, Lease
from data_cdc.operations.metrics import CdcMetrics
from data_cdc.operations.vitals import live, ready
from data_cdc.operations.watch import Watch
from data_cdc.preflight import at_start
from data_cdc.source.timing import StreamListener
from data_cdc.transforms import load_chain

_TIMEOUT_S = 3.0
_CONNECTED = "Connection to database with uri: {} successful"  # the course's phrase
_TRY_EVERY_S = 1.0
_BEAT_EVERY_TRIES = 3

log = get_logger()


def serve(
    mongo: MongoConfig, rabbitmq: RabbitConfig, cdc: CdcConfig, stop: threading.Event
) -> None:
    """Run until `stop` is set, or all is done. Raises TerminalError when a person must act."""
    registry = new_registry()
    context = Context(
        mongo=mongo,
        rabbitmq=rabbitmq,
        cdc=cdc,
        chain=load_chain(cdc.transforms, cdc.collections),
        metrics=CdcMetrics(registry, mongo.database, cdc.collections),
        stop=stop,
    )
    now = context.metrics.now
    operations = OperationsServer(
        cdc.http_host, cdc.http_port, registry, live=partial(live, now), ready=partial(ready, now)
    )
    with operations:
        try:
            _run(context)
        except Stopping:
            log.info("cdc.stopped_before_it_led")


def _run(context: Context) -> None:
    listener = StreamListener(context.metrics.getmore)
    client = Insistence(context).on(partial(_connect, context, listener))
    log.info(_CONNECTED.format(context.mongo.address))
    with client, Watch(client, context.rabbitmq, context.metrics.now):
        at_start(client, context.mongo, context.cdc)
        Service(context, client, listener).run()


def _connect(context: Context, listener: StreamListener) -> Client:
    return connect(context.mongo, timeout_s=_TIMEOUT_S, app="data_cdc", listeners=[listener])


class Service:
    """One process among those that may lead."""

    def __init__(self, context: Context, client: Client, listener: StreamListener) -> None:
        self._context = context
        self._client = client
        self._listener = listener
        self._state = client[context.mongo.state_database]
        self._insistence = Insistence(context)
        self._store = StateStore(self._state)

    def run(self) -> None:
        """Lead, stand by, lead again, until done. Raises Stopping when told to stop before."""
        while not self._lead():
            pass

    def _lead(self) -> bool:
        """Wait for the lease, then capture. Whether that ended well, not with another leading."""
        lease = Lease(self._state[LEASES])
        try:
            self._await(lease)
            log.info("cdc.leading", epoch=lease.epoch)
            self._context.metrics.leads(leader=True)
            Capture(self._context, self._client, self._listener, lease).run()
        except LeadershipLost:
            log.warning("cdc.leadership_lost", epoch=lease.epoch)
            return False
        finally:
            self._context.metrics.leads(leader=False)
            lease.release()
        return True

    def _await(self, lease: Lease) -> None:
        """Return once we lead. Raises Stopping."""
        tries = 0
        try:
            while not self._insistence.on(lease.acquire):
                if tries == 0:
                    log.info("cdc.standing_by")
                if tries % _BEAT_EVERY_TRIES == 0:
                    self._stand_by(self._store.beat_as_standby)
                tries += 1
                self._context.stop.wait(_TRY_EVERY_S)
        finally:
            if tries:
                self._stand_by(self._store.stand_by_no_more)

    def _stand_by(self, tell: Callable[[], None]) -> None:
        """What others are told must not keep us from taking over."""
        try:
            with pymongo.timeout(_TIMEOUT_S):
                tell()
        except PyMongoError as error:
            log.debug("standby.not_told", reason=type(error).__name__)
