"""Our own services, with the names they have in docker-compose.yml."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.mongo import MEMBERS, uri
from local_stack.service import Context, LogView, ServiceSpec, http_problem

if TYPE_CHECKING:
    from local_stack.service import Readiness


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
        _spec(context, "data_cdc", ready=partial(_awaits, "cdc.streaming"), needs=(*MEMBERS, "mq")),
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
        "CRAWLER_HOST": "127.0.0.1",
        "CRAWLER_PORT": str(context.ports.crawlers),
    }


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
        "LOG_FORMAT": "json",
        **context.options.environment,
    }


def _awaits(event: str, log: LogView) -> str | None:
    return None if log.has_event(event) else f"it has not yet logged {event}"
