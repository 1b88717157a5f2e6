"""What to write for one document: a value, computed from what is stored, applied by the writer."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from core.documents import SourceDocument, entry_id, identifier_of
from core.versions import Version
from feature_pipeline.chunk import CleanedDocument

# Fixed for ever: the ids of all points are made from it.
_NAMESPACE = uuid.UUID("5f0c1a52-9b0e-5d0c-8f53-6b1d3c2f7a11")


class DocumentRef(NamedTuple):
    """A document in Qdrant: the MongoDB collection it comes from, and its key."""

    type: str
    key: str


@dataclass(frozen=True)
class StoredChunk:
    """A chunk that Qdrant holds for a document, whoever wrote it."""

    id: str
    version: int
    index: int
    path: str | None = None


@dataclass(frozen=True)
class ChunkPoint:
    """A chunk as a point. `text` is what is embedded, `payload` what readers get."""

    id: str
    text: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class DocumentPlan:
    """All writes that one event causes, in the order in which they are applied.

    `embed` are new chunks; `keep` are stored ones, whose vectors stay and whose
    payload is renewed by `renewal`, `moved` what else those of them get that stand
    elsewhere now;
    `stale` are ids that this version does not own.
    """

    ref: DocumentRef
    version: Version
    embed: tuple[ChunkPoint, ...]
    keep: tuple[str, ...]
    renewal: Mapping[str, Any]
    moved: Mapping[str, Mapping[str, Any]]
    manifest_id: str
    manifest: Mapping[str, Any]
    stale: tuple[str, ...]

    @property
    def owned(self) -> tuple[str, ...]:
        """The ids of all chunks of this version."""
        return (*(point.id for point in self.embed), *self.keep)


def manifest_id(ref: DocumentRef) -> str:
    """The id of a document's point in its cleaned collection."""
    return str(uuid.uuid5(_NAMESPACE, f"{ref.type}\0{ref.key}"))


def chunk_ids(ref: DocumentRef, content_hashes: Sequence[str]) -> list[str]:
    """Ids of chunks: functions of collection, key, embedded text and its repetition."""
    seen: Counter[str] = Counter()
    ids = []
    for content_hash in content_hashes:
        name = f"{ref.type}\0{ref.key}\0{content_hash}\0{seen[content_hash]}"
        ids.append(str(uuid.uuid5(_NAMESPACE, name)))
        seen[content_hash] += 1
    return ids


def plan_write(
    document: CleanedDocument,
    version: Version,
    wall_ms: int,
    stored: Sequence[StoredChunk],
    pipeline_hash: str,
) -> DocumentPlan:
    """Plan a document's present state against the chunks that are `stored` for it."""
    source = document.source
    ref = DocumentRef(source.type, source.key)
    common = {**_metadata(source), "version": version.number, "updated_at": rfc3339(wall_ms)}
    renewal = {**common, "chunk_count": len(document.chunks)}
    points = _points(ref, document, renewal)
    present = {chunk.id: chunk for chunk in stored}
    owned = {point.id for point in points}
    return DocumentPlan(
        ref=ref,
        version=version,
        embed=tuple(point for point in points if point.id not in present),
        keep=tuple(point.id for point in points if point.id in present),
        renewal=renewal,
        moved=_moved(points, present),
        manifest_id=manifest_id(ref),
        manifest={
            **common,
            "path": source.path,
            "cleaned_content": document.text,
            "pos": version.pos,
            "source_hash": source.source_hash(),
            "pipeline_hash": pipeline_hash,
            "chunk_count": len(document.chunks),
        },
        stale=tuple(chunk.id for chunk in stored if chunk.id not in owned),
    )


def plan_delete(
    ref: DocumentRef, version: Version, wall_ms: int, stored: Sequence[StoredChunk]
) -> DocumentPlan:
    """Plan a delete: a tombstone, so that an older event cannot bring the document back."""
    return DocumentPlan(
        ref=ref,
        version=version,
        embed=(),
        keep=(),
        renewal={},
        moved={},
        manifest_id=manifest_id(ref),
        manifest={
            "key": ref.key,
            "entry_id": entry_id(identifier_of(ref.key)),
            "type": ref.type,
            "version": version.number,
            "pos": version.pos,
            "updated_at": rfc3339(wall_ms),
            "deleted": True,
        },
        stale=tuple(chunk.id for chunk in stored),
    )


def rfc3339(wall_ms: int) -> str:
    """Milliseconds since 1970 as a time in UTC."""
    moment = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _points(
    ref: DocumentRef, document: CleanedDocument, common: Mapping[str, Any]
) -> list[ChunkPoint]:
    hashes = [chunk.content_hash for chunk in document.chunks]
    return [
        ChunkPoint(
            id=point_id,
            text=chunk.embedded_text,
            payload={
                **common,
                "path": chunk.path,
                "content": chunk.content,
                "chunk_index": index,
                "content_hash": content_hash,
            },
        )
        for index, (point_id, chunk, content_hash) in enumerate(
            zip(chunk_ids(ref, hashes), document.chunks, hashes, strict=True)
        )
    ]


def _moved(
    points: Sequence[ChunkPoint], present: Mapping[str, StoredChunk]
) -> dict[str, Mapping[str, Any]]:
    places = {
        point.id: {"chunk_index": point.payload["chunk_index"], "path": point.payload["path"]}
        for point in points
    }
    return {
        chunk.id: places[chunk.id]
        for chunk in present.values()
        if chunk.id in places
        and places[chunk.id] != {"chunk_index": chunk.index, "path": chunk.path}
    }


def _metadata(source: SourceDocument) -> dict[str, Any]:
    return {
        "key": source.key,
        "entry_id": source.entry_id,
        "type": source.type,
        "platform": source.platform,
        "link": source.link,
        "name": source.name,
        "repository_id": source.repository_id,
        "author_id": source.author_id,
        "author_full_name": source.author_full_name,
    }
