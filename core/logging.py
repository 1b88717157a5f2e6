"""Logs are events: a noun, and key-value pairs bound from context.

Containers get one JSON object a line on standard output; a terminal gets
readable text. Content and secrets are never logged.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from core.config import LogConfig

# Libraries whose own lines say nothing that ours do not say better.
_QUIET = (
    "httpx",
    "httpcore",
    "sentence_transformers",
    "selenium",
    "urllib3",
    "trafilatura",
)


def configure_logging(service: str, config: LogConfig, stream: TextIO = sys.stdout) -> None:
    """Set up structlog and the standard library's logging for this process.

    Call once, at the start of a `__main__`. Every line carries `service`.
    """
    as_json = config.format == "json" or (config.format == "auto" and not stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _naming(service),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    )
    level = logging.getLevelNamesMapping()[config.level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _route_standard_library(stream, shared, renderer)


def _naming(service: str) -> Processor:
    """Context variables would not do: a new thread begins without them."""

    def add_service(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add_service


def _route_standard_library(
    stream: TextIO, shared: list[Processor], renderer: list[Processor]
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Each of its errors also comes as an exception or to a callback, and is told from there.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """A logger that looks up its configuration when it is used, so importing it does nothing."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


class LineBudget:
    """A line per change up to `per_second`; above that a summary each second.

        if budget.take(collection):
            log.info("Received message.", collection=collection, …)

    Call `roll` now and then, so that the summary of a second does not wait for
    the next change.
    """

    def __init__(
        self, summary: str, *, per_second: int = 50, clock: Callable[[], float] = monotonic
    ) -> None:
        self._summary = summary
        self._per_second = per_second
        self._clock = clock
        self._since = clock()
        self._counts: Counter[str] = Counter()
        self._total = 0

    def take(self, kind: str) -> bool:
        """Count one change of `kind`, and tell whether it may have a line of its own."""
        self.roll()
        self._counts[kind] += 1
        self._total += 1
        return self._total <= self._per_second

    def roll(self) -> None:
        """Begin a new second, where one is over, and summarise the one that had too much."""
        now = self._clock()
        if now - self._since < 1.0:
            return
        if self._total > self._per_second:
            get_logger().info(self._summary, count=self._total, **self._counts)
        self._since, self._total = now, 0
        self._counts.clear()
