"""A repository as documents: one for the whole, one for each text file.

Git's own hash of a file is its change key: what has the same blob is neither read nor
written. The whole's document holds README and paths but no commit, so that one edited file
is one change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pymongo import DeleteOne, UpdateOne

from crawlers import store
from crawlers.github import files, tree
from crawlers.github.clone import Clone, GitAccess, Limits, cloned
from crawlers.github.tree import Entry, Skipped
from crawlers.links import Target
from crawlers.results import PageUnusable, Status
from crawlers.store import Database, Stored
from crawlers.text import fingerprint
from crawlers.users import User

_COLLECTION = "repository_files"
_BATCH = 100
_LISTED = 20_000


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a crawl of a repository wrote, for its result's sentence."""

    stored: Stored
    written: int
    deleted: int
    skipped: int


def crawl(database: Database, target: Target, user: User, access: GitAccess) -> Report:
    """Clone, compare with what is stored, write what differs.

    Files first, then the repository, then the state: whatever crash, the next crawl
    finds what is missing by comparing again. Raises what `cloned` raises.
    """
    with cloned(target.link, access) as clone:
        head = clone.head()
        if not head:
            raise PageUnusable("The repository is empty.")
        snapshot = _Snapshot(clone, clone.branch(), access.limits)
        return _Writer(database, target, user, head).write(snapshot)


class _Snapshot:
    """The readable entries of one commit, and why the others are not."""

    def __init__(self, clone: Clone, branch: str, limits: Limits) -> None:
        self.clone = clone
        self.branch = branch
        self.limits = limits
        self.entries = list(tree.parse(clone.listing()))
        self.skipped: dict[str, Skipped] = {}
        self.readable: list[Entry] = []
        for entry in self.entries:
            why = tree.refusal(entry)
            if why is None and len(self.readable) >= limits.files:
                why = Skipped.TOO_MANY
            if why:
                self.skipped[entry.path] = why
            else:
                self.readable.append(entry)

    def texts(self, wanted: list[Entry]) -> Iterator[tuple[Entry, str]]:
        """Read the wanted entries one at a time; those without text are noted as skipped."""
        total = 0
        for entry, blob in zip(
            wanted, self.clone.blobs(entry.oid for entry in wanted), strict=True
        ):
            text = files.read(entry.path, blob, self.limits.file_bytes)
            if isinstance(text, Skipped):
                self.skipped[entry.path] = text
            elif (total := total + len(text)) > self.limits.text_bytes:
                self.skipped[entry.path] = Skipped.TOO_MANY
            else:
                yield entry, text


class _Writer:
    def __init__(self, database: Database, target: Target, user: User, head: str) -> None:
        self._database = database
        self._target = target
        self._user = user
        self._head = head
        record = store.recall(database, target.identity)
        self._id = record.get("document_id") or store.document_id(target.identity)
        self._same_rules = record.get("extractor") == store.EXTRACTOR
        # What was found to have no text, by path and blob: not read again while unchanged.
        self._known_skips: dict[str, Any] = {
            skip["path"]: skip for skip in record.get("skipped", []) if self._same_rules
        }

    def write(self, snapshot: _Snapshot) -> Report:
        stored_blobs = self._stored(snapshot.branch)
        wanted = [entry for entry in snapshot.readable if not self._is_known(entry, stored_blobs)]
        for entry in snapshot.readable:
            skip = self._known_skips.get(entry.path)
            if skip and skip["blob"] == entry.oid and entry.path not in stored_blobs:
                snapshot.skipped[entry.path] = Skipped(skip["why"])
        written = self._write_files(snapshot, wanted)
        keep = {entry.path for entry in snapshot.readable} - snapshot.skipped.keys()
        deleted = self._delete_files(set(stored_blobs) - keep)
        stored = self._write_repository(snapshot)
        status = stored.status
        if status is Status.UNCHANGED and (written or deleted):
            status = Status.UPDATED
        return Report(
            stored=Stored(status=status, collection=stored.collection, id=stored.id),
            written=written,
            deleted=deleted,
            skipped=len(snapshot.skipped),
        )

    def _stored(self, branch: str) -> dict[str, str | None]:
        """Path to blob of the stored files; None for one that must be written again."""
        found = self._database.documents[_COLLECTION].find(
            {"repository_id": self._id},
            {"path": 1, "blob": 1, "owner_id": 1, "link": 1, "name": 1},
        )
        return {
            one.get("path") or str(one["_id"]): one.get("blob") if self._fits(one, branch) else None
            for one in found
        }

    def _fits(self, stored: dict[str, Any], branch: str) -> bool:
        return (
            self._same_rules
            and stored.get("owner_id") == self._user.id
            and stored.get("name") == self._target.name
            and stored.get("link") == self._link(branch, str(stored.get("path")))
        )

    def _is_known(self, entry: Entry, stored: dict[str, str | None]) -> bool:
        if entry.path in stored:
            return stored[entry.path] == entry.oid
        skip = self._known_skips.get(entry.path)
        return bool(skip and skip["blob"] == entry.oid)

    def _write_files(self, snapshot: _Snapshot, wanted: list[Entry]) -> int:
        written, batch = 0, []
        for entry, text in snapshot.texts(wanted):
            batch.append(self._update(snapshot.branch, entry, text))
            if len(batch) == _BATCH:
                written += self._apply(batch)
                batch = []
        return written + self._apply(batch)

    def _update(self, branch: str, entry: Entry, text: str) -> UpdateOne:
        fields = {
            "platform": "github",
            "repository_id": self._id,
            "name": self._target.name,
            "path": entry.path,
            "blob": entry.oid,
            "link": self._link(branch, entry.path),
            "content": text,
            "owner_id": self._user.id,
            "author_full_name": self._user.name.full,
        }
        return UpdateOne({"_id": self._file_id(entry.path)}, {"$set": fields}, upsert=True)

    def _delete_files(self, paths: set[str]) -> int:
        return self._apply([DeleteOne({"_id": self._file_id(path)}) for path in sorted(paths)])

    def _apply(self, batch: list[UpdateOne] | list[DeleteOne]) -> int:
        if not batch:
            return 0
        done = self._database.documents[_COLLECTION].bulk_write(batch, ordered=False)
        return done.upserted_count + done.modified_count + done.deleted_count

    def _write_repository(self, snapshot: _Snapshot) -> Stored:
        paths = [entry.path for entry in snapshot.entries][:_LISTED]
        content = {**self._readme(snapshot), "files": "\n".join(paths)}
        fields = {
            "platform": "github",
            "name": self._target.name,
            "link": self._target.link,
            "content": content,
            "owner_id": self._user.id,
            "author_full_name": self._user.name.full,
            "branch": snapshot.branch,
            "skipped": [
                {"path": path, "reason": why.value}
                for path, why in sorted(snapshot.skipped.items())
            ][:_LISTED],
        }
        stored = store.save(
            self._database,
            "repositories",
            self._target.identity,
            fields,
            content_hash=fingerprint(f"{one.path} {one.oid}" for one in snapshot.entries),
        )
        self._remember(snapshot)
        return stored

    def _remember(self, snapshot: _Snapshot) -> None:
        oids = {entry.path: entry.oid for entry in snapshot.readable}
        skipped = [
            {"path": path, "blob": oids[path], "why": why.value}
            for path, why in snapshot.skipped.items()
            if path in oids
        ]
        store.remember(
            self._database,
            self._target.identity,
            {"head": self._head, "extractor": store.EXTRACTOR, "skipped": skipped},
        )

    def _readme(self, snapshot: _Snapshot) -> dict[str, str]:
        entry = tree.readme(snapshot.readable)
        if entry is None:
            return {}
        blob = next(snapshot.clone.blobs([entry.oid]))
        text = files.read(entry.path, blob, snapshot.limits.file_bytes)
        return {} if isinstance(text, Skipped) else {entry.path: text}

    def _file_id(self, path: str) -> str:
        return store.document_id(self._target.identity, path)

    def _link(self, branch: str, path: str) -> str:
        return f"{self._target.link}/blob/{quote(branch)}/{quote(path)}"
