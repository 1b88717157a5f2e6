"""Our own services, with the names they have in docker-compose.yml."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from local_stack.mongo import MEMBERS, uri
from local_stack.service import Context, LogView, ServiceSpec, http_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_stack.service import Readiness

# Readiness reads logs, so they are JSON whatever LOG_FORMAT says.
_FIXED = {"LOG_FORMAT": "json"}
# Other words for the same: where output is a file, `auto` means JSON.
_ALIKE = {"auto": "json", "0": "false", "no": "false", "off": "false"}


def own_specs(context: Context) -> list[ServiceSpec]:
    """Crawlers, change data capture and the feature pipeline."""
    return [
        _spec(
            context,
            "data-crawlers",
            module="crawlers",
            address=f"http://localhost:{context.ports.crawlers}",
            ports={"HTTP": context.ports.crawlers},
            ready=lambda _log: http_problem(context.ports.crawlers, "/health"),
            needs=MEMBERS,
        ),
        _spec(
            context,
            "data_cdc",
            address=f"http://localhost:{context.ports.cdc_http}",
            ports={"HTTP": context.ports.cdc_http},
            ready=partial(_awaits, "cdc.streaming"),
            needs=(*MEMBERS, "mq"),
        ),
        _spec(
            context,
            "feature_pipeline",
            ready=partial(_awaits, "feature_pipeline.consuming"),
            needs=(*MEMBERS, "mq", "qdrant"),
            stop_timeout=60,
        ),
    ]


def client_environment(context: Context) -> dict[str, str]:
    """The variables with which any client or service reaches this stack."""
    return {
        "MONGO_DATABASE_HOST": uri(context),
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_PORT": str(context.ports.amqp),
        "RABBITMQ_DEFAULT_USERNAME": context.options.rabbitmq_username,
        "RABBITMQ_DEFAULT_PASSWORD": context.options.rabbitmq_password,
        "QDRANT_DATABASE_HOST": "127.0.0.1",
        "QDRANT_DATABASE_PORT": str(context.ports.qdrant),
        "USE_QDRANT_CLOUD": "false",
        "CDC_HTTP_HOST": "127.0.0.1",
        "CDC_HTTP_PORT": str(context.ports.cdc_http),
        "CRAWLER_HOST": "127.0.0.1",
        "CRAWLER_PORT": str(context.ports.crawlers),
    }


def overridden(fixed: Mapping[str, str], env_file: Path = Path(".env")) -> list[str]:
    """Names of variables which are set here or in `env_file` to what the stack will not use.

    `fixed` is what the stack gives its services, as `client_environment` has it.
    """
    given = {**dotenv_values(env_file, interpolate=False), **os.environ}
    ours = {**fixed, "QDRANT_CLOUD_URL": "", **_FIXED}
    return [
        name for name, value in ours.items() if given.get(name) and not _same(given[name], value)
    ]


def _same(one: str | None, other: str) -> bool:
    return _plain(one or "") == _plain(other)


def _plain(text: str) -> str:
    lowered = text.strip().casefold().replace("127.0.0.1", "localhost")
    return _ALIKE.get(lowered, lowered)


def _spec(
    context: Context,
    name: str,
    *,
    ready: Readiness,
    needs: tuple[str, ...],
    module: str = "",
    address: str = "-",
    ports: dict[str, int] | None = None,
    stop_timeout: float = 30,
) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        command=lambda: [sys.executable, "-m", module or name],
        address=address,
        ports=ports or {},
        # Services read .env where they start, and that is where `up` was called.
        folder=Path.cwd(),
        environment=_environment(context),
        ready=ready,
        needs=needs,
        start_timeout=120,
        stop_timeout=stop_timeout,
    )


def _environment(context: Context) -> dict[str, str]:
    return {
        **os.environ,
        **client_environment(context),
        "PYTHONUNBUFFERED": "1",
        **_FIXED,
        **context.options.environment,
    }


def _awaits(event: str, log: LogView) -> str | None:
    return None if log.has_event(event) else f"it has not yet logged {event}"
