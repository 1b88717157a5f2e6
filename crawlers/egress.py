"""A CONNECT proxy in this process: the one door through which browser and git go out.

Page scripts can fetch, and git resolves names by itself, so checking a link's text is
not enough for them. Here each connection is dialled by the guard: the name is resolved
once, judged, and the judged address is connected. TLS stays between the two ends.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from core.logging import get_logger
from crawlers.guard import dial
from crawlers.results import FetchFailed, LinkRefused

Dial = Callable[[str, int], socket.socket]
_IDLE_SECONDS = 60.0
_HEAD_BYTES = 8192
_PORTS = (80, 443)


def guarded_dial(host: str, port: int) -> socket.socket:
    """Dial public addresses on the web's ports only. Raises LinkRefused or FetchFailed."""
    if port not in _PORTS:
        raise PermissionError(f"port {port}")
    return dial(host, port)


class ConnectProxy:
    """Listens on `host`:`port` (0 takes a free one) while it is entered."""

    def __init__(
        self, dialler: Dial = guarded_dial, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._server = _Server((host, port), dialler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What to give to `--proxy-server` or `http.proxy` on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], dialler: Dial) -> None:
        self.dialler = dialler
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends badly is the client's business."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(_IDLE_SECONDS)
        wanted = _wanted(_read_head(self.request))
        if wanted is None:
            self._answer(405, "Only CONNECT")
            return
        try:
            upstream = self.server.dialler(*wanted)
        except (LinkRefused, PermissionError):
            get_logger().debug("egress refused", host=wanted[0], port=wanted[1])
            self._answer(403, "Forbidden")
            return
        except (FetchFailed, OSError):
            self._answer(502, "Bad gateway")
            return
        with upstream:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _relay(self.request, upstream)

    def _answer(self, status: int, phrase: str) -> None:
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.request.sendall(head.encode())


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        received = client.recv(_HEAD_BYTES)
        if not received:
            break
        head += received
    return head


def _wanted(head: bytes) -> tuple[str, int] | None:
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or words[0] != "CONNECT":
        return None
    host, _, port = words[1].rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() and host else None


def _relay(left: socket.socket, right: socket.socket) -> None:
    """Copy both ways until both ends have said all, or nothing moves for a minute."""
    other = {left: right, right: left}
    open_ends = [left, right]
    while open_ends:
        ready, _, _ = select.select(open_ends, [], [], _IDLE_SECONDS)
        if not ready:
            return
        for end in ready:
            data = end.recv(65536)
            if data:
                other[end].sendall(data)
                continue
            open_ends.remove(end)
            with contextlib.suppress(OSError):
                other[end].shutdown(socket.SHUT_WR)
