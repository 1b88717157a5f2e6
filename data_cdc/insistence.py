"""Calls to MongoDB that are made again until they work, while everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pymongo.errors import PyMongoError

from core.errors import ConfigurationError, ServiceUnavailable
from core.logging import get_logger
from core.mongo import explain
from core.retry import Backoff
from data_cdc.context import Context
from data_cdc.errors import Stopping
from data_cdc.source.chunks import ReadTooEarly

_LONGEST_WAIT_S = 5.0

T = TypeVar("T")
Wait = Callable[[float], object]

log = get_logger()


class Insistence:
    """Waits for MongoDB. `wait` is what is done meanwhile, for so many seconds."""

    def __init__(self, context: Context) -> None:
        self._config = context.mongo
        self._metrics = context.metrics
        self._stop = context.stop

    def on(self, call: Callable[[], T], wait: Wait | None = None) -> T:
        """What `call` returns, however often it must be tried.

        Raises Stopping, ConfigurationError for what no waiting mends, and what `wait` raises.
        """
        wait, backoff = wait or self._stop.wait, Backoff(longest=_LONGEST_WAIT_S)
        while True:
            if self._stop.is_set():
                raise Stopping
            self._metrics.alive()
            try:
                return call()
            except ReadTooEarly as error:
                log.debug("snapshot.too_early", reason=str(error))
                wait(backoff.next_delay())
            except (PyMongoError, ServiceUnavailable) as error:
                delay = backoff.next_delay()
                self._warn(error, delay)
                wait(delay)

    def _warn(self, error: PyMongoError | ServiceUnavailable, delay: float) -> None:
        told = error if isinstance(error, ServiceUnavailable) else explain(error, self._config)
        if isinstance(told, ConfigurationError):
            raise told from error
        self._metrics.mongo_away()
        log.warning(
            "mongo.unavailable",
            waiting_for="MongoDB",
            reason=str(told),
            retry_in_s=round(delay, 1),
        )
