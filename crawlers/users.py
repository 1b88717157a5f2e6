"""Whose documents these are: one user for each name, also when two crawls start at once."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pymongo import ReturnDocument

from crawlers.results import UserInvalid
from crawlers.store import Database, persistently
from crawlers.text import storable

_LONGEST = 200


@dataclass(frozen=True)
class Name:
    """A person's name; one word alone is both first and last name."""

    first: str
    last: str

    @property
    def full(self) -> str:
        """As it is shown beside a document."""
        return f"{self.first} {self.last}"


@dataclass(frozen=True)
class User:
    """A name with the `_id` of its document in `users`."""

    id: Any
    name: Name


def parse_name(text: object) -> Name:
    """`First … Last`. Raises UserInvalid for what holds no word."""
    if not isinstance(text, str) or not text.strip():
        raise UserInvalid("user must be a name such as 'Paul Iusztin'.")
    if len(text) > _LONGEST:
        raise UserInvalid(f"user is longer than {_LONGEST} characters.")
    words = unicodedata.normalize("NFC", storable(text)).split()
    if not words:
        raise UserInvalid("user must be a name such as 'Paul Iusztin'.")
    return Name(" ".join(words[:-1]) or words[0], words[-1])


def resolve(database: Database, name: Name) -> User:
    """The user of this name, made if there is none. Idempotent, also after a crash between
    its two writes: the identity comes first and names the document's `_id`."""
    fields = {"first_name": name.first, "last_name": name.last}
    known = database.documents["users"].find_one(fields, {"_id": 1})
    user_id: Any = known["_id"] if known else str(uuid4())
    identity = persistently(
        lambda: database.state["crawl_users"].find_one_and_update(
            {"_id": f"{name.first}|{name.last}".casefold()},
            {"$setOnInsert": {"user_id": user_id}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
    )
    user_id = identity["user_id"] if identity else user_id
    persistently(
        lambda: database.documents["users"].update_one(
            {"_id": user_id}, {"$setOnInsert": fields}, upsert=True
        )
    )
    # The first spelling stays, so that typing a name in small letters changes no document.
    stored = database.documents["users"].find_one({"_id": user_id}) or {}
    first, last = stored.get("first_name"), stored.get("last_name")
    return User(user_id, Name(str(first or name.first), str(last or name.last)))
