"""The collections of one directory: names, aliases, and what is stored about them.

`catalog.json` is replaced atomically; each collection's shard lies in a directory of
its own under `shards/`, whose name is never used again. What `catalog.json` does not
name does not exist, so a crash at any point leaves the state before or after.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from core.errors import TerminalError
from core.logging import get_logger
from local_stack.qdrant.config import parse_create, parse_update
from local_stack.qdrant.errors import AlreadyExists, ApiError, BadRequest, CollectionNotFound
from local_stack.qdrant.schema import Schema, index_params, parse_schema
from local_stack.qdrant.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NAME = re.compile(r"[^<>:\"/\\|?*\x00-\x1f]{1,255}")

log = get_logger()


class DirectoryInUse(TerminalError):
    """Another process has the directory open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} is in use by another process. Stop that one, or give another --path."
        )


class DirectoryUnusable(TerminalError):
    """What is in the directory cannot be read."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be opened: {cause}. Move it away to begin anew.")


@dataclass(frozen=True)
class Collection:
    """A collection at one moment. `indexes` are payload indexes as the client gave them."""

    name: str
    directory: str
    config: dict[str, Any]
    shard: Shard
    schema: Schema
    indexes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Every collection and alias at one moment; replaced as a whole, never changed."""

    collections: dict[str, Collection] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Collection:
        """The collection that `name` is, or stands for. Raises CollectionNotFound."""
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise CollectionNotFound(name)
        return found

    def with_collection(self, collection: Collection) -> State:
        """With `collection` added or replaced."""
        return replace(self, collections={**self.collections, collection.name: collection})

    def without(self, name: str) -> State:
        """Without the collection `name` and the aliases that point to it."""
        return State(
            {key: value for key, value in self.collections.items() if key != name},
            {alias: target for alias, target in self.aliases.items() if target != name},
        )

    def as_json(self) -> bytes:
        """What `catalog.json` holds."""
        collections = {
            each.name: {
                "directory": each.directory,
                "config": each.config,
                "indexes": each.indexes,
            }
            for each in self.collections.values()
        }
        return to_json({"format": 1, "collections": collections, "aliases": self.aliases})


class Catalog:
    """Opens a directory for this process alone. Thread-safe; `close` is idempotent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path / "catalog.json"
        self._lock = threading.RLock()
        path.mkdir(parents=True, exist_ok=True)
        self._owner = _own(path)
        try:
            self.state = self._load()
        except (OSError, ValueError, KeyError, ApiError) as error:
            os.close(self._owner)
            raise DirectoryUnusable(path, str(error)) from error

    def close(self) -> None:
        """Flush every shard and let go of the directory."""
        with self._lock:
            if self._owner >= 0:
                for collection in self.state.collections.values():
                    collection.shard.close()
                os.close(self._owner)
                self._owner = -1

    def find(self, name: str) -> Collection:
        """The collection that `name` is, or stands for. Raises CollectionNotFound."""
        return self.state.find(name)

    def create(self, name: str, body: object) -> None:
        """Make a collection. Raises AlreadyExists, BadRequest or NotServed."""
        config = parse_create(body)
        schema = parse_schema(config["vectors"], config["sparse_vectors"])
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is no name for a collection")
        with self._lock:
            self._refuse_taken(name)
            directory = uuid.uuid4().hex
            shard = Shard.create(self._shards / directory, schema.engine_config())
            self._store(
                self.state.with_collection(Collection(name, directory, config, shard, schema))
            )

    def update(self, name: str, body: object) -> None:
        """Change a collection's metadata or tuning."""
        with self._lock:
            old = self.find(name)
            changed = replace(old, config=parse_update(body, old.config))
            self._store(self.state.with_collection(changed))

    def delete(self, name: str) -> bool:
        """Remove a collection, by its own name only, as Qdrant does. False where there is none."""
        with self._lock:
            collection = self.state.collections.get(name)
            if collection is None:
                return False
            self._store(self.state.without(name))
            collection.shard.close()
            shutil.rmtree(self._shards / collection.directory, ignore_errors=True)
            return True

    def change_aliases(self, change: Callable[[State], State]) -> None:
        """Replace the aliases in one step: every reader sees those before or those after."""
        with self._lock:
            self._store(change(self.state))

    def create_index(self, name: str, field_name: str, schema: Any) -> None:
        """Index a payload field, with the points that are there already."""
        with self._lock:
            old = self.find(name)
            old.shard.create_index(field_name, index_params(schema))
            changed = replace(old, indexes={**old.indexes, field_name: schema})
            self._store(self.state.with_collection(changed))

    def delete_index(self, name: str, field_name: str) -> None:
        """Drop the index of a payload field; the field stays."""
        with self._lock:
            old = self.find(name)
            old.shard.delete_index(field_name)
            left = {key: value for key, value in old.indexes.items() if key != field_name}
            self._store(self.state.with_collection(replace(old, indexes=left)))

    @property
    def _shards(self) -> Path:
        return self._path / "shards"

    def _refuse_taken(self, name: str) -> None:
        if name in self.state.collections:
            raise AlreadyExists(f"Collection `{name}` already exists!")
        if name in self.state.aliases:
            raise AlreadyExists(
                f"Can't create collection with name {name}. Alias with the same name already exists"
            )

    def _store(self, state: State) -> None:
        write_atomically(self._file, state.as_json())
        self.state = state

    def _load(self) -> State:
        self._shards.mkdir(exist_ok=True)
        stored: dict[str, Any] = {"collections": {}, "aliases": {}}
        if self._file.exists():
            stored = from_json(self._file.read_bytes())
        state = State(aliases=stored["aliases"])
        for name, facts in stored["collections"].items():
            state = state.with_collection(self._open(name, facts))
        self._sweep({each.directory for each in state.collections.values()})
        return state

    def _open(self, name: str, facts: dict[str, Any]) -> Collection:
        config, indexes = facts["config"], facts["indexes"]
        schema = parse_schema(config["vectors"], config["sparse_vectors"])
        shard = Shard.load(self._shards / facts["directory"])
        there = set(shard.info().payload_schema)
        for field_name in sorted(set(indexes) - there):
            shard.create_index(field_name, index_params(indexes[field_name]))
        for field_name in sorted(there - set(indexes)):
            shard.delete_index(field_name)
        return Collection(name, facts["directory"], config, shard, schema, indexes)

    def _sweep(self, known: set[str]) -> None:
        for path in self._shards.iterdir():
            if path.name not in known:
                log.info("unfinished_shard_removed", directory=path.name)
                shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: after a crash it holds the old or the new, whole."""
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _own(path: Path) -> int:
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DirectoryInUse(path) from None
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
