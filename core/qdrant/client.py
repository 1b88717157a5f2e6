"""Qdrant clients, and what their errors mean for us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from core.config import QdrantConfig
from core.errors import ConfigurationError, ServiceUnavailable, TwinError

TIMEOUT_S = 30
_UNAUTHORISED = (401, 403)
_BUSY = (408, 425, 429)


@dataclass(eq=False)
class QdrantRejected(TwinError):
    """Qdrant understood a request and will never accept it: a bad point, a missing collection."""

    status: int
    detail: str

    def __str__(self) -> str:
        return f"Qdrant refused a request with status {self.status}: {self.detail}"


def client_of(config: QdrantConfig, *, timeout_s: int = TIMEOUT_S) -> QdrantClient:
    """A client that has not yet tried to reach anything."""
    return QdrantClient(
        url=config.url,
        api_key=None if config.api_key is None else config.api_key.get_secret_value(),
        timeout=timeout_s,
        check_compatibility=False,
    )


@contextmanager
def explained(config: QdrantConfig) -> Iterator[None]:
    """Turn what a client raises inside into ServiceUnavailable, ConfigurationError or
    QdrantRejected."""
    try:
        yield
    except UnexpectedResponse as error:
        raise _of_status(error, config) from error
    except (ResponseHandlingException, ApiException, OSError) as error:
        cause = error.source if isinstance(error, ResponseHandlingException) else error
        raise ServiceUnavailable("Qdrant", config.address, str(cause) or repr(cause)) from error


def scroll(
    client: QdrantClient, collection: str, condition: models.Filter, fields: list[str], page: int
) -> Iterator[models.Record]:
    """All points that match, with these payload fields, read in pages as they are asked for."""
    offset: Any = None
    while True:
        records, offset = client.scroll(
            collection,
            scroll_filter=condition,
            limit=page,
            offset=offset,
            with_payload=fields,
            with_vectors=False,
        )
        yield from records
        if offset is None:
            return


def _of_status(error: UnexpectedResponse, config: QdrantConfig) -> TwinError:
    status = error.status_code or 0
    detail = error.content.decode("utf-8", "replace")[:500]
    if status in _UNAUTHORISED:
        return ConfigurationError("QDRANT_APIKEY", f"Qdrant at {config.address} refuses it")
    if status in _BUSY or status >= 500 or status == 0:
        return ServiceUnavailable("Qdrant", config.address, f"status {status}: {detail}")
    return QdrantRejected(status, detail)
