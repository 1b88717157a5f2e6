"""One group of hits for each value of a payload field, the best hits of the best groups.

As Qdrant does it: first ask for more candidates until enough groups are full, leaving
out what was found, then fill those of the best groups that are not full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from local_stack.qdrant.errors import NotServed
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.filters import has_ids
from local_stack.qdrant.points import record, scored
from local_stack.qdrant.queries import QueryReader, payload_selector, vector_selector

if TYPE_CHECKING:
    from local_stack.qdrant.queries import Query
    from local_stack.qdrant.schema import Schema
    from local_stack.qdrant.shard import Shard

    Groups = dict[str | int, list[edge.ScoredPoint]]

_ROUNDS = 5


def query_groups(body: object, schema: Schema, shard: Shard) -> list[dict[str, Any]]:
    """The groups that a request asks for, best first."""
    fields = Fields(body, "the query")
    size, limit = fields.count("group_size", 3, least=1), fields.count("limit", 10, least=1)
    collector = _Collector(
        shard,
        QueryReader(schema, shard).query(fields, widen=size),
        fields.need("group_by", str),
        size,
        limit,
    )
    payload = payload_selector(fields.any("with_payload"), default=False)
    vector = vector_selector(fields.any("with_vector"))
    fields.done()
    if isinstance(collector.query.scoring, edge.OrderBy):
        raise NotServed("query groups ordered by a payload field")
    return _dressed(collector.best(), shard, payload, vector)


def values_at(payload: Any, path: list[str]) -> list[str | int]:
    """The texts and whole numbers at `path`; a list has each of its items."""
    if isinstance(payload, list):
        return [value for item in payload for value in values_at(item, path)]
    if path:
        return values_at(payload.get(path[0]), path[1:]) if isinstance(payload, dict) else []
    if isinstance(payload, str) or (isinstance(payload, int) and not isinstance(payload, bool)):
        return [payload]
    return []


class _Collector:
    def __init__(self, shard: Shard, query: Query, key: str, size: int, limit: int) -> None:
        self.query = query
        self._shard = shard
        self._key = key
        self._path = key.replace("[]", "").split(".")
        self._size = size
        self._limit = limit
        self._groups: Groups = {}
        self._seen: set[Any] = set()

    def best(self) -> Groups:
        for _ in range(_ROUNDS):
            full = [key for key, hits in self._groups.items() if len(hits) >= self._size]
            others = edge.Filter(must_not=self._any_of(full))
            if self._enough() or not self._ask(others):
                break
        for _ in range(_ROUNDS):
            lacking = [k for k, hits in self._ranked().items() if len(hits) < self._size]
            if not lacking or not self._ask(edge.Filter(should=self._any_of(lacking))):
                break
        return self._ranked()

    def _ask(self, narrowed: edge.Filter) -> bool:
        known = [edge.Filter(must_not=[has_ids(list(self._seen))])] if self._seen else []
        filled = edge.Filter(must_not=[edge.IsEmptyCondition(self._key)])
        count = self._limit * self._size
        request = self.query.request(count, 0, [self._key], False, filled, narrowed, *known)
        (hits,) = self._shard.query([request])
        for hit in hits:
            self._seen.add(hit.id)
            for value in dict.fromkeys(values_at(hit.payload, self._path)):
                self._groups.setdefault(value, []).append(hit)
        return bool(hits)

    def _any_of(self, keys: list[str | int]) -> list[Any]:
        texts = [key for key in keys if isinstance(key, str)]
        numbers = [key for key in keys if isinstance(key, int)]
        return [
            edge.FieldCondition(self._key, match=edge.MatchAny(values))
            for values in (texts, numbers)
            if values
        ]

    def _enough(self) -> bool:
        ranked = self._ranked().values()
        return len(ranked) >= self._limit and all(len(hits) >= self._size for hits in ranked)

    def _ranked(self) -> Groups:
        sign = 1 if self.query.smaller_is_better else -1
        groups = {
            key: sorted(hits, key=lambda hit: sign * hit.score)[: self._size]
            for key, hits in self._groups.items()
        }
        best = sorted(groups, key=lambda key: sign * groups[key][0].score)[: self._limit]
        return {key: groups[key] for key in best}


def _dressed(groups: Groups, shard: Shard, payload: Any, vector: Any) -> list[dict[str, Any]]:
    ids: list[Any] = list({hit.id: None for hits in groups.values() for hit in hits})
    stored = {r.id: record(r) for r in shard.retrieve(ids, payload=payload, vector=vector)}
    return [
        {
            "id": key,
            # A point that was deleted between the two reads is left out.
            "hits": [{**scored(hit), **stored[hit.id]} for hit in hits if hit.id in stored],
        }
        for key, hits in groups.items()
    ]
