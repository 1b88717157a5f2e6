"""Queries: nearest, by example, hybrid and formula, from REST's JSON to the engine's objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from local_stack.qdrant.errors import BadRequest, NotFound, NotServed
from local_stack.qdrant.fields import Fields, one_or_many
from local_stack.qdrant.filters import has_ids, parse_filter
from local_stack.qdrant.formulas import parse_formula
from local_stack.qdrant.points import dense, point_id, sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_stack.qdrant.points import PointId
    from local_stack.qdrant.schema import Schema
    from local_stack.qdrant.shard import Shard

_RRF_K = 2


def parse_order_by(data: Any) -> edge.OrderBy | None:
    """The order of a scroll or query by a payload field."""
    if data is None:
        return None
    fields = Fields({"key": data} if isinstance(data, str) else data, "order_by")
    directions = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
    direction = fields.take("direction", str, "asc")
    if direction not in directions:
        raise BadRequest(f"direction must be asc or desc, not {direction!r}")
    order = edge.OrderBy(fields.need("key", str), directions[direction], fields.any("start_from"))
    fields.done()
    return order


def payload_selector(data: Any, *, default: bool) -> Any:
    """Which payload fields to give back."""
    if data is None:
        return default
    if isinstance(data, bool | list):
        return data
    fields = Fields(data, "with_payload")
    include, exclude = fields.optional("include", list), fields.optional("exclude", list)
    fields.done()
    if include is not None and exclude is None:
        return edge.PayloadSelector.Include(include)
    if exclude is not None and include is None:
        return edge.PayloadSelector.Exclude(exclude)
    raise BadRequest("with_payload must name either include or exclude")


def vector_selector(data: Any) -> bool | list[str]:
    """Which vectors to give back."""
    if data is None:
        return False
    if isinstance(data, bool | list):
        return data
    raise BadRequest("with_vector must be true, false or a list of names")


@dataclass(frozen=True)
class Query:
    """A request before it is sent; `groups` sends variations of one."""

    scoring: Any
    prefetches: list[edge.Prefetch]
    condition: edge.Filter | None
    params: edge.SearchParams | None
    threshold: float | None
    smaller_is_better: bool = False

    def request(
        self, limit: int, offset: int, payload: Any, vector: Any, *extra: edge.Filter
    ) -> edge.QueryRequest:
        """As the engine takes it, narrowed by `extra`."""
        return edge.QueryRequest(
            limit=limit,
            offset=offset,
            query=self.scoring,
            prefetches=self.prefetches,
            with_vector=vector,
            with_payload=payload,
            filter=_all_of(self.condition, *extra),
            score_threshold=self.threshold,
            params=self.params,
        )


def _all_of(*filters: edge.Filter | None) -> edge.Filter | None:
    given = [one for one in filters if one is not None]
    if len(given) > 1:
        return edge.Filter(must=list(given))
    return given[0] if given else None


@dataclass
class _Examples:
    """Points that a query names by id: the answer leaves them out."""

    ids: list[PointId] = field(default_factory=list)


class QueryReader:
    """Reads the queries of one request. Looks up the vectors of points that they name."""

    def __init__(self, schema: Schema, shard: Shard) -> None:
        self._schema = schema
        self._shard = shard

    def query(self, fields: Fields, *, widen: int = 1) -> Query:
        """The fields that say what to look for. `widen` multiplies the limits of prefetches."""
        using = fields.take("using", str, "")
        scoring, examples = self._scoring(fields.any("query"), using)
        own = parse_filter(fields.any("filter"))
        leave_out = edge.Filter(must_not=[has_ids(examples.ids)]) if examples.ids else None
        vector = self._schema.dense.get(using)
        return Query(
            scoring,
            [self._prefetch(item, widen) for item in one_or_many(fields.any("prefetch"))],
            _all_of(own, leave_out),
            _search_params(fields.any("params")),
            fields.optional("score_threshold", float),
            smaller_is_better=isinstance(scoring, edge.Query)
            and vector is not None
            and vector.distance in (edge.Distance.Euclid, edge.Distance.Manhattan),
        )

    def request(self, data: object) -> edge.QueryRequest:
        """A whole query request."""
        fields = Fields(data, "the query")
        query = self.query(fields)
        request = query.request(
            fields.count("limit", 10),
            fields.count("offset", 0),
            payload_selector(fields.any("with_payload"), default=False),
            vector_selector(fields.any("with_vector")),
        )
        fields.done()
        return request

    def _prefetch(self, data: object, widen: int) -> edge.Prefetch:
        fields = Fields(data, "prefetch")
        query = self.query(fields, widen=widen)
        limit = fields.count("limit", 10) * widen
        fields.done()
        return edge.Prefetch(
            limit=limit,
            query=query.scoring,
            prefetches=query.prefetches,
            params=query.params,
            filter=query.condition,
            score_threshold=query.threshold,
        )

    def _scoring(self, data: Any, using: str) -> tuple[Any, _Examples]:
        examples = _Examples()
        if data is None:
            return None, examples
        if isinstance(data, dict):
            for name, build in self._kinds().items():
                if name in data:
                    fields = Fields(data, "query")
                    scoring = build(fields, using, examples)
                    fields.done()
                    return scoring, examples
        return edge.Query.Nearest(self._vector(data, using, examples), using), examples

    def _kinds(self) -> dict[str, Callable[[Fields, str, _Examples], Any]]:
        return {
            "nearest": self._nearest,
            "recommend": self._recommend,
            "discover": self._discover,
            "context": self._context,
            "order_by": lambda fields, *_: parse_order_by(fields.any("order_by")),
            "fusion": lambda fields, *_: _fusion(fields.need("fusion", str)),
            "rrf": lambda fields, *_: _rrf(Fields(fields.any("rrf"), "rrf")),
            "formula": lambda fields, *_: parse_formula(fields),
            "sample": lambda fields, *_: _sample(fields.need("sample", str)),
        }

    def _vector(self, data: Any, using: str, examples: _Examples) -> Any:
        if isinstance(data, list):
            if data and isinstance(data[0], list):
                return [dense(row) for row in data]
            return dense(data)
        if isinstance(data, dict):
            if "indices" in data:
                return sparse(data)
            raise NotServed(f"a query with {', '.join(data) or 'nothing in it'}")
        identity = point_id(data)
        examples.ids.append(identity)
        return self._stored_vector(identity, using)

    def _stored_vector(self, identity: PointId, using: str) -> Any:
        found = self._shard.retrieve([identity], payload=False, vector=True)
        if not found:
            raise NotFound(f"No point with id {identity} found")
        vector: Any = found[0].vector
        if using and isinstance(vector, dict):
            vector = vector.get(using)
        if vector is None or (isinstance(vector, dict) and not vector):
            raise BadRequest(f"point {identity} has no vector {using!r}")
        return vector

    def _nearest(self, fields: Fields, using: str, examples: _Examples) -> Any:
        vector = self._vector(fields.any("nearest"), using, examples)
        if "mmr" not in fields:
            return edge.Query.Nearest(vector, using)
        mmr = Fields(fields.any("mmr"), "mmr")
        diversity = mmr.take("diversity", float, 0.5)
        candidates = mmr.count("candidates_limit", 100)
        mmr.done()
        return edge.Mmr(vector, 1.0 - diversity, candidates, using)

    def _recommend(self, fields: Fields, using: str, examples: _Examples) -> Any:
        given = Fields(fields.any("recommend"), "recommend")
        positive = [self._vector(v, using, examples) for v in given.take("positive", list, [])]
        negative = [self._vector(v, using, examples) for v in given.take("negative", list, [])]
        strategy = given.take("strategy", str, "average_vector")
        given.done()
        if strategy == "average_vector":
            return edge.Query.Nearest(_average(positive, negative), using)
        query = edge.RecommendQuery(positive, negative)
        if strategy == "best_score":
            return edge.Query.RecommendBestScore(query, using)
        if strategy == "sum_scores":
            return edge.Query.RecommendSumScores(query, using)
        raise BadRequest(f"there is no strategy {strategy!r} of recommend")

    def _discover(self, fields: Fields, using: str, examples: _Examples) -> Any:
        given = Fields(fields.any("discover"), "discover")
        target = self._vector(given.any("target"), using, examples)
        pairs = self._pairs(given.any("context"), using, examples)
        given.done()
        return edge.Query.Discover(edge.DiscoverQuery(target, pairs), using)

    def _context(self, fields: Fields, using: str, examples: _Examples) -> Any:
        pairs = self._pairs(fields.any("context"), using, examples)
        return edge.Query.Context(edge.ContextQuery(pairs), using)

    def _pairs(self, data: Any, using: str, examples: _Examples) -> list[edge.ContextPair]:
        pairs = []
        for item in one_or_many(data):
            pair = Fields(item, "context")
            positive = self._vector(pair.any("positive"), using, examples)
            negative = self._vector(pair.any("negative"), using, examples)
            pair.done()
            pairs.append(edge.ContextPair(positive, negative))
        return pairs


def _average(positive: list[Any], negative: list[Any]) -> list[float]:
    """Qdrant's average_vector: the mean of positives, mirrored at it away from the negatives'."""
    if not positive:
        raise BadRequest("recommend needs at least one positive example for average_vector")
    if not all(isinstance(v, list) and not isinstance(v[0], list) for v in positive + negative):
        raise NotServed("recommend by average_vector with sparse or multiple vectors")
    near = [sum(column) / len(positive) for column in zip(*positive, strict=True)]
    if not negative:
        return near
    far = [sum(column) / len(negative) for column in zip(*negative, strict=True)]
    return [2 * a - b for a, b in zip(near, far, strict=True)]


def _fusion(name: str) -> Any:
    if name == "rrf":
        return edge.Fusion.Rrf(_RRF_K)
    if name == "dbsf":
        return edge.Fusion.Dbsf()
    raise BadRequest(f"fusion must be rrf or dbsf, not {name!r}")


def _rrf(fields: Fields) -> Any:
    rrf = edge.Fusion.Rrf(fields.count("k", _RRF_K, least=1), fields.optional("weights", list))
    fields.done()
    return rrf


def _sample(name: str) -> Any:
    if name != "random":
        raise BadRequest(f"sample must be random, not {name!r}")
    return edge.Sample.Random


def _search_params(data: object) -> edge.SearchParams | None:
    """Every search here is exact, so these cannot change an answer; `idf` could."""
    if data is None:
        return None
    fields = Fields(data, "params")
    fields.harmless(["hnsw_ef", "exact", "quantization", "indexed_only", "acorn"])
    fields.done()
    return edge.SearchParams(exact=True)
