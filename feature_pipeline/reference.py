"""Documents that did not fit into a message: read from MongoDB, where the message points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bson.errors import BSONError
from bson.timestamp import Timestamp
from pymongo.errors import PyMongoError

from core.config import MongoConfig
from core.documents import identifier_of
from core.errors import DocumentRejected
from core.events import ChangeEvent
from core.mongo import Client, connect, explain
from core.versions import INCREMENT_BITS, MAX_INCREMENT


class Documents(Protocol):
    """Where documents are that travel by reference."""

    def fetch(self, event: ChangeEvent) -> Mapping[str, Any] | None:
        """The document of `event`, as of the event or later; None if it is gone since.

        A later state does no harm: the event that made it follows. Raises TransientError,
        and PoisonError for a document that nobody can decode.
        """

    def close(self) -> None:
        """Idempotent."""


class MongoDocuments:
    """Reads what a majority has. Connects when first needed. Use from one thread."""

    def __init__(self, config: MongoConfig) -> None:
        self._config = config
        self._client: Client | None = None

    def fetch(self, event: ChangeEvent) -> Mapping[str, Any] | None:
        """See `Documents`."""
        if self._client is None:
            self._client = connect(self._config, app="llm-twin-feature-pipeline")
        collection = self._client[self._config.database][event.collection]
        query = {"_id": {"$eq": identifier_of(event.key)}}
        try:
            with self._client.start_session(causal_consistency=True) as session:
                if event.version is not None:
                    session.advance_operation_time(_time(event.version.number))
                return collection.find_one(query, session=session)
        except PyMongoError as error:
            raise explain(error, self._config) from error
        except BSONError as error:
            entry = f"{event.collection}/{event.key}"
            raise DocumentRejected(
                entry, f"its BSON cannot be decoded: {error}", reason="undecodable", stage="read"
            ) from error

    def close(self) -> None:
        """See `Documents`."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _time(number: int) -> Timestamp:
    return Timestamp(number >> INCREMENT_BITS, number & MAX_INCREMENT)
