"""Qdrant's REST API over a catalog.

Each route is a plain function of a `Call`. They run in threads, so a slow one holds
up neither health checks nor the others' input and output.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.logging import get_logger
from local_stack.qdrant import reads
from local_stack.qdrant.aliases import change_aliases
from local_stack.qdrant.config import shown
from local_stack.qdrant.errors import ApiError, BadRequest, EngineFailure, NotServed, engine_errors
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.groups import query_groups
from local_stack.qdrant.updates import parse_batch, parse_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from local_stack.qdrant.catalog import Catalog, Collection

    Endpoint = Callable[["Call"], Any]

# The API of qdrant-edge-py 0.9 is that of Qdrant 1.19 with parts of 1.20.
VERSION = {"title": "qdrant - the engine embedded by local_stack", "version": "1.19.0"}
_LARGEST_BODY = 32 * 1024 * 1024
# One node has one order of writes and one copy of the data, so these have nothing to decide.
_PARAMETERS = {"wait", "ordering", "timeout", "consistency"}

log = get_logger()


@dataclass(frozen=True)
class Call:
    """One request: where it points, its query parameters, and its body if it has one."""

    catalog: Catalog
    path: Mapping[str, str]
    parameters: Mapping[str, str]
    raw: bytes

    @property
    def collection(self) -> Collection:
        """The collection in the path, by its name or an alias."""
        return self.catalog.find(self.path["name"])

    @property
    def body(self) -> Any:
        """The body. Raises BadRequest where it is no JSON."""
        try:
            return from_json(self.raw, allow_inf_nan=False)
        except ValueError as error:
            raise BadRequest(f"the body is no JSON: {error}") from None

    @property
    def status(self) -> str:
        """Writes are done either way; who does not wait is told no more than that."""
        return "completed" if self.parameters.get("wait") == "true" else "acknowledged"


def build_app(catalog: Catalog) -> Starlette:
    """The HTTP application over `catalog`, which the caller opens and closes."""
    routes = [Route(path, _text(text)) for path, text in _HEALTH.items()]
    routes.append(Route("/", _version))
    by_path: dict[str, dict[str, Endpoint]] = {}
    for (method, path), endpoint in _ROUTES.items():
        by_path.setdefault(path, {})[method] = endpoint
    routes += [
        Route(path, _dispatch(catalog, endpoints), methods=_METHODS)
        for path, endpoints in by_path.items()
    ]
    routes.append(Route("/{rest:path}", _dispatch(catalog, {}), methods=_METHODS))
    return Starlette(routes=routes)


_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_HEALTH = {
    "/healthz": "healthz check passed",
    "/livez": "healthz check passed",
    "/readyz": "all shards are ready",
}


async def _version(_request: Request) -> Response:
    return JSONResponse(VERSION)


def _text(text: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return PlainTextResponse(text)

    return answer


def _dispatch(
    catalog: Catalog, endpoints: Mapping[str, Endpoint]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        raw = await request.body()
        call = Call(catalog, request.path_params, request.query_params, raw)
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = endpoints.get(method, _not_served(method, request.url.path))
        return await run_in_threadpool(_respond, endpoint, call)

    return answer


def _respond(endpoint: Endpoint, call: Call) -> Response:
    started = time.perf_counter()
    try:
        _check(call)
        with engine_errors():
            content, status = {"result": endpoint(call), "status": "ok"}, 200
    except EngineFailure as error:
        log.exception("engine_failed")
        content, status = {"status": {"error": str(error)}}, error.status
    except ApiError as error:
        content, status = {"status": {"error": str(error)}}, error.status
    content["time"] = time.perf_counter() - started
    return Response(to_json(content), status, media_type="application/json")


def _check(call: Call) -> None:
    if len(call.raw) > _LARGEST_BODY:
        raise BadRequest(
            f"JSON payload ({len(call.raw)} bytes) is larger than allowed "
            f"(limit: {_LARGEST_BODY} bytes)"
        )
    for name in call.parameters:
        if name not in _PARAMETERS:
            raise NotServed(f"the query parameter `{name}`")


def _not_served(method: str, path: str) -> Endpoint:
    def endpoint(_call: Call) -> Any:
        raise NotServed(f"{method} {path}")

    return endpoint


def _list_collections(call: Call) -> Any:
    return {"collections": [{"name": name} for name in sorted(call.catalog.state.collections)]}


def _create(call: Call) -> bool:
    call.catalog.create(call.path["name"], call.body)
    return True


def _update(call: Call) -> bool:
    call.catalog.update(call.path["name"], call.body)
    return True


def _delete(call: Call) -> bool:
    return call.catalog.delete(call.path["name"])


def _describe(call: Call) -> Any:
    collection = call.collection
    return reads.describe(collection, shown(collection.config))


def _exists(call: Call) -> Any:
    state, name = call.catalog.state, call.path["name"]
    return {"exists": name in state.collections or name in state.aliases}


def _change_aliases(call: Call) -> bool:
    fields = Fields(call.body, "the request")
    actions = fields.need("actions", list)
    fields.done()
    call.catalog.change_aliases(lambda state: change_aliases(state, actions))
    return True


def _aliases(call: Call) -> Any:
    return _alias_list(call, lambda _target: True)


def _aliases_of(call: Call) -> Any:
    own = call.collection.name
    return _alias_list(call, lambda target: target == own)


def _alias_list(call: Call, wanted: Callable[[str], bool]) -> Any:
    return {
        "aliases": [
            {"alias_name": alias, "collection_name": target}
            for alias, target in sorted(call.catalog.state.aliases.items())
            if wanted(target)
        ]
    }


def _create_index(call: Call) -> Any:
    fields = Fields(call.body, "the index")
    name, schema = fields.need("field_name", str), fields.any("field_schema")
    fields.done()
    if schema is None:
        raise NotServed("a payload index without `field_schema`")
    call.catalog.create_index(call.path["name"], name, schema)
    return {"operation_id": 0, "status": call.status}


def _delete_index(call: Call) -> Any:
    call.catalog.delete_index(call.path["name"], call.path["field"])
    return {"operation_id": 0, "status": call.status}


def _write(operation: str) -> Endpoint:
    def endpoint(call: Call) -> Any:
        collection = call.collection
        step = parse_update(operation, call.body, collection.schema)
        return {"operation_id": collection.shard.apply([step]), "status": call.status}

    return endpoint


def _write_batch(call: Call) -> Any:
    collection = call.collection
    steps = parse_batch(call.body, collection.schema)
    last = collection.shard.apply(steps)
    numbers = range(last - len(steps) + 1, last + 1)
    return [{"operation_id": number, "status": call.status} for number in numbers]


def _read(read: Callable[[Collection, Any], Any]) -> Endpoint:
    return lambda call: read(call.collection, call.body)


def _query_groups(call: Call) -> Any:
    collection = call.collection
    return {"groups": query_groups(call.body, collection.schema, collection.shard)}


def _point(call: Call) -> Any:
    return reads.retrieve_one(call.collection, call.path["id"])


_ONE = "/collections/{name}"
_POINTS = f"{_ONE}/points"
_ROUTES: dict[tuple[str, str], Endpoint] = {
    ("GET", "/collections"): _list_collections,
    ("POST", "/collections/aliases"): _change_aliases,
    ("GET", "/aliases"): _aliases,
    ("GET", _ONE): _describe,
    ("PUT", _ONE): _create,
    ("PATCH", _ONE): _update,
    ("DELETE", _ONE): _delete,
    ("GET", f"{_ONE}/exists"): _exists,
    ("GET", f"{_ONE}/aliases"): _aliases_of,
    ("PUT", f"{_ONE}/index"): _create_index,
    ("DELETE", f"{_ONE}/index/{{field:path}}"): _delete_index,
    ("PUT", _POINTS): _write("upsert"),
    ("POST", _POINTS): _read(reads.retrieve),
    ("POST", f"{_POINTS}/batch"): _write_batch,
    ("POST", f"{_POINTS}/scroll"): _read(reads.scroll),
    ("POST", f"{_POINTS}/count"): _read(reads.count),
    ("POST", f"{_POINTS}/delete"): _write("delete"),
    ("POST", f"{_POINTS}/payload"): _write("set_payload"),
    ("PUT", f"{_POINTS}/payload"): _write("overwrite_payload"),
    ("POST", f"{_POINTS}/payload/delete"): _write("delete_payload"),
    ("POST", f"{_POINTS}/payload/clear"): _write("clear_payload"),
    ("PUT", f"{_POINTS}/vectors"): _write("update_vectors"),
    ("POST", f"{_POINTS}/vectors/delete"): _write("delete_vectors"),
    ("POST", f"{_POINTS}/query"): _read(reads.query),
    ("POST", f"{_POINTS}/query/batch"): _read(reads.query_batch),
    ("POST", f"{_POINTS}/query/groups"): _query_groups,
    ("GET", f"{_POINTS}/{{id}}"): _point,
    ("POST", f"{_ONE}/facet"): _read(reads.facet),
}
