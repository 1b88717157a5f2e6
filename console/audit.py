"""Comparing MongoDB with Qdrant: the oracle of the whole project.

In step means: for each captured document a manifest made from its present state,
with exactly the chunks it names, all of its version; and nothing else. Where
transforms are configured, its state is what they make of it: a document that they leave
out is expected to be absent, and one that they fail at, which data_cdc sets aside, is
never in step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from qdrant_client import QdrantClient, models

from core.config import Settings
from core.documents import document_key, entry_id, identifier_of, read_document
from core.events import ChangeEvent, Op
from core.mongo import Client
from core.qdrant.client import explained, scroll
from core.qdrant.schema import FAMILY_OF, cleaned_name, family_of, of_database, vector_name
from core.versions import READ_POSITION, Version
from data_cdc.transforms import Chain, TransformFailed, load_chain

_PAGE = 1000
_RECHECK_S = 0.5
# Of a document that no transform gets through: nothing that Qdrant holds has it.
_NO_HASH = ""

Ref = tuple[str, str]
"""(MongoDB collection, key)."""


@dataclass(frozen=True)
class Held:
    """What Qdrant holds for one document. Without a manifest, `source_hash` is None."""

    source_hash: str | None
    version: int
    chunk_count: int
    chunks_by_version: Mapping[int, int]

    def matches(self, source_hash: str) -> bool:
        """Whether this is the document with `source_hash`, whole and nothing more."""
        expected = {self.version: self.chunk_count} if self.chunk_count else {}
        return self.source_hash == source_hash and dict(self.chunks_by_version) == expected


@dataclass(frozen=True)
class Report:
    """Documents by what is wrong with them. Empty lists mean in step."""

    checked: int
    missing: list[Ref] = field(default_factory=list)
    stale: list[Ref] = field(default_factory=list)
    orphaned: list[Ref] = field(default_factory=list)

    @property
    def in_step(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.stale or self.orphaned)

    @property
    def doubtful(self) -> list[Ref]:
        """The documents that something is wrong with."""
        return [*self.missing, *self.stale, *self.orphaned]

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "in_step": self.in_step,
            "checked": self.checked,
            "missing": [_named(ref) for ref in self.missing],
            "stale": [_named(ref) for ref in self.stale],
            "orphaned": [_named(ref) for ref in self.orphaned],
        }


def compare(wanted: Mapping[Ref, str], held: Mapping[Ref, Held]) -> Report:
    """Compare source hashes that should be there with what is."""
    report = Report(checked=len(wanted))
    for ref, source_hash in wanted.items():
        found = held.get(ref)
        if found is None or found.source_hash is None:
            report.missing.append(ref)
        elif not found.matches(source_hash):
            report.stale.append(ref)
    report.orphaned.extend(ref for ref in held if ref not in wanted)
    return report


def audit(
    mongo: Client,
    qdrant: QdrantClient,
    settings: Settings,
    settle_s: float,
    on_wait: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare, and look again at what differs until it settles or `settle_s` seconds pass.

    `on_wait` is told how many documents are waited for.

    Raises ServiceUnavailable when Qdrant cannot be reached, ConfigurationError for transforms
    that cannot be; pymongo's errors pass.
    """
    chain = load_chain(settings.cdc.transforms, settings.cdc.collections)
    deadline = time.monotonic() + settle_s
    report = compare(_wanted(mongo, settings, chain), _held(qdrant, settings))
    checked = report.checked
    if not report.in_step and settle_s:
        on_wait(len(report.doubtful))
    while not report.in_step and time.monotonic() < deadline:
        time.sleep(_RECHECK_S)
        doubtful = report.doubtful
        wanted = _wanted(mongo, settings, chain, doubtful)
        report = compare(wanted, _held(qdrant, settings, doubtful))
    return replace(report, checked=checked)


def expected(chain: Chain, db: str, collection: str, raw: Mapping[str, Any]) -> dict[Ref, str]:
    """Source hashes of what the document `raw` of MongoDB is to be in Qdrant: mostly one."""
    key = document_key(raw["_id"])
    event = ChangeEvent(
        op=Op.READ,
        db=db,
        collection=collection,
        key=key,
        document=raw,
        version=Version(0, READ_POSITION),
        wall_ms=0,
        message_id="verify",
        snapshot="true",
    )
    try:
        events = chain.apply(event)
    except TransformFailed:
        return {(collection, key): _NO_HASH}
    last = {(made.collection, made.key): made.document for made in events}
    return {
        (name, key): read_document(name, key, document).source_hash()
        for (name, key), document in last.items()
        if document is not None
    }


def _wanted(
    mongo: Client, settings: Settings, chain: Chain, refs: Collection[Ref] | None = None
) -> dict[Ref, str]:
    """Source hashes of what Qdrant should hold, of all documents or of `refs` only."""
    database = mongo[settings.mongo.database]
    found: dict[Ref, str] = {}
    for collection in settings.cdc.collections:
        everything = refs is None or chain.may_move
        only = {} if everything else {"_id": {"$in": _identifiers(refs or (), collection)}}
        for raw in database[collection].find(only):
            found.update(expected(chain, settings.mongo.database, collection, raw))
    # MongoDB finds 1.0 where 1 was asked for.
    return found if refs is None else {ref: found[ref] for ref in refs if ref in found}


def _identifiers(refs: Collection[Ref], collection: str) -> list[Any]:
    """The `_id`s that `refs` name; another program's point may name none."""
    found = []
    for name, key in refs:
        if name == collection:
            with suppress(ValueError):
                found.append(identifier_of(key))
    return found


def _held(
    qdrant: QdrantClient, settings: Settings, refs: Collection[Ref] | None = None
) -> dict[Ref, Held]:
    """What Qdrant holds, of all documents or of `refs` only."""
    captured = settings.cdc.collections
    own = of_database(settings.mongo.database)
    only = own if refs is None else models.Filter(must=[own, _any_key(refs)])
    with explained(settings.qdrant):
        families = list(dict.fromkeys(family_of(name) for name in captured))
        chunks = Counter(
            (_ref(record), _number(record.payload, "version"))
            for family in families
            for record in _scroll(qdrant, vector_name(family), ["type", "key", "version"], only)
        )
        manifests = {
            _ref(record): record.payload or {}
            for family in families
            for record in _scroll(qdrant, cleaned_name(family), _MANIFEST_FIELDS, only)
        }
    held = _join(manifests, chunks, captured)
    return held if refs is None else {ref: held[ref] for ref in refs if ref in held}


_MANIFEST_FIELDS = ["type", "key", "version", "source_hash", "chunk_count", "deleted"]


def _join(
    manifests: Mapping[Ref, Mapping[str, Any]],
    chunks: Mapping[tuple[Ref, int], int],
    collections: Iterable[str],
) -> dict[Ref, Held]:
    counts: dict[Ref, dict[int, int]] = {}
    for (ref, version), number in chunks.items():
        counts.setdefault(ref, {})[version] = number
    living = {ref: payload for ref, payload in manifests.items() if not payload.get("deleted")}
    return {
        ref: Held(
            source_hash=living.get(ref, {}).get("source_hash"),
            version=_number(living.get(ref), "version"),
            chunk_count=_number(living.get(ref), "chunk_count"),
            chunks_by_version=counts.get(ref, {}),
        )
        for ref in [*living, *(other for other in counts if other not in living)]
        if ref[0] in collections or ref[0] not in FAMILY_OF
    }


def _scroll(
    qdrant: QdrantClient, collection: str, fields: list[str], only: models.Filter
) -> Iterator[models.Record]:
    if qdrant.collection_exists(collection):
        yield from scroll(qdrant, collection, only, fields, _PAGE)


def _any_key(refs: Collection[Ref]) -> models.Filter:
    """Points of `refs`, and those that nobody could ask for: other programs' without a key."""
    keys = sorted({key for _, key in refs})
    return models.Filter(
        should=[
            models.FieldCondition(key="key", match=models.MatchAny(any=keys)),
            models.IsEmptyCondition(is_empty=models.PayloadField(key="key")),
        ]
    )


def _number(payload: Mapping[str, Any] | None, field: str) -> int:
    """A count or version; 0, which matches nothing that we wrote, where it is none."""
    value = (payload or {}).get(field)
    return value if isinstance(value, int) else 0


def _ref(record: models.Record) -> Ref:
    payload = record.payload or {}
    return str(payload.get("type")), str(payload.get("key"))


def _named(ref: Ref) -> dict[str, str]:
    collection, key = ref
    try:
        name = entry_id(identifier_of(key))
    except ValueError:
        name = key
    return {"type": collection, "key": key, "entry_id": name}
