"""From events to points: read what is stored, plan, embed what is new, write, look again.

One writer a queue. A batch is written as a whole where it can be; what cannot
work is found by halving and set aside, so the rest flows. What may work later is
tried until it does or the process is told to stop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event as StopSignal
from typing import Any, TypeVar

from core.documents import entry_id, identifier_of, read_document
from core.embedding import Embedder
from core.errors import DocumentRejected, PoisonError, TransientError
from core.events import ChangeEvent, Purge, SnapshotCompleted
from core.logging import LineBudget, get_logger
from core.mq.dead_letters import DeadLetters
from core.qdrant.client import QdrantRejected
from core.qdrant.schema import FAMILY_OF
from core.retry import Backoff
from core.versions import Version
from feature_pipeline import chunk, clean
from feature_pipeline.chunk import CleanedDocument, prepare
from feature_pipeline.plan import (
    DocumentPlan,
    DocumentRef,
    StoredChunk,
    plan_delete,
    plan_write,
)
from feature_pipeline.reference import Documents
from feature_pipeline.store import Manifest, PointStore
from feature_pipeline.work import Incoming, Segment, Step

Result = TypeVar("Result")

log = get_logger()


class Stopping(TransientError):
    """The process was told to stop while a service was away. Nothing was acknowledged."""


@dataclass(frozen=True)
class _Change:
    """An event with its cleaned document, None for a delete."""

    incoming: Incoming
    event: ChangeEvent
    document: CleanedDocument | None

    @property
    def ref(self) -> DocumentRef:
        return DocumentRef(self.event.collection, self.event.key)


class Writer:
    """Applies steps in order. `write` returns when all they cause is in Qdrant."""

    def __init__(
        self,
        store: PointStore,
        embedder: Embedder,
        dead_letters: DeadLetters,
        documents: Documents,
        *,
        database: str,
        stop: StopSignal,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._dead_letters = dead_letters
        self._documents = documents
        self._database = database
        self._stop = stop
        self._pipeline_hash = pipeline_hash(embedder)
        self._received = LineBudget("Messages received.")
        self._written = LineBudget("Documents written.")
        self._stale = LineBudget("Stale events dropped.")

    def write(self, steps: Sequence[Step]) -> None:
        """Apply `steps`. Raises Stopping when told to stop while a service is away."""
        for step in steps:
            match step:
                case Segment():
                    self._write_segment(step)
                case Incoming(event=Purge() | SnapshotCompleted() as control):
                    self._control(control)
                case Incoming(error=PoisonError() as error):
                    self._set_aside(step, error)

    # -- changes ---------------------------------------------------------------

    def _write_segment(self, segment: Segment) -> None:
        changes = [
            change for item in segment.incoming if (change := self._prepare(item)) is not None
        ]
        self._write_or_halve(changes)

    def _prepare(self, item: Incoming) -> _Change | None:
        event = item.event
        if not isinstance(event, ChangeEvent):
            return None
        told = self._received.take(event.collection)
        if told:
            log.info("Received message.", data_type=event.collection, **_about(event))
        try:
            content = self._content(event)
        except PoisonError as error:
            self._set_aside(item, error)
            return None
        if content is None:
            # What a reference points to is gone: the delete follows.
            return None if event.by_reference else _Change(item, event, None)
        try:
            source = read_document(event.collection, event.key, content)
            document = prepare(source, self._embedder.token_starts, self._embedder.max_tokens)
        except Exception as error:  # noqa: BLE001 - whatever a document does to us, the next must flow
            self._set_aside(item, _rejected(event, error, "clean"))
            return None
        if told:
            _log_prepared(event, document)
        return _Change(item, event, document)

    def _content(self, event: ChangeEvent) -> Mapping[str, Any] | None:
        if event.by_reference:
            return self._retrying(partial(self._documents.fetch, event))
        return event.document

    def _write_or_halve(self, changes: Sequence[_Change]) -> None:
        if not changes:
            return
        try:
            self._retrying(lambda: self._write_changes(changes))
        except (QdrantRejected, RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, QdrantRejected) and error.status == 404:
                raise
            if len(changes) == 1:
                self._set_aside(changes[0].incoming, _rejected(changes[0].event, error, "write"))
                return
            log.warning("batch.halved", size=len(changes), reason=str(error)[:200])
            middle = len(changes) // 2
            self._write_or_halve(changes[:middle])
            self._write_or_halve(changes[middle:])

    def _write_changes(self, changes: Sequence[_Change]) -> None:
        refs = [change.ref for change in changes]
        manifests = self._store.manifests(refs)
        stored = self._store.chunks(refs)
        plans = [
            plan
            for change in changes
            if (plan := self._plan(change, manifests.get(change.ref), stored[change.ref]))
        ]
        self._apply(plans)

    def _plan(
        self, change: _Change, manifest: Manifest | None, stored: Sequence[StoredChunk]
    ) -> DocumentPlan | None:
        event = change.event
        version = effective_version(event, manifest)
        if manifest is not None and version < manifest.version:
            if self._stale.take(event.collection):
                log.info("event.stale", stored_version=manifest.version.number, **_about(event))
            return None
        if change.document is None:
            return plan_delete(change.ref, version, event.wall_ms, stored)
        return plan_write(change.document, version, event.wall_ms, stored, self._pipeline_hash)

    def _apply(self, plans: Sequence[DocumentPlan]) -> None:
        points = [point for plan in plans for point in plan.embed]
        vectors = {}
        if points:
            embedded = self._embedder.embed_documents([point.text for point in points])
            vectors = {point.id: row.tolist() for point, row in zip(points, embedded, strict=True)}
        self._store.write(plans, vectors)
        self._look_again(plans)
        for plan in plans:
            if self._written.take(plan.ref.type):
                _log_written(plan, self._embedder.size)

    def _look_again(self, plans: Sequence[DocumentPlan]) -> None:
        """Another writer may have been at work (a paused one that came back): yield to it."""
        manifests = self._store.manifests([plan.ref for plan in plans])
        for plan in plans:
            manifest = manifests.get(plan.ref)
            if manifest is not None and manifest.version > plan.version:
                self._store.remove_unowned(plan.ref, plan.owned, manifest.version)

    # -- collections -----------------------------------------------------------

    def _control(self, event: Purge | SnapshotCompleted) -> None:
        if event.db != self._database:
            # What it would remove are our points: the store knows only those.
            log.error("control.other_database", database=event.db, event_id=event.message_id)
        elif isinstance(event, Purge):
            self._retrying(partial(self._purge, event))
        else:
            self._retrying(partial(self._sweep, event))

    def _purge(self, event: Purge) -> None:
        named = (event.collection,) if event.collection is not None else tuple(FAMILY_OF)
        count = self._remove_older(named, event.version.number + 1, event.version, event.wall_ms)
        log.info("collection.purged", collection=event.collection, reason=event.reason, num=count)

    def _sweep(self, event: SnapshotCompleted) -> None:
        number = event.version.number
        count = self._remove_older(event.collections, number, event.version, event.wall_ms)
        log.info("snapshot.swept", collections=event.collections, num=count)

    def _remove_older(
        self, collections: Sequence[str], number: int, version: Version, wall_ms: int
    ) -> int:
        known = [name for name in collections if name in FAMILY_OF]
        count = 0
        for refs in self._store.older_than(known, number):
            manifests, stored = self._store.manifests(refs), self._store.chunks(refs)
            plans = [
                plan_delete(ref, version, wall_ms, stored[ref])
                for ref in refs
                if ref not in manifests or manifests[ref].version <= version
            ]
            self._apply(plans)
            count += len(plans)
        return count

    # -- failures --------------------------------------------------------------

    def _set_aside(self, item: Incoming, error: PoisonError) -> None:
        self._retrying(lambda: self._dead_letters.put(item.delivery, error))
        log.error(
            "message.dead_lettered",
            reason=error.reason,
            stage=error.stage,
            error=str(error)[:500],
            event_id=item.delivery.message_id,
        )

    def _retrying(self, action: Callable[[], Result]) -> Result:
        backoff = Backoff()
        while True:
            try:
                return action()
            except TransientError as error:
                delay = backoff.next_delay()
                log.warning("write.retried", reason=str(error)[:500], retry_in_s=round(delay, 1))
                if self._stop.wait(delay):
                    raise Stopping("told to stop while a service is away") from error


def pipeline_hash(embedder: Embedder) -> str:
    """Identifies what makes points of documents: model, budget, cleaning and chunking."""
    parts = (embedder.identity, str(embedder.max_tokens), clean.VERSION, chunk.VERSION)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def effective_version(event: ChangeEvent, manifest: Manifest | None) -> Version:
    """The event's version; without one, the present or the hint, whichever is later.

    Such events are promised only as much order as their queue has.
    """
    if event.version is not None:
        return event.version
    if manifest is not None and manifest.version.number >= event.version_hint:
        return manifest.version
    return Version(event.version_hint, "")


def _rejected(event: ChangeEvent, error: Exception, stage: str) -> DocumentRejected:
    return DocumentRejected(
        f"{event.collection}/{event.key}", str(error) or repr(error), reason="rejected", stage=stage
    )


def _about(event: ChangeEvent) -> Mapping[str, str]:
    return {
        "op": event.op.value,
        "entry_id": entry_id(identifier_of(event.key)),
        "event_id": event.message_id,
    }


def _log_prepared(event: ChangeEvent, document: CleanedDocument) -> None:
    about = _about(event)
    if not document.text:
        log.warning("Document without text.", looked_in="content", **about)
    log.info("Data cleaned successfully.", cleaned_content_len=len(document.text), **about)
    log.info("Cleaned content chunked successfully.", num=len(document.chunks), **about)


def _log_written(plan: DocumentPlan, size: int) -> None:
    about = {
        "collection": plan.ref.type,
        "entry_id": plan.manifest["entry_id"],
        "version": plan.version.number,
    }
    if plan.manifest.get("deleted"):
        log.info("Document deleted.", num=len(plan.stale), **about)
        return
    log.info("Successfully inserted requested cleaned point(s)", num=1, **about)
    if plan.embed:
        log.info("Chunk embedded successfully.", embedding_len=size, num=len(plan.embed), **about)
    log.info(
        "Successfully inserted requested vector point(s)",
        num=len(plan.owned),
        reused=len(plan.keep),
        removed=len(plan.stale),
        **about,
    )
