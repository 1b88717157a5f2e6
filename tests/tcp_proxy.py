"""A network that breaks on demand: a TCP proxy in front of one port of this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_BLOCK = 64 * 1024


class Proxy:
    """Passes bytes on, unless told otherwise. Use it with `with`.

    `delay_s` holds up each block of bytes by so much, in both directions.
    """

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[_Link] = []
        self._refuses = False
        self._swallows = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def cut(self) -> None:
        """Close every connection that is open now. New ones work."""
        links, self._links = self._links, []
        for link in links:
            link.close()

    def freeze(self) -> None:
        """Half-open: not a byte moves any more on the present connections. New ones work."""
        for link in self._links:
            link.moving.clear()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """The other side is gone: all is cut, and new connections end at once."""
        self._refuses = True
        self.cut()
        try:
            yield
        finally:
            self._refuses = False

    @contextlib.contextmanager
    def swallowing(self) -> Iterator[None]:
        """What the target answers is lost; then the connections are cut."""
        self._swallows = True
        try:
            yield
        finally:
            self.cut()
            self._swallows = False

    def carry(self, data: bytes, link: _Link, *, answer: bool) -> None:
        """Bring one block of bytes to the other side of `link`, or not."""
        time.sleep(self.delay_s)
        link.moving.wait()
        if not (answer and self._swallows):
            (link.client if answer else link.server).sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refuses:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._links.append(_Link(self, client, server))


class _Link:
    """One connection through the proxy, with a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.moving = threading.Event()
        self.moving.set()
        self._proxy = proxy
        self._threads = [
            threading.Thread(target=self._pump, args=(answer,), daemon=True)
            for answer in (False, True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both sides. Idempotent."""
        self._shut()
        self.moving.set()
        for thread in self._threads:
            thread.join()
        self.client.close()
        self.server.close()

    def _pump(self, answer: bool) -> None:
        source = self.server if answer else self.client
        with contextlib.suppress(OSError):
            while data := source.recv(_BLOCK):
                self._proxy.carry(data, self, answer=answer)
        self._shut()

    def _shut(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
