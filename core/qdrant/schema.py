"""The collections: names that clients use, versions behind them, and payload indexes.

    cleaned_articles ─alias─► cleaned_articles__v1   one point a document, no vector
    vector_articles  ─alias─► vector_articles__v1    one point a chunk, one vector `text`

Files of repositories live with the repositories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from core.config import QdrantConfig
from core.errors import SchemaMismatch
from core.logging import get_logger
from core.qdrant.client import explained

VECTOR_NAME = "text"

FAMILIES = ("articles", "posts", "repositories")
FAMILY_OF = {
    "articles": "articles",
    "posts": "posts",
    "repositories": "repositories",
    "repository_files": "repositories",
}
_CONFLICT = 409

# Which MongoDB database a point comes from, so that what one drops leaves another's alone.
DATABASE = "database"
_KEYWORDS = (
    DATABASE,
    "key",
    "entry_id",
    "type",
    "platform",
    "link",
    "name",
    "repository_id",
    "path",
    "author_id",
    "author_full_name",
)
_COMMON: Mapping[str, models.PayloadSchemaType] = {
    **dict.fromkeys(_KEYWORDS, models.PayloadSchemaType.KEYWORD),
    "version": models.PayloadSchemaType.INTEGER,
    "updated_at": models.PayloadSchemaType.DATETIME,
}
_CLEANED: Mapping[str, models.PayloadSchemaType] = {
    **_COMMON,
    "deleted": models.PayloadSchemaType.BOOL,
    "source_hash": models.PayloadSchemaType.KEYWORD,
    "pipeline_hash": models.PayloadSchemaType.KEYWORD,
}
_VECTOR: Mapping[str, models.PayloadSchemaType] = {
    **_COMMON,
    "content_hash": models.PayloadSchemaType.KEYWORD,
    "chunk_index": models.PayloadSchemaType.INTEGER,
}

# Only a tombstone has the field.
NOT_DELETED = models.IsEmptyCondition(is_empty=models.PayloadField(key="deleted"))

log = get_logger()


def of_database(name: str) -> models.Filter:
    """Points of one MongoDB database, and those of other programs that name none."""
    return models.Filter(
        should=[
            models.FieldCondition(key=DATABASE, match=models.MatchValue(value=name)),
            models.IsEmptyCondition(is_empty=models.PayloadField(key=DATABASE)),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpace:
    """What vectors are made by: they compare only with vectors of the same."""

    model: str
    size: int


def family_of(collection: str) -> str:
    """The family that a MongoDB collection's points live in. Raises KeyError for another."""
    return FAMILY_OF[collection]


def types_of(family: str) -> tuple[str, ...]:
    """The MongoDB collections whose points live in `family`."""
    return tuple(name for name, owner in FAMILY_OF.items() if owner == family)


def cleaned_name(family: str) -> str:
    """The name that clients use for a family's documents."""
    return f"cleaned_{family}"


def vector_name(family: str) -> str:
    """The name that clients use for a family's chunks."""
    return f"vector_{family}"


def ensure_collections(client: QdrantClient, config: QdrantConfig, space: EmbeddingSpace) -> None:
    """Create what is missing, indexes before data. Idempotent, also when two processes do it.

    Raises SchemaMismatch where vectors of another model or size are stored.
    """
    with explained(config):
        for family in FAMILIES:
            _ensure(client, cleaned_name(family), None, _CLEANED)
            _ensure(client, vector_name(family), space, _VECTOR)


def collection_names() -> list[str]:
    """All names that clients use."""
    return [name for family in FAMILIES for name in (cleaned_name(family), vector_name(family))]


def missing_collections(client: QdrantClient, config: QdrantConfig) -> tuple[str, ...]:
    """The names that clients use and that stand for nothing yet."""
    with explained(config):
        return tuple(name for name in collection_names() if not client.collection_exists(name))


def _ensure(
    client: QdrantClient,
    name: str,
    space: EmbeddingSpace | None,
    indexes: Mapping[str, models.PayloadSchemaType],
) -> None:
    if not client.collection_exists(name):
        # The phrase is the one that followers of the course look for.
        log.warning("Couldn't access the collection. Creating a new one...", collection=name)
        _create(client, name, space, indexes)
        return
    if space is not None:
        _check(name, client.get_collection(name), space)
    _index(client, _behind(client, name), indexes)


def _create(
    client: QdrantClient,
    name: str,
    space: EmbeddingSpace | None,
    indexes: Mapping[str, models.PayloadSchemaType],
) -> None:
    """Make the collection, then its indexes, and only then the name that clients use."""
    versioned = f"{name}__v1"
    metadata = {"generation": 1, **({"model": space.model, "size": space.size} if space else {})}
    try:
        client.create_collection(versioned, vectors_config=_vectors(space), metadata=metadata)
    except UnexpectedResponse as error:
        if error.status_code != _CONFLICT:  # another process was first, or a crash came after it
            raise
    _index(client, versioned, indexes)
    alias = models.CreateAlias(collection_name=versioned, alias_name=name)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])


def _index(
    client: QdrantClient, collection: str, indexes: Mapping[str, models.PayloadSchemaType]
) -> None:
    present = client.get_collection(collection).payload_schema
    for field, kind in indexes.items():
        if field not in present:
            client.create_payload_index(collection, field, field_schema=kind, wait=True)


def _behind(client: QdrantClient, name: str) -> str:
    """The collection that an alias stands for; `name` itself where it is a collection."""
    aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    return aliases.get(name, name)


def _vectors(space: EmbeddingSpace | None) -> dict[str, models.VectorParams]:
    if space is None:
        return {}
    return {VECTOR_NAME: models.VectorParams(size=space.size, distance=models.Distance.COSINE)}


def _check(name: str, info: models.CollectionInfo, space: EmbeddingSpace) -> None:
    vectors = info.config.params.vectors
    stored = vectors.get(VECTOR_NAME) if isinstance(vectors, dict) else None
    if stored is None:
        raise SchemaMismatch(
            f"collection {name} has no vector named {VECTOR_NAME!r}: another program made it. "
            "Rename or delete it, then start again."
        )
    if stored.size != space.size:
        raise SchemaMismatch(
            f"collection {name} holds vectors of size {stored.size}, and EMBEDDING_SIZE is "
            f"{space.size}: set the model it was made with, or delete the collection and its alias "
            "to build it anew."
        )
    model = (info.config.metadata or {}).get("model")
    if model not in (None, space.model):
        raise SchemaMismatch(
            f"collection {name} holds vectors of {model}, and EMBEDDING_MODEL_ID is {space.model}: "
            "vectors of two models do not compare. Set the former model, or delete the collection "
            "and its alias to build it anew."
        )
