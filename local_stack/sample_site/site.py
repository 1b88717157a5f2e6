"""The running sample site, and how its pages are edited while it runs."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme

from crawlers.egress import ConnectProxy
from local_stack.sample_site.repositories import Repositories
from local_stack.sample_site.server import TlsServer

CONTENT = Path(__file__).parent / "content"
_WILDCARDS = ("*.medium.com", "*.substack.com", "*.sample.example")


@dataclass(frozen=True)
class Links:
    """What there is to crawl."""

    medium: str = (
        "https://medium.com/@writer/how-a-lighthouse-keeper-would-run-a-queue-4f1c9a7be203"
    )
    article: str = "https://blog.paul.example/notes/baking-bread-at-altitude"
    repository: str = "https://github.com/writer/tide-tables"
    challenge: str = "https://medium.com/@writer/a-page-behind-a-wall-0badc0ffee11"
    preview: str = "https://medium.com/@writer/letters-for-members-only-5e7ea5cafe42"
    missing: str = "https://blog.paul.example/notes/nothing-here"
    author: str = "Mira Sandoval"


@dataclass(frozen=True)
class SampleSite:
    """Handles to a running sample site."""

    proxy_url: str
    ca_file: Path
    content: Path
    repositories: Repositories
    links: Links = Links()

    def edit(self, link: str, old: str, new: str) -> None:
        """Replace text of a page, or of a repository's file by its `…/blob/main/<path>` link.

        Raises ValueError where `old` does not stand there.
        """
        file = self.path_of(link)
        text = file.read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{link} does not contain {old!r}")
        file.write_text(text.replace(old, new), encoding="utf-8")
        self.repositories.commit(file)

    def remove(self, link: str) -> None:
        """Remove a page, a repository's file, or a whole repository: it then answers 404."""
        file = self.path_of(link)
        if file.is_dir():
            self.repositories.remove(file)
            shutil.rmtree(file)
            return
        file.unlink()
        self.repositories.commit(file)

    def write(self, link: str, text: str) -> None:
        """Make or replace a page, or a repository's file."""
        file = self.path_of(link)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.repositories.commit(file)

    def path_of(self, link: str) -> Path:
        """The file behind a link."""
        parts = urlsplit(link)
        folder = self.content / (parts.hostname or "")
        path = unquote(parts.path).lstrip("/")
        owner, _, rest = path.partition("/blob/main/")
        if rest:
            return folder / owner / rest
        if (folder / path).is_dir():
            return folder / path
        return folder / f"{path}.html"


@contextmanager
def sample_site(
    state: Path, *, content: Path = CONTENT, host: str = "127.0.0.1", proxy_port: int = 0
) -> Iterator[SampleSite]:
    """Serve a copy of `content` in `state` until the context ends.

    The proxy listens on `host`:`proxy_port`; the TLS server stays on this machine.
    """
    copy = state / "content"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(content, copy)
    state.mkdir(parents=True, exist_ok=True)
    repositories = Repositories(copy / "github.com", state / "repositories")
    hosts = sorted(folder.name for folder in copy.iterdir() if folder.is_dir())
    ca_file = state / "ca.pem"
    certificate = _authority(ca_file, state / "ca.key").issue_cert(*hosts, *_WILDCARDS)
    with (
        TlsServer(certificate, copy, repositories.folder) as server,
        ConnectProxy(_only(set(hosts), server.port), host, proxy_port) as proxy,
    ):
        yield SampleSite(proxy.url, ca_file, copy, repositories)


def _authority(certificate: Path, key: Path) -> trustme.CA:
    """The authority of this state folder: a restart keeps it, so that crawlers still trust it."""
    if certificate.is_file() and key.is_file():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="Sample site, for tests only")
    key.touch(mode=0o600)
    authority.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(certificate))
    return authority


def _only(hosts: set[str], port: int) -> _Dialler:
    return _Dialler(frozenset(hosts), port)


@dataclass(frozen=True)
class _Dialler:
    """Dials the TLS server for the names of the site; whatever else is asked for is refused."""

    hosts: frozenset[str]
    tls_port: int

    def __call__(self, host: str, port: int) -> socket.socket:
        if host not in self.hosts or port != 443:
            raise PermissionError(f"{host}:{port} is not part of the sample site")
        return socket.create_connection(("127.0.0.1", self.tls_port), timeout=10)
