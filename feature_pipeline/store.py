"""What the writer needs of Qdrant, as a small seam, and Qdrant behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from qdrant_client import QdrantClient, models

from core.config import QdrantConfig
from core.qdrant.client import explained, scroll
from core.qdrant.schema import (
    DATABASE,
    NOT_DELETED,
    VECTOR_NAME,
    cleaned_name,
    family_of,
    of_database,
    vector_name,
)
from core.versions import Version
from feature_pipeline.plan import ChunkPoint, DocumentPlan, DocumentRef, StoredChunk, manifest_id

_MAX_POINTS = 128
_MAX_BYTES = 4_000_000
_PAGE = 256
# A number of a vector as JSON: a float32 that Python writes out as a float64.
_NUMBER_BYTES = 22

Item = TypeVar("Item")
Operation = models.UpsertOperation | models.SetPayloadOperation | models.DeleteOperation


@dataclass(frozen=True)
class Manifest:
    """A document's point in its cleaned collection, as far as the writer asks."""

    version: Version
    deleted: bool


class PointStore(Protocol):
    """Points of documents. Each write returns when it is applied; each is idempotent.

    Raises ServiceUnavailable (try again) or QdrantRejected (never will work).
    """

    def manifests(self, refs: Sequence[DocumentRef]) -> Mapping[DocumentRef, Manifest]:
        """The stored manifests, tombstones included; a missing one is left out."""

    def chunks(self, refs: Sequence[DocumentRef]) -> Mapping[DocumentRef, list[StoredChunk]]:
        """All chunks stored for each document, by whomever they were written."""

    def write(self, plans: Sequence[DocumentPlan], vectors: Mapping[str, Sequence[float]]) -> None:
        """Chunks, then manifests, then removals; nothing newer is overwritten."""

    def remove_unowned(self, ref: DocumentRef, ids: Sequence[str], newer: Version) -> None:
        """Remove those of `ids` that are older than `newer`, which does not own them."""

    def older_than(self, types: Sequence[str], number: int) -> Iterator[list[DocumentRef]]:
        """In pages, living documents and those of leftover chunks with a version below `number`."""


class QdrantStore:
    """A PointStore on Qdrant, for the documents of one MongoDB database."""

    def __init__(self, client: QdrantClient, config: QdrantConfig, database: str) -> None:
        self._client = client
        self._config = config
        self._database = database

    def manifests(self, refs: Sequence[DocumentRef]) -> Mapping[DocumentRef, Manifest]:
        """One retrieve by ids for each collection."""
        found: dict[DocumentRef, Manifest] = {}
        for family, group in _by_family(refs, lambda ref: ref.type).items():
            by_id = {manifest_id(ref): ref for ref in group}
            with explained(self._config):
                records = self._client.retrieve(
                    cleaned_name(family),
                    list(by_id),
                    with_payload=["version", "pos", "deleted"],
                    with_vectors=False,
                )
            for record in records:
                found[by_id[str(record.id)]] = _manifest(record.payload or {})
        return found

    def chunks(self, refs: Sequence[DocumentRef]) -> Mapping[DocumentRef, list[StoredChunk]]:
        """A scroll by key for each collection."""
        found: dict[DocumentRef, list[StoredChunk]] = {ref: [] for ref in refs}
        for family, group in _by_family(refs, lambda ref: ref.type).items():
            wanted = _any_of("key", [ref.key for ref in group])
            fields = ["key", "type", "version", "chunk_index", "path"]
            for record in self._scroll(vector_name(family), models.Filter(must=[wanted]), fields):
                payload = record.payload or {}
                ref = DocumentRef(str(payload.get("type")), str(payload.get("key")))
                if ref in found:
                    found[ref].append(_stored(record))
        return found

    def write(self, plans: Sequence[DocumentPlan], vectors: Mapping[str, Sequence[float]]) -> None:
        """Three rounds for each family, each round in requests of bounded size."""
        for family, group in _by_family(plans, lambda plan: plan.ref.type).items():
            chunks, cleaned = vector_name(family), cleaned_name(family)
            mark = {DATABASE: self._database}
            self._apply(chunks, [op for plan in group for op in _chunk_writes(plan, vectors, mark)])
            self._apply(cleaned, [_manifest_write(plan, mark) for plan in group])
            self._apply(chunks, [op for plan in group for op in _removals(plan)])

    def remove_unowned(self, ref: DocumentRef, ids: Sequence[str], newer: Version) -> None:
        """A delete by ids and version."""
        if not ids:
            return
        condition = models.Filter(
            must=[
                models.HasIdCondition(has_id=list(ids)),
                models.FieldCondition(key="version", range=models.Range(lt=newer.number)),
            ]
        )
        operation = models.DeleteOperation(delete=models.FilterSelector(filter=condition))
        self._apply(vector_name(family_of(ref.type)), [(operation, len(ids), 0)])

    def older_than(self, types: Sequence[str], number: int) -> Iterator[list[DocumentRef]]:
        """Scrolls cleaned points, then chunks, in pages."""
        for family, group in _by_family(types, lambda name: name).items():
            old = models.FieldCondition(key="version", range=models.Range(lt=number))
            condition = models.Filter(
                must=[old, _any_of("type", group), NOT_DELETED, of_database(self._database)]
            )
            for collection in (cleaned_name(family), vector_name(family)):
                records = self._scroll(collection, condition, ["key", "type"])
                for page in _pages(records, _PAGE):
                    yield list(dict.fromkeys(_ref(record) for record in page))

    def _scroll(
        self, collection: str, condition: models.Filter, fields: list[str]
    ) -> Iterator[models.Record]:
        with explained(self._config):
            yield from scroll(self._client, collection, condition, fields, _PAGE)

    def _apply(self, collection: str, operations: Iterable[tuple[Operation, int, int]]) -> None:
        for request in _requests(operations):
            with explained(self._config):
                self._client.batch_update_points(collection, request, wait=True)


def _chunk_writes(
    plan: DocumentPlan, vectors: Mapping[str, Sequence[float]], mark: Mapping[str, str]
) -> Iterator[tuple[Operation, int, int]]:
    guard = _not_newer(plan.version)
    dimensions = len(next(iter(vectors.values()), ()))
    for batch in _bounded(plan.embed, dimensions):
        points = [
            models.PointStruct(
                id=point.id,
                vector={VECTOR_NAME: list(vectors[point.id])},
                payload={**point.payload, **mark},
            )
            for point in batch
        ]
        listed = models.PointsList(points=points, update_filter=models.Filter(must_not=[guard]))
        yield (
            models.UpsertOperation(upsert=listed),
            len(points),
            sum(_size(point, dimensions) for point in batch),
        )
    for ids in _pages(plan.keep, _MAX_POINTS):
        yield _set_payload({**plan.renewal, **mark}, ids, guard), len(ids), 1000
    for point_id, place in plan.moved.items():
        yield _set_payload(place, [point_id], guard), 1, 500


def _manifest_write(plan: DocumentPlan, mark: Mapping[str, str]) -> tuple[Operation, int, int]:
    payload = {**plan.manifest, **mark}
    listed = models.PointsList(
        points=[models.PointStruct(id=plan.manifest_id, vector={}, payload=payload)],
        update_filter=models.Filter(must_not=[_not_newer(plan.version)]),
    )
    return models.UpsertOperation(upsert=listed), 1, len(json.dumps(plan.manifest))


def _removals(plan: DocumentPlan) -> Iterator[tuple[Operation, int, int]]:
    for ids in _pages(plan.stale, _MAX_POINTS):
        condition = models.Filter(
            must=[models.HasIdCondition(has_id=list(ids))], must_not=[_not_newer(plan.version)]
        )
        selector = models.FilterSelector(filter=condition)
        yield models.DeleteOperation(delete=selector), len(ids), 50 * len(ids)


def _set_payload(
    payload: Mapping[str, Any], ids: Sequence[str], guard: models.FieldCondition
) -> models.SetPayloadOperation:
    condition = models.Filter(must=[models.HasIdCondition(has_id=list(ids))], must_not=[guard])
    return models.SetPayloadOperation(
        set_payload=models.SetPayload(payload=dict(payload), filter=condition)
    )


def _not_newer(version: Version) -> models.FieldCondition:
    """For `must_not`: a point that is newer, while one without a version stays writable."""
    return models.FieldCondition(key="version", range=models.Range(gt=version.number))


def _any_of(field: str, values: list[str]) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchAny(any=values))


def _manifest(payload: Mapping[str, Any]) -> Manifest:
    version = Version(int(payload.get("version") or 0), str(payload.get("pos") or ""))
    return Manifest(version, deleted=bool(payload.get("deleted")))


def _stored(record: models.Record) -> StoredChunk:
    payload = record.payload or {}
    return StoredChunk(
        id=str(record.id),
        version=int(payload.get("version") or 0),
        index=int(payload.get("chunk_index") or 0),
        path=payload.get("path"),
    )


def _ref(record: models.Record) -> DocumentRef:
    payload = record.payload or {}
    return DocumentRef(str(payload.get("type")), str(payload.get("key")))


def _size(point: ChunkPoint, dimensions: int) -> int:
    """About how many bytes a chunk takes in a request: its vector as text, and its payload."""
    return dimensions * _NUMBER_BYTES + 4 * len(point.text) + 1000


def _by_family(items: Iterable[Item], type_of: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(family_of(type_of(item)), []).append(item)
    return groups


def _pages(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    page: list[Item] = []
    for item in items:
        page.append(item)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _bounded(points: Iterable[ChunkPoint], dimensions: int) -> Iterator[list[ChunkPoint]]:
    """Pages of points that one request can carry; a point alone may exceed it."""
    page: list[ChunkPoint] = []
    size = 0
    for point in points:
        weight = _size(point, dimensions)
        if page and (len(page) == _MAX_POINTS or size + weight > _MAX_BYTES):
            yield page
            page, size = [], 0
        page.append(point)
        size += weight
    if page:
        yield page


def _requests(operations: Iterable[tuple[Operation, int, int]]) -> Iterator[list[Operation]]:
    """Group operations so that a request stays below the bounds; one alone may exceed them."""
    request: list[Operation] = []
    points = size = 0
    for operation, count, weight in operations:
        if request and (points + count > _MAX_POINTS or size + weight > _MAX_BYTES):
            yield request
            request, points, size = [], 0, 0
        request.append(operation)
        points, size = points + count, size + weight
    if request:
        yield request
