"""Metrics and health over HTTP, the same for every service.

    /metrics   what `registry` collects, as Prometheus reads it
    /livez     200 while the process works, else 503: start it anew
    /readyz    200 while it does what it is for, else 503 with the reason

A request costs the service a few milliseconds of a thread of its own. One that
dawdles is cut off: after some seconds, or at once where many come.
"""

from __future__ import annotations

import json
import socket
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from time import monotonic
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from core.logging import get_logger

# Called from a thread of the server, for each request. By name, what was looked at: None where
# it is well, else a sentence. Must not block.
Probe = Callable[[], Mapping[str, str | None]]

_MAX_REQUESTS = 16
_POLL_S = 0.2

log = get_logger()


def new_registry() -> CollectorRegistry:
    """A registry that knows this process: its memory, processor time and open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Histogram:
    """How many values fell below each bound. Cheap: one search and two additions a value.

    One thread observes. Any thread may read: under CPython a list is copied in one
    step, so that the counts agree with each other; `total` may be a value ahead.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._total

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound and how many values were not above it, as Prometheus has it."""
        count, found = 0, []
        names = [*map(repr, map(float, self._bounds)), "+Inf"]
        for bound, here in zip(names, self._counts.copy(), strict=True):
            count += here
            found.append((bound, float(count)))
        return found


class OperationsServer:
    """Serves metrics and health from its own threads. Open it with `with`; `close` is idempotent.

    Port 0 serves nothing. An address that cannot be had is a warning, and the service
    goes on: a second one on the same machine stands by without being watched. `request_s`
    is for a whole request: a client that sends or reads a byte now and then would
    otherwise hold its place for ever.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        live: Probe,
        ready: Probe,
        request_s: float = 10.0,
    ) -> None:
        self._address = (host, port)
        self._request_s = request_s
        self._routes = {
            "/metrics": partial(_metrics, registry),
            "/livez": partial(_health, live, "not live"),
            "/readyz": partial(_health, ready, "not ready"),
        }
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def serving(self) -> bool:
        """Whether somebody may ask."""
        return self._server is not None

    def __enter__(self) -> Self:
        host, port = self._address
        if not port:
            return self
        try:
            server = _Server(self._address, self._routes, self._request_s)
        except OSError as error:
            log.warning("http.not_served", host=host, port=port, reason=str(error))
            return self
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_S,), name="operations-http", daemon=True
        )
        self._thread.start()
        log.info("http.serving", host=host, port=port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut off who still asks."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        server.server_close()


# What a path answers: given the Accept header, the status, the content type and the body.
_Route = Callable[[str], tuple[HTTPStatus, str, bytes]]


def _metrics(registry: CollectorRegistry, accept: str) -> tuple[HTTPStatus, str, bytes]:
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


def _health(probe: Probe, failing: str, _accept: str) -> tuple[HTTPStatus, str, bytes]:
    checks = probe()
    well = all(problem is None for problem in checks.values())
    told = {
        "status": "ok" if well else failing,
        "checks": {name: problem or "ok" for name, problem in checks.items()},
    }
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(told).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0 ends the connection after each answer, whatever the client asks for.
    protocol_version = "HTTP/1.0"
    server_version, sys_version = "llm-twin", ""
    error_content_type, error_message_format = "text/plain", "%(code)d %(message)s\n"
    timeout = 5
    server: _Server

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            status, content_type, body = route(self.headers.get("Accept", ""))
        except Exception as error:  # noqa: BLE001 - whoever asks must not end who is asked
            log.warning("http.answer_failed", path=self.path[:50], reason=repr(error)[:200])
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self._answer(status, content_type, body)

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """A line for each scrape would tell nothing."""


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], routes: Mapping[str, _Route], request_s: float
    ) -> None:
        self.routes = routes
        self._request_s = request_s
        self._begun: dict[socket.socket, float] = {}
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(found[0][4][:2], _Handler)  # type: ignore[arg-type]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin another request; where there are too many, the one that dawdles longest ends."""
        if len(self._begun) >= _MAX_REQUESTS:
            oldest = next(iter(self._begun.copy()))
            self._begun.pop(oldest, None)
            _cut(oldest)
        self._begun[request] = monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Between requests: cut off those that take too long."""
        for request, begun in self._begun.copy().items():
            if monotonic() - begun > self._request_s:
                _cut(request)

    def shutdown_request(self, request: Any) -> None:
        """Every request ends here, answered or not."""
        self._begun.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and cut off those that are left."""
        super().server_close()
        for request in self._begun.copy():
            _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is no error of ours."""
        log.debug("http.request_broken")


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("http.gone_already")
