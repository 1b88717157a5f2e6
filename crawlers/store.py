"""One thing is one document: identities, leases and writes.

The `_id` of a document is decided by its identity, so that two crawls at once, or a crawl
after a crash, write the same one. Whether a write is needed is decided by the stored
document itself, in one update: an unchanged one leaves nothing in the oplog. The state
database remembers what the documents do not say (hash, when seen, how often gone), and is
written after them: a crash in between is repaired by the next crawl.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo.errors import DuplicateKeyError

from core.errors import TransientError
from crawlers.results import Status

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database as MongoDatabase

    from core.config import MongoConfig

_T = TypeVar("_T")
_NAMESPACE = uuid.UUID("8c3f3a52-4f0b-5d0e-9d0b-6d1b1c6c2f11")
_LEASE_SECONDS = 15
_LONGEST_WAIT = 180.0
# Raise it when extraction changes, so that files with an unchanged blob are written again.
EXTRACTOR = 1


@dataclass(frozen=True)
class Database:
    """The two databases: people's documents, and our state about them."""

    documents: MongoDatabase[dict[str, Any]]
    state: MongoDatabase[dict[str, Any]]

    @classmethod
    def of(cls, client: MongoClient[dict[str, Any]], config: MongoConfig) -> Database:
        """The databases that `config` names, on this client."""
        return cls(client[config.database], client[config.state_database])


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a write did."""

    status: Status
    collection: str
    id: Any


def document_id(*parts: str) -> str:
    """The `_id` of the document of an identity; parts are, say, a repository and a path."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))


def persistently(write: Callable[[], _T]) -> _T:
    """Two upserts of one `_id` may collide once; the second try then finds the document."""
    try:
        return write()
    except DuplicateKeyError:
        return write()


@contextmanager
def lease(database: Database, identity: str) -> Iterator[None]:
    """Hold an identity while it is read and written, so that an older reading cannot
    overwrite a newer one. Renewed by a thread; a killed holder's ends by itself.

    Blocks while another crawl holds it. Raises TransientError after three minutes.
    """
    owner = uuid.uuid4().hex
    give_up = time.monotonic() + _LONGEST_WAIT
    while not _take(database, identity, owner):
        if time.monotonic() > give_up:
            raise TransientError("Another crawl of the same link goes on. Try again later.")
        time.sleep(0.1)
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(database, identity, owner, done), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        database.state["crawl_leases"].delete_one({"_id": identity, "owner": owner})


def _take(database: Database, identity: str, owner: str) -> bool:
    """Take over an ended lease or renew one's own; else make it, unless somebody holds it."""
    leases = database.state["crawl_leases"]
    until = {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": _LEASE_SECONDS}}
    taken = [{"$set": {"owner": owner, "until": until}}]
    if leases.update_one(
        {"_id": identity, "$expr": {"$lt": ["$until", "$$NOW"]}}, taken
    ).matched_count:
        return True
    try:
        leases.update_one({"_id": identity, "owner": owner}, taken, upsert=True)
    except DuplicateKeyError:
        return False
    return True


def _keep(database: Database, identity: str, owner: str, done: threading.Event) -> None:
    while not done.wait(_LEASE_SECONDS / 3):
        try:
            _take(database, identity, owner)
        except Exception:  # noqa: BLE001  # the crawl itself meets the same trouble and reports it
            return


def save(
    database: Database,
    collection: str,
    identity: str,
    fields: Mapping[str, Any],
    *,
    content_hash: str,
    aliases: tuple[str, ...] = (),
) -> Stored:
    """Write the document of an identity if it differs, with at most one change event.

    `aliases` are other identities of the same thing, the most lasting one last, such as
    that of the link which `identity` redirects to.
    """
    known = _known(database, (identity, *aliases))
    key = known["document_id"] if known else document_id((identity, *aliases)[-1])
    status = upsert(database, collection, key, fields)
    for name in (identity, *aliases):
        seen = {"document_id": key, "collection": collection, "content_hash": content_hash}
        remember(database, name, {**seen, "link": fields.get("link"), "gone": 0})
    return Stored(status=status, collection=collection, id=key)


def upsert(database: Database, collection: str, key: Any, fields: Mapping[str, Any]) -> Status:
    """One update of one document; fields that other programs added stay."""
    done = persistently(
        lambda: database.documents[collection].update_one(
            {"_id": key}, {"$set": dict(fields)}, upsert=True
        )
    )
    if done.upserted_id is not None:
        return Status.INSERTED
    return Status.UPDATED if done.modified_count else Status.UNCHANGED


def recall(database: Database, identity: str) -> dict[str, Any]:
    """An identity's record; empty where there is none."""
    return database.state["crawl_identities"].find_one({"_id": identity}) or {}


def gone(database: Database, identity: str) -> Stored | None:
    """The link answered that nothing is there. The second time, the document goes too.

    Returns what was deleted, or None.
    """
    record = _known(database, (identity,))
    if record is None:
        return None
    if record.get("gone", 0) < 1:
        remember(database, identity, {"gone": 1})
        return None
    collection, key = record["collection"], record["document_id"]
    deleted = database.documents[collection].delete_one({"_id": key}).deleted_count
    if collection == "repositories":
        files = database.documents["repository_files"].delete_many({"repository_id": key})
        deleted += files.deleted_count
    remember(database, identity, {"gone": record["gone"] + 1})
    return Stored(status=Status.DELETED, collection=collection, id=key) if deleted else None


def _known(database: Database, identities: tuple[str, ...]) -> dict[str, Any] | None:
    records = database.state["crawl_identities"].find(
        {"_id": {"$in": list(identities)}, "document_id": {"$exists": True}}
    )
    found = {record["_id"]: record for record in records}
    return next((found[name] for name in identities if name in found), None)


def remember(database: Database, identity: str, facts: Mapping[str, Any]) -> None:
    """Add facts to an identity's record in the state database. Idempotent."""
    persistently(
        lambda: database.state["crawl_identities"].update_one(
            {"_id": identity},
            {"$set": dict(facts), "$currentDate": {"seen_at": True}},
            upsert=True,
        )
    )
