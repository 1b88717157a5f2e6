"""One TLS server for all names: files by host and path, repositories by `git http-backend`."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import trustme

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".xml": "application/xml",
}
_LONGEST_BODY = 10_000_000


class TlsServer:
    """Serves `content` and `repositories` on a free port of this machine while entered."""

    def __init__(
        self, certificate: trustme.LeafCert, content: Path, repositories: Path, port: int = 0
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._server = _Server(("127.0.0.1", port), context, content, repositories)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext, content: Path, repositories: Path
    ) -> None:
        self.context = context
        self.content = content
        self.repositories = repositories
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends badly is the client's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        """The handshake happens in the connection's own thread."""
        self.request.settimeout(self.timeout)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        """The base closes the plain socket only."""
        super().finish()
        self.request.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Silent: what is served shows in what is crawled."""

    def do_GET(self) -> None:
        """A page, or git's first question."""
        if ".git/" in self.path:
            self._git(b"")
            return
        file = self._file()
        if file is None:
            self._answer(404, {"Content-Type": _TYPES[".html"]}, _NOT_FOUND)
            return
        meta = file.with_name(f"{file.name}.meta.json")
        told = json.loads(meta.read_text()) if meta.is_file() else {}
        headers = {"Content-Type": _TYPES.get(file.suffix, "application/octet-stream")}
        self._answer(
            told.get("status", 200), {**headers, **told.get("headers", {})}, file.read_bytes()
        )

    def do_POST(self) -> None:
        """Git's second question."""
        self._git(self._body())

    def _file(self) -> Path | None:
        """The file of this host and path; never one outside the host's folder."""
        host = self.headers.get("Host", "").partition(":")[0].lower()
        root = (self.server.content / host).resolve()
        path = unquote(urlsplit(self.path).path).lstrip("/")
        if not host or root.parent != self.server.content.resolve():
            return None
        for name in (path, f"{path}.html", f"{path}/index.html".lstrip("/")):
            file = (root / name).resolve()
            if name and file.is_file() and file.is_relative_to(root):
                return file
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            return self.rfile.read(min(length, _LONGEST_BODY))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _git(self, body: bytes) -> None:
        """The Common Gateway Interface, as far as git's own server program needs it."""
        parts = urlsplit(self.path)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            env=self._gateway(parts.path, parts.query, len(body)),
            capture_output=True,
            timeout=30,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split(" ")[0]) if head else 500
        self._answer(status, headers, content)

    def _gateway(self, path: str, query: str, length: int) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.server.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "REMOTE_ADDR": "127.0.0.1",
        }

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_NOT_FOUND = b"<!doctype html><html><head><title>Not found</title></head><body>404</body></html>"
