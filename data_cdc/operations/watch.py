"""What the stream does not tell, looked at every ten seconds from a thread of its own.

The loop may be held up for hours by a full queue, and that is when the oplog's end
comes near.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from time import time
from types import TracebackType
from typing import Self

import pymongo
from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from pymongo.errors import PyMongoError

from core.config import RabbitConfig
from core.errors import TwinError
from core.logging import get_logger
from core.mongo import Client
from core.mq.connection import open_blocking
from core.mq.topology import queue_depth
from data_cdc.operations.oplog import oplog_use, oplog_window
from data_cdc.operations.vitals import OplogWindow, Vitals

_EVERY_S = 10.0
_TIMEOUT_S = 3.0
_CLOSE_S = 1.0

log = get_logger()


class Watch:
    """Keeps `now` informed of the oplog's window, MongoDB's clock and the queue's depth.

    Open it with `with`; `close` is idempotent. What cannot be had is left as it was, except
    for the depth, which is then unknown. `client` may be closed meanwhile.
    """

    def __init__(self, client: Client, rabbitmq: RabbitConfig, now: Vitals) -> None:
        self._client = client
        self._rabbitmq = rabbitmq
        self._now = now
        self._closing = threading.Event()
        self._connection: BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._thread = threading.Thread(target=self._run, name="cdc-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End, without waiting long for a call that hangs."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            self._look_at_mongo()
            self._look_at_queue()
            if self._closing.wait(_EVERY_S):
                break
        self._disconnect()

    def _look_at_mongo(self) -> None:
        try:
            with pymongo.timeout(_TIMEOUT_S):
                self._now.skew_s = clock_skew(self._client)
                self._now.oplog = look_at_oplog(self._client) or self._now.oplog
        except PyMongoError as error:
            log.debug("watch.mongo_silent", reason=str(error)[:200])

    def _look_at_queue(self) -> None:
        try:
            if self._channel is None:
                self._connection = open_blocking(self._rabbitmq, "llm-twin-data-cdc-watch")
                self._channel = self._connection.channel()
            self._now.queue_depth = queue_depth(self._channel, self._rabbitmq.queue)
        except (AMQPError, OSError, TwinError) as error:
            log.debug("watch.broker_silent", reason=str(error)[:200])
            self._now.queue_depth = None
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        try:
            connection.close()
        except (AMQPError, OSError) as error:
            log.debug("watch.close_failed", reason=type(error).__name__)


def look_at_oplog(client: Client) -> OplogWindow | None:
    """The oplog's window and fill, or None where MongoDB does not tell. Raises pymongo's errors."""
    window = oplog_window(client)
    if window is None:
        return None
    use = oplog_use(client)
    return OplogWindow(window[0].time, window[1].time, use[0] / use[1] if use else None)


def clock_skew(client: Client) -> float:
    """Seconds that MongoDB's clock is ahead of ours, to within half the time the call takes."""
    before = time()
    told: datetime = client.admin.command("hello")["localTime"]
    middle = (before + time()) / 2
    aware = told if told.tzinfo else told.replace(tzinfo=UTC)
    return aware.timestamp() - middle
