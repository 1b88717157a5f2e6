"""Reads of points: each takes a request's body and gives the field `result` of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from local_stack.qdrant.errors import NotFound
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.filters import parse_filter
from local_stack.qdrant.points import point_id, point_ids, record, scored
from local_stack.qdrant.queries import (
    QueryReader,
    parse_order_by,
    payload_selector,
    vector_selector,
)

if TYPE_CHECKING:
    from local_stack.qdrant.catalog import Collection


def retrieve(collection: Collection, body: object) -> list[dict[str, Any]]:
    """Points by id; those that do not exist are left out."""
    fields = Fields(body, "the request")
    ids = point_ids(fields.need("ids", list))
    payload = payload_selector(fields.any("with_payload"), default=True)
    vector = vector_selector(fields.any("with_vector"))
    fields.done()
    return [record(one) for one in collection.shard.retrieve(ids, payload=payload, vector=vector)]


def retrieve_one(collection: Collection, identity: str) -> dict[str, Any]:
    """One point by the id in the path."""
    wanted = point_id(int(identity) if identity.isdecimal() else identity)
    for found in collection.shard.retrieve([wanted], payload=True, vector=True):
        return record(found)
    raise NotFound(f"Point with id {identity} does not exists!")


def scroll(collection: Collection, body: object) -> dict[str, Any]:
    """A page of points, by id or by a payload field."""
    fields = Fields(body, "the request")
    offset = fields.any("offset")
    request = edge.ScrollRequest(
        offset=None if offset is None else point_id(offset),
        limit=fields.count("limit", 10, least=1),
        filter=parse_filter(fields.any("filter")),
        with_payload=payload_selector(fields.any("with_payload"), default=True),
        with_vector=vector_selector(fields.any("with_vector")),
        order_by=parse_order_by(fields.any("order_by")),
    )
    fields.done()
    page, following = collection.shard.scroll(request)
    return {"points": [record(one) for one in page], "next_page_offset": following}


def count(collection: Collection, body: object) -> dict[str, int]:
    """How many points match, always exactly."""
    fields = Fields(body, "the request")
    condition = parse_filter(fields.any("filter"))
    fields.harmless(["exact"])
    fields.done()
    return {"count": collection.shard.count(edge.CountRequest(exact=True, filter=condition))}


def facet(collection: Collection, body: object) -> dict[str, Any]:
    """How many points have each value of a field that has an index, always exactly."""
    fields = Fields(body, "the request")
    request = edge.FacetRequest(
        fields.need("key", str),
        fields.count("limit", 10, least=1),
        exact=True,
        filter=parse_filter(fields.any("filter")),
    )
    fields.harmless(["exact"])
    fields.done()
    hits = collection.shard.facet(request)
    # The engine may list a value whose points are all deleted.
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits if hit.count]}


def query(collection: Collection, body: object) -> dict[str, Any]:
    """The hits of one query."""
    return _answers(collection, [body])[0]


def query_batch(collection: Collection, body: object) -> list[dict[str, Any]]:
    """The hits of each query."""
    fields = Fields(body, "the request")
    searches = fields.need("searches", list)
    fields.done()
    return _answers(collection, searches)


def _answers(collection: Collection, searches: list[object]) -> list[dict[str, Any]]:
    reader = QueryReader(collection.schema, collection.shard)
    requests = [reader.request(search) for search in searches]
    answers = collection.shard.query(requests)
    return [
        {"points": [_asked_for(request, scored(hit)) for hit in hits]}
        for request, hits in zip(requests, answers, strict=True)
    ]


def _asked_for(request: edge.QueryRequest, hit: dict[str, Any]) -> dict[str, Any]:
    # The engine leaves the vectors in that it compared for diversity (mmr).
    if request.with_vector is False:
        hit.pop("vector", None)
    return hit


def describe(collection: Collection, config: dict[str, Any]) -> dict[str, Any]:
    """A collection's state, configuration and payload indexes."""
    info = collection.shard.info()
    return {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": info.points_count,
        "indexed_vectors_count": info.indexed_vectors_count,
        "segments_count": info.segments_count,
        "config": config,
        "payload_schema": {
            name: _index(index, collection.indexes.get(name))
            for name, index in sorted(info.payload_schema.items())
        },
    }


def _index(info: edge.PayloadIndexInfo, schema: Any) -> dict[str, Any]:
    kind = str(info.data_type).rpartition(".")[2].lower()
    options = {"params": schema} if isinstance(schema, dict) else {}
    return {"data_type": kind, **options, "points": info.points}
