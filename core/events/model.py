"""Change events as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.versions import Version


class Op(StrEnum):
    """What happened, in Debezium's letters, and two control events of our own."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    PURGE = "t"
    SNAPSHOT_COMPLETED = "m"


@dataclass(frozen=True, kw_only=True)
class ChangeEvent:
    """One change of one document.

    `document` is its state after the change, None for a delete, and None as well
    where `by_reference` says that it must be read from MongoDB. `version` is None
    where the producer knows no clusterTime; then `version_hint` stands in, and
    events apply in the order they arrive. `wall_ms` is milliseconds since 1970.
    `flat` asks for the course's flat message, whatever form the others have.
    """

    op: Op
    db: str
    collection: str
    key: str
    document: Mapping[str, Any] | None
    version: Version | None
    version_hint: int = 0
    wall_ms: int
    message_id: str
    before: Mapping[str, Any] | None = None
    update_description: Mapping[str, Any] | None = None
    transaction: Mapping[str, Any] = field(default_factory=dict)
    snapshot: str = "false"
    by_reference: bool = False
    flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Purge:
    """A namespace ceased to exist: all its documents up to `version` are gone.

    `collection` is None where the whole database was dropped. `reason` is drop,
    dropDatabase or rename.
    """

    db: str
    collection: str | None
    reason: str
    version: Version
    wall_ms: int
    message_id: str


@dataclass(frozen=True, kw_only=True)
class SnapshotCompleted:
    """All documents of `collections` were read: what is older than `version` is gone.

    `version.number` is the smallest clusterTime that the snapshot read at.
    """

    db: str
    collections: tuple[str, ...]
    snapshot_id: str
    version: Version
    wall_ms: int
    message_id: str


Event = ChangeEvent | Purge | SnapshotCompleted
