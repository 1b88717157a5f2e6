"""Documents that walk a life cycle in MongoDB, and what is known of each of them.

insert → update → (replace) → delete → insert → … Every write waits for a majority. One
whose outcome is unknown, because the primary died under it, is looked up on the next
primary before the document goes on: so the state that each must have is always known.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bson import Binary, Decimal128, Int64, ObjectId
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from core.documents import document_key
from tests.cdc_harness import COLLECTIONS

_RESOLVE_S = 90
_WORDS = (
    "tide lamp harbour signal rope ledger compass lantern anchor beacon chart mast "
    "keel rudder buoy pilot wharf gull current reef sextant hull cargo breeze"
)

# 1 and "1" are two documents; 1 and a long of 1 would be one, so the numbers differ.
_IDENTIFIERS: tuple[Callable[[int], Any], ...] = (
    lambda number: number,
    str,
    lambda number: ObjectId(f"{number:024x}"),
    lambda number: Binary.from_uuid(UUID(int=number)),
    lambda number: {"site": "medium", "number": number},
    lambda number: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
    lambda number: Int64(2**40 + number),
    lambda number: number + 0.5,
    lambda number: Decimal128(f"{number}.25"),
)

Ref = tuple[str, str]
Clock = Callable[[], float]
"""Seconds since the test began."""


@dataclass
class Life:
    """One document. `state` numbers the last write that is known to be in MongoDB."""

    collection: str
    identifier: Any
    alive: bool = False
    last: str = "delete"
    state: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def ref(self) -> Ref:
        """As `console.audit` names it."""
        return self.collection, document_key(self.identifier)

    @property
    def expected(self) -> int | None:
        """The `state` of the document in MongoDB; None where there must be none."""
        return self.state if self.alive else None

    def next_step(self, chance: random.Random) -> str:
        """What the life cycle has next."""
        match self.last:
            case "delete":
                return "insert"
            case "insert":
                return "update"
            case "update" if chance.random() < 0.5:
                return "replace"
            case _:
                return "delete"

    def went(self, step: str, state: int) -> None:
        """The write is in MongoDB."""
        self.last, self.state, self.alive = step, state, step != "delete"


def lives(count: int) -> list[Life]:
    """`count` documents over all collections and several types of `_id`."""
    width = len(COLLECTIONS)
    kinds = len(_IDENTIFIERS)
    return [
        Life(COLLECTIONS[n % width], _IDENTIFIERS[n // width % kinds](n // (width * kinds) + 1))
        for n in range(count)
    ]


class Walker(threading.Thread):
    """Writes to its own documents, about `per_second` times a second, until told to end.

    `surprises` are answers that MongoDB must never give, whoever is killed.
    """

    def __init__(
        self,
        database: Database[dict[str, Any]],
        own: Sequence[Life],
        per_second: float,
        seed: int,
        clock: Clock,
    ) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._own = own
        self._pause = 1 / per_second
        self._random = random.Random(seed)  # noqa: S311 - a repeatable walk
        self._clock = clock
        self._ending = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.surprises: list[str] = []

    def run(self) -> None:
        try:
            for life, delay in zip(self._visits(), self._pace(), strict=False):
                if self._ending.wait(delay):
                    return
                self._walk(life)
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.surprises.append(f"a writer ended: {error!r}")

    def end(self) -> None:
        """Let the present write come to its end."""
        self._ending.set()
        self.join(2 * _RESOLVE_S)
        if self.is_alive():
            self.surprises.append("a writer does not come to its end")

    def _visits(self) -> Iterator[Life]:
        """Round after round in any order; one to three steps each time."""
        while True:
            for life in self._random.sample(self._own, len(self._own)):
                yield from [life] * self._random.choice((1, 1, 2, 3))

    def _pace(self) -> Iterator[float]:
        """Pauses that keep the rate; what an outage took is not made up for."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            due = max(due + self._pause, now)
            yield due - now

    def _walk(self, life: Life) -> None:
        step, state = life.next_step(self._random), life.state + 1
        begun = self._clock()
        try:
            count = self._write(life, step, state)
        except PyMongoError as error:
            outcome = self._resolve(life, step, state, error)
        else:
            outcome = "acknowledged"
            life.went(step, state)
            if count != 1:
                self.surprises.append(f"{step} {state} of {life.ref} changed {count} documents")
        self.outcomes[outcome] += 1
        life.story.append(f"{begun:.2f}-{self._clock():.2f} s {step} {state}: {outcome}")

    def _write(self, life: Life, step: str, state: int) -> int:
        """How many documents it changed, which is one."""
        collection, query = self._database[life.collection], {"_id": {"$eq": life.identifier}}
        match step:
            case "insert":
                collection.insert_one({"_id": life.identifier, **self._content(life, state)})
                return 1
            case "update":
                return collection.update_one(
                    query, {"$set": self._edit(life, state)}
                ).modified_count
            case "replace":
                return collection.replace_one(query, self._content(life, state)).modified_count
            case _:
                return collection.delete_one(query).deleted_count

    def _resolve(self, life: Life, step: str, state: int, error: PyMongoError) -> str:
        if isinstance(error, DuplicateKeyError):
            self.surprises.append(f"{step} {state} of {life.ref}: it was there already")
        found = self._stands(self._database[life.collection], life.identifier)
        if found == (None if step == "delete" else state):
            life.went(step, state)
            return f"{type(error).__name__}, applied"
        if found != life.expected:
            self.surprises.append(
                f"after {step} {state} of {life.ref} MongoDB holds state {found}, "
                f"neither this nor {life.expected}"
            )
        return f"{type(error).__name__}, not applied"

    def _stands(self, collection: Collection[dict[str, Any]], identifier: Any) -> int | None:
        """The document's state, for good: such a read waits until a majority has what it saw."""
        strict = collection.with_options(read_concern=ReadConcern("linearizable"))
        deadline = time.monotonic() + _RESOLVE_S
        while True:
            try:
                found = strict.find_one({"_id": {"$eq": identifier}}, max_time_ms=5000)
            except PyMongoError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return None if found is None else int(found["state"])

    def _edit(self, life: Life, state: int) -> Mapping[str, Any]:
        """The whole text, or only what is told about it, which needs no new vector."""
        content = self._content(life, state)
        if self._random.random() < 0.5:
            return content
        return {name: content[name] for name in ("state", "link")}

    def _content(self, life: Life, state: int) -> dict[str, Any]:
        words = " ".join(self._random.choices(_WORDS.split(), k=self._random.randrange(5, 15)))
        text = f"State {state} of {life.ref[1]}: {words}."
        shapes: Mapping[str, Mapping[str, Any]] = {
            "articles": {"content": {"Title": f"Article {state}", "Content": text}},
            "posts": {"content": text},
            "repositories": {"content": {"README.md": text}, "owner_id": "me"},
            "repository_files": {"content": text, "path": "notes.md", "repository_id": "r"},
        }
        link = f"https://example.com/{life.collection}/{state}"
        return {"state": state, "link": link, "author_id": "me", **shapes[life.collection]}


def states(database: Database[dict[str, Any]]) -> dict[Ref, int]:
    """The state of every document that MongoDB holds."""
    return {
        (name, document_key(found["_id"])): found["state"]
        for name in COLLECTIONS
        for found in database[name].find({}, {"state": 1})
    }
