"""The crawler over HTTP: the course's Lambda call, and a plain one.

    POST /2015-03-31/functions/function/invocations   always 200; `statusCode` inside
    POST /crawl                                       the status as the HTTP status
    GET  /health

Both take {"user": "First Last", "link": "https://…"}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from core.errors import ConfigurationError, ServiceUnavailable, TwinError
from core.logging import get_logger
from crawlers.results import CrawlResult, Status, UserInvalid

INVOCATIONS = "/2015-03-31/functions/function/invocations"
DONE = "Link processed successfully"
_MAX_BODY = 64 * 1024
_CODES = {
    Status.REFUSED: 400,
    Status.BLOCKED: 403,
    Status.NOT_FOUND: 404,
    Status.PREVIEW: 422,
    Status.FAILED: 502,
}
Crawl = Callable[[Sequence[str], str], list[CrawlResult]]


class BadRequest(Exception):
    """A request that is answered without crawling."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, in either of the two shapes."""

    code: int
    body: str
    results: tuple[CrawlResult, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The course's shape."""
        results = [result.as_dict() for result in self.results]
        return {"statusCode": self.code, "body": self.body, "results": results}


class CrawlEndpoint:
    """Runs crawls in threads: `at_once` of them, `waiting` more in line, the rest told to wait."""

    def __init__(self, crawl: Crawl, *, at_once: int = 4, waiting: int = 32) -> None:
        self._crawl = crawl
        self._at_once = at_once
        self._most = at_once + waiting
        self._inside = 0
        self._limiter: CapacityLimiter | None = None

    async def answer(self, request: Request) -> Answer:
        """Check the request, crawl its link, and say what became of it. Never raises."""
        try:
            user, link = _read(await _body(request))
            return await self._bounded(user, link)
        except BadRequest as error:
            return Answer(code=error.code, body=str(error))

    async def _bounded(self, user: str, link: str) -> Answer:
        if self._inside >= self._most:
            raise BadRequest(503, "Too many crawls are waiting. Try again later.")
        self._inside += 1
        try:
            if self._limiter is None:
                self._limiter = CapacityLimiter(self._at_once)
            work = partial(_crawled, self._crawl, user, link)
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1


def create_app(crawl: Crawl, *, at_once: int = 4, waiting: int = 32) -> Starlette:
    """The service as an ASGI application around one crawling function."""
    endpoint = CrawlEndpoint(crawl, at_once=at_once, waiting=waiting)

    async def invoke(request: Request) -> JSONResponse:
        return JSONResponse((await endpoint.answer(request)).as_dict())

    async def plain(request: Request) -> JSONResponse:
        answer = await endpoint.answer(request)
        return JSONResponse(answer.as_dict(), status_code=answer.code)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route(INVOCATIONS, invoke, methods=["POST"]),
            Route("/crawl", plain, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


def _crawled(crawl: Crawl, user: str, link: str) -> Answer:
    try:
        results = crawl([link], user)
    except UserInvalid as error:
        return Answer(code=400, body=str(error))
    except (ServiceUnavailable, ConfigurationError) as error:
        get_logger().warning("crawl not possible", error=str(error), link=link)
        failed = CrawlResult(link=link, status=Status.FAILED, reason=str(error))
        return Answer(code=503, body=str(error), results=(failed,))
    except TwinError as error:
        get_logger().exception("crawl not possible", link=link)
        return Answer(code=500, body=str(error))
    except Exception:  # noqa: BLE001  # the caller gets an answer, the log the trace
        get_logger().exception("crawl failed", link=link)
        return Answer(code=500, body="An unexpected error. See the log of the crawlers.")
    return _answer(results)


def _answer(results: list[CrawlResult]) -> Answer:
    bad = next((result for result in results if not result.status.good), None)
    if bad is None:
        return Answer(code=200, body=DONE, results=tuple(results))
    return Answer(code=_CODES[bad.status], body=bad.reason, results=tuple(results))


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                raise BadRequest(413, f"The request is larger than {_MAX_BODY} bytes.")
    except ClientDisconnect:
        raise BadRequest(400, "The request was cut off.") from None
    return bytes(body)


def _read(body: bytes) -> tuple[str, str]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(400, 'The body is no JSON; send {"user": "…", "link": "…"}.') from None
    if not isinstance(data, dict):
        raise BadRequest(400, 'The body must be an object: {"user": "…", "link": "…"}.')
    return _field(data, "user"), _field(data, "link")


def _field(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if value is None:
        raise BadRequest(400, f'{name} is missing; send {{"user": "…", "link": "…"}}.')
    if not isinstance(value, str):
        raise BadRequest(400, f"{name} must be text, not {type(value).__name__}.")
    if not value.strip():
        raise BadRequest(400, f"{name} is empty.")
    return value
