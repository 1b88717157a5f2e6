"""The plain fetcher: HTTP/2, bounded in size, time and redirects, honest about who asks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpcore
import httpx
import tenacity
from bs4.dammit import UnicodeDammit

from crawlers import guard, links
from crawlers.page import HTML, Page, wrong_type
from crawlers.results import FetchFailed, LinkRefused
from crawlers.trust import tls_context

if TYPE_CHECKING:
    from core.config import CrawlerConfig

AGENT_NAME = "llm-twin"
USER_AGENT = f"{AGENT_NAME}/{version('llm-twin')} (reads its user's own publications)"
_TIMEOUT = httpx.Timeout(20.0, connect=guard.CONNECT_TIMEOUT)
_LONGEST_WAIT = 20.0
_TRIES = 3
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}


class Fetcher:
    """Reads pages without a browser. Safe to share between threads; close it once."""

    def __init__(
        self,
        config: CrawlerConfig,
        *,
        max_bytes: int = 5_000_000,
        max_redirects: int = 5,
        max_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._max_seconds = max_seconds
        self._client = httpx.Client(
            transport=transport or make_transport(config.proxy, config.ca_file),
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip, deflate"},
            timeout=_TIMEOUT,
            trust_env=False,
        )

    def close(self) -> None:
        """End all connections. Idempotent."""
        self._client.close()

    def read(self, link: str) -> Page:
        """Read an HTML page, following redirects that the guard allows.

        Blocks up to `max_seconds`. Any status is a page. Raises LinkRefused or FetchFailed.
        """
        return self.get(link, HTML)

    def get(self, link: str, types: tuple[str, ...]) -> Page:
        """The same for any of the content `types`; what has another type is refused."""
        deadline = time.monotonic() + self._max_seconds
        for _ in range(self._max_redirects + 1):
            link = links.checked(link)
            page = self._patiently(link, types, deadline)
            if page.status not in _REDIRECTS or "location" not in page.headers:
                return page
            link = urljoin(link, page.headers["location"])
        raise FetchFailed(f"More than {self._max_redirects} redirects.")

    def _patiently(self, link: str, types: tuple[str, ...], deadline: float) -> Page:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again)
            | tenacity.retry_if_result(lambda page: page.status in _RETRIED),
            stop=tenacity.stop_after_attempt(_TRIES) | _stop_at(deadline),
            wait=_wait,
            retry_error_callback=_last_answer,
        )
        page: Page = retrying(self._once, link, types, deadline)
        return page

    def _once(self, link: str, types: tuple[str, ...], deadline: float) -> Page:
        with _translated(), self._client.stream("GET", link) as response:
            html = ""
            if response.is_success:
                _check_type(response, types)
            if response.status_code not in _REDIRECTS:
                html = _decode(self._body(response, deadline), response.charset_encoding)
            return Page(
                url=link,
                status=response.status_code,
                html=html,
                headers=dict(response.headers),
                content_type=_content_type(response),
            )

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        """The body, decompressed, up to the limit: counted while it arrives."""
        parts = bytearray()
        for part in response.iter_bytes(65536):
            parts += part
            if len(parts) > self._max_bytes or response.num_bytes_downloaded > self._max_bytes:
                raise FetchFailed(f"The page is larger than {self._max_bytes} bytes.")
            if time.monotonic() > deadline:
                raise FetchFailed(f"The page took longer than {self._max_seconds:.0f} s.")
        return bytes(parts)


def make_transport(proxy: str | None, ca_file: Path | None) -> httpx.BaseTransport:
    """Through `proxy`, which then decides; else directly, each connection guarded."""
    context = tls_context(ca_file)
    if proxy:
        return httpx.HTTPTransport(verify=context, http2=True, proxy=proxy, trust_env=False)
    return GuardedTransport(context)


class GuardedTransport(httpx.HTTPTransport):
    """HTTP over connections that go to judged addresses only; the URL keeps its name."""

    def __init__(self, context: Any, resolver: guard.Resolver = guard.system_resolver) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, http2=True, network_backend=_GuardedBackend(resolver)
        )


class _GuardedBackend(httpcore.NetworkBackend):
    def __init__(self, resolver: guard.Resolver) -> None:
        self._resolver = resolver
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in guard.public_addresses(host, port, self._resolver):
            try:
                return self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(f"no connection to {host}") from failure


class _Again(FetchFailed):
    """A failure of the connection that another try may not meet."""


@contextmanager
def _translated() -> Iterator[None]:
    """httpx's errors as ours, without addresses in their text."""
    try:
        yield
    except httpx.ProxyError as error:
        if "403" in str(error):
            raise LinkRefused("The proxy does not let the crawler reach this host.") from error
        raise _Again("The proxy in CRAWLER_PROXY did not make the connection.") from error
    except httpx.TimeoutException as error:
        raise _Again("The site did not answer in time.") from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchFailed("The site's certificate is not trusted.") from error
        raise _Again("The connection to the site, or to CRAWLER_PROXY, failed.") from error
    except httpx.DecodingError as error:
        raise FetchFailed("The page's compression is broken.") from error


def _content_type(response: httpx.Response) -> str:
    header: str = response.headers.get("content-type", "")
    return header.partition(";")[0].strip().lower()


def _check_type(response: httpx.Response, types: tuple[str, ...]) -> None:
    found = _content_type(response)
    if found and found not in types:
        raise wrong_type(found)


def _decode(body: bytes, charset: str | None) -> str:
    """Header first, then byte order mark, then what the page says, then a guess."""
    known = [charset] if charset else []
    text = UnicodeDammit(body, known_definite_encodings=known, is_html=True).unicode_markup
    return text if text is not None else body.decode("utf-8", errors="replace")


def _stop_at(deadline: float) -> Any:
    return lambda state: time.monotonic() + (state.upcoming_sleep or 0.0) > deadline


_BACKOFF = tenacity.wait_exponential(multiplier=0.5, max=8.0) + tenacity.wait_random(0.0, 0.5)


def _wait(state: tenacity.RetryCallState) -> float:
    """What the site asks for in Retry-After, within reason; else a growing pause."""
    outcome = state.outcome
    if outcome is not None and not outcome.failed:
        asked = outcome.result().headers.get("retry-after", "")
        if asked.isdigit():
            return min(float(asked), _LONGEST_WAIT)
    return _BACKOFF(state)


def _last_answer(state: tenacity.RetryCallState) -> Any:
    """After the last try: its page, or its error."""
    if state.outcome is None:
        raise FetchFailed("The page was not read.")
    return state.outcome.result()
