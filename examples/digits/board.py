"""The effect of the stream: a prediction for each document, kept in MongoDB.

One record a document, found by its key. A record knows the version of the event that it
was made from, so an event may come twice, or late, and changes nothing then. A deleted
document leaves its record as a tombstone, lest an older event bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from core.versions import Version

PREDICTIONS = "predictions"
_LIVING: Mapping[str, Any] = {"deleted": False}


@dataclass(frozen=True)
class Score:
    """How many living documents have a prediction, and how many of those are right."""

    digits: int
    right: int

    @property
    def accuracy(self) -> float:
        """0 to 1; 0 where there is nothing yet."""
        return self.right / self.digits if self.digits else 0.0


class Board:
    """Writes are acknowledged by a majority. Each may be repeated."""

    def __init__(self, predictions: Collection[dict[str, Any]]) -> None:
        self._predictions = predictions

    def predicted(self, key: str, version: Version, label: int, predicted: int) -> bool:
        """A document is there. False where the board knows something newer of it."""
        return self._put(key, version, {"label": label, "predicted": predicted, "deleted": False})

    def deleted(self, key: str, version: Version) -> bool:
        """A document is gone. False where the board knows something newer of it."""
        return self._put(key, version, {"deleted": True})

    def forget_older(self, than: Version) -> None:
        """All documents whose last event is older are gone."""
        gone = {"deleted": True, "number": than.number, "pos": than.pos}
        self._predictions.update_many({"$nor": [_not_older(than)]}, {"$set": gone})

    def score(self) -> Score:
        """As of now, over all documents, whoever classified them."""
        right = {**_LIVING, "$expr": {"$eq": ["$label", "$predicted"]}}
        return Score(
            digits=self._predictions.count_documents(_LIVING),
            right=self._predictions.count_documents(right),
        )

    def labels(self) -> dict[str, int]:
        """The true label of each living document by its key."""
        return {record["_id"]: record["label"] for record in self._predictions.find(_LIVING)}

    def _put(self, key: str, version: Version, facts: Mapping[str, Any]) -> bool:
        record = {**facts, "number": version.number, "pos": version.pos}
        try:
            # A newer record is not found by the filter, and then stands in the insert's way.
            self._predictions.replace_one(
                {"_id": key, "$nor": [_newer(version)]}, record, upsert=True
            )
        except DuplicateKeyError:
            return False
        return True


def _newer(version: Version) -> dict[str, Any]:
    number, pos = version
    return {"$or": [{"number": {"$gt": number}}, {"number": number, "pos": {"$gt": pos}}]}


def _not_older(version: Version) -> dict[str, Any]:
    number, pos = version
    return {"$or": [{"number": {"$gt": number}}, {"number": number, "pos": {"$gte": pos}}]}
