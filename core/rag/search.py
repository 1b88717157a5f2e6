"""Vector search over the chunks of all collections, filtered by payload.

retriever = Retriever(client, settings.qdrant, load_embedder(settings.embedding))
for hit in retriever.search(Query("how do I keep an index fresh?", author="Paul Iusztin")):
    print(hit.score, hit.link, hit.content)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qdrant_client import QdrantClient, models

from core.config import QdrantConfig
from core.embedding import Embedder
from core.qdrant.client import QdrantRejected, explained
from core.qdrant.schema import FAMILIES, VECTOR_NAME, types_of, vector_name

_NOT_FOUND = 404
_FIELDS = ["entry_id", "key", "type", "link", "content", "version", "path", "author_full_name"]


@dataclass(frozen=True)
class Query:
    """A question and what its answers must match; None matches all.

    `author` is a full name or an author's id. `type` is a MongoDB collection.
    """

    text: str
    author: str | None = None
    platform: str | None = None
    type: str | None = None
    limit: int = 5


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One passage. `score` is the cosine of the angle between question and passage."""

    entry_id: str
    key: str
    type: str
    link: str | None
    score: float
    content: str
    version: int
    path: str | None
    author_full_name: str | None

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


class Retriever:
    """Searches one Qdrant. Creates and changes nothing there."""

    def __init__(self, client: QdrantClient, config: QdrantConfig, embedder: Embedder) -> None:
        self._client = client
        self._config = config
        self._embedder = embedder

    def search(self, query: Query) -> list[Hit]:
        """The best passages of all collections, best first, at most `query.limit`.

        Raises ServiceUnavailable when Qdrant cannot be reached.
        """
        vector = self._embedder.embed_query(query.text)
        condition = _condition(query)
        hits = [
            _hit(point)
            for family in _families(query)
            for point in self._points(family, vector, condition, query.limit)
        ]
        return sorted(hits, key=lambda hit: hit.score, reverse=True)[: query.limit]

    def _points(
        self, family: str, vector: Sequence[float], condition: models.Filter | None, limit: int
    ) -> list[models.ScoredPoint]:
        try:
            with explained(self._config):
                return self._client.query_points(
                    vector_name(family),
                    query=list(vector),
                    using=VECTOR_NAME,
                    query_filter=condition,
                    limit=limit,
                    with_payload=_FIELDS,
                ).points
        except QdrantRejected as error:
            if error.status != _NOT_FOUND:  # before the first start of a pipeline
                raise
            return []


def _families(query: Query) -> list[str]:
    if query.type is None:
        return list(FAMILIES)
    return [family for family in FAMILIES if query.type in types_of(family)]


def _condition(query: Query) -> models.Filter | None:
    must: list[models.Condition] = [
        _equals(field, value)
        for field, value in (("platform", query.platform), ("type", query.type))
        if value is not None
    ]
    if query.author is not None:
        names = [_equals("author_full_name", query.author), _equals("author_id", query.author)]
        must.append(models.Filter(should=names))
    return models.Filter(must=must) if must else None


def _equals(field: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _hit(point: models.ScoredPoint) -> Hit:
    payload = point.payload or {}
    version = payload.get("version")
    return Hit(
        entry_id=str(payload.get("entry_id")),
        key=str(payload.get("key")),
        type=str(payload.get("type")),
        link=payload.get("link"),
        score=float(point.score),
        content=str(payload.get("content") or ""),
        version=version if isinstance(version, int) else 0,
        path=payload.get("path"),
        author_full_name=payload.get("author_full_name"),
    )
