"""The service: connects, waits for its turn to lead, captures until told to stop.

Several may run: one leads, the others stand by and take over within seconds.
"""

from __future__ import annotations

import threading
from functools import partial

from pymongo.errors import PyMongoError

from core.config import CdcConfig, MongoConfig, RabbitConfig
from core.logging import get_logger
from core.mongo import Client, connect
from data_cdc.capture import Capture
from data_cdc.errors import LeadershipLost, Stopping
from data_cdc.insistence import Insistence
from data_cdc.lease import LEASES, Lease, owner_name
from data_cdc.state import StateStore

_TIMEOUT_S = 3.0
_CONNECTED = "Connection to database with uri: {} successful"  # the course's phrase
_TRY_EVERY_S = 1.0
_BEAT_EVERY_TRIES = 3

log = get_logger()


def serve(
    mongo: MongoConfig, rabbitmq: RabbitConfig, cdc: CdcConfig, stop: threading.Event
) -> None:
    """Run until `stop` is set, or all is done. Raises TerminalError when a person must act."""
    try:
        client = Insistence(mongo, stop).on(
            partial(connect, mongo, timeout_s=_TIMEOUT_S, app="data_cdc")
        )
    except Stopping:
        return
    log.info(_CONNECTED.format(mongo.address))
    with client:
        Service(client, mongo, rabbitmq, cdc, stop).run()


class Service:
    """One process among those that may lead."""

    def __init__(
        self,
        client: Client,
        mongo: MongoConfig,
        rabbitmq: RabbitConfig,
        cdc: CdcConfig,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._mongo = mongo
        self._rabbitmq = rabbitmq
        self._cdc = cdc
        self._stop = stop
        self._insistence = Insistence(mongo, stop)
        self._store = StateStore(client[mongo.state_database])

    def run(self) -> None:
        """Lead, stand by, lead again, until told to stop or done."""
        done = False
        while not done:
            lease = Lease(self._client[self._mongo.state_database][LEASES], owner_name())
            try:
                self._await(lease)
                self._capture(lease)
                done = True
            except Stopping:
                done = True
            except LeadershipLost:
                log.warning("cdc.leadership_lost", epoch=lease.epoch)
            finally:
                lease.release()

    def _capture(self, lease: Lease) -> None:
        log.info("cdc.leading", epoch=lease.epoch)
        Capture(self._client, self._mongo, self._rabbitmq, self._cdc, lease, self._stop).run()

    def _await(self, lease: Lease) -> None:
        """Return once we lead. Raises Stopping."""
        tries = 0
        try:
            while not self._insistence.on(lease.acquire):
                if tries == 0:
                    log.info("cdc.standing_by")
                if tries % _BEAT_EVERY_TRIES == 0:
                    self._insistence.on(self._store.beat_as_standby)
                tries += 1
                self._stop.wait(_TRY_EVERY_S)
        finally:
            if tries:
                self._leave_standby()

    def _leave_standby(self) -> None:
        try:
            self._store.stand_by_no_more()
        except PyMongoError as error:
            log.debug("standby.not_removed", reason=type(error).__name__)
