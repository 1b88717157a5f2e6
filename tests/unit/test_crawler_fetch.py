"""The plain fetcher against a transport that misbehaves."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from core.config import CrawlerConfig
from core.errors import ConfigurationError, MissingDependency
from crawlers.fetch import Fetcher
from crawlers.page import Page, usable
from crawlers.results import FetchFailed, LinkRefused, PageBlocked, PageGone
from crawlers.robots import Robots
from crawlers.trust import browser_trust, tls_context

CONFIG = CrawlerConfig(proxy=None, ca_file=None, host="127.0.0.1", port=9010)
PAGE = "https://pages.example/a"
Answer = Callable[[httpx.Request], httpx.Response]
Make = Callable[[Answer], Fetcher]


@pytest.fixture
def fetcher_of() -> Iterator[Make]:
    """Makes fetchers on a pretended network, and closes them."""
    made: list[Fetcher] = []

    def make(answer: Answer) -> Fetcher:
        made.append(
            Fetcher(CONFIG, transport=httpx.MockTransport(answer), max_bytes=10_000, max_seconds=5)
        )
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


def test_it_says_who_asks(fetcher_of: Make) -> None:
    """The user agent names the crawler and its version."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["user-agent"])
        return httpx.Response(200, html="<p>ok")

    fetcher_of(answer).read(PAGE)
    assert seen[0].startswith("llm-twin/")


@pytest.mark.parametrize("to", ["http://169.254.169.254/", "file:///etc/passwd", "//localhost/"])
def test_each_redirect_is_judged(fetcher_of: Make, to: str) -> None:
    """A page that redirects to an internal address is not followed."""
    fetcher = fetcher_of(lambda _: httpx.Response(302, headers={"location": to}))
    with pytest.raises(LinkRefused):
        fetcher.read(PAGE)


def test_a_redirect_loop_ends(fetcher_of: Make) -> None:
    """Redirects are followed five times and no more."""
    fetcher = fetcher_of(lambda _: httpx.Response(301, headers={"location": "/b"}))
    with pytest.raises(FetchFailed, match="redirects"):
        fetcher.read(PAGE)


def test_a_large_page_is_cut_off(fetcher_of: Make) -> None:
    """A page beyond the limit is refused while it arrives."""
    fetcher = fetcher_of(lambda _: httpx.Response(200, html="a" * 20_000))
    with pytest.raises(FetchFailed, match="larger"):
        fetcher.read(PAGE)


def test_a_compressed_bomb_is_cut_off(fetcher_of: Make) -> None:
    """The limit counts what a small compressed body unpacks to."""
    body = gzip.compress(b"a" * 1_000_000)
    headers = {"content-encoding": "gzip", "content-type": "text/html"}
    fetcher = fetcher_of(lambda _: httpx.Response(200, content=body, headers=headers))
    with pytest.raises(FetchFailed, match="larger"):
        fetcher.read(PAGE)


def test_other_content_is_refused(fetcher_of: Make) -> None:
    """A link to a file that is no page says so."""
    fetcher = fetcher_of(
        lambda _: httpx.Response(200, content=b"%PDF", headers={"content-type": "application/pdf"})
    )
    with pytest.raises(LinkRefused, match="application/pdf"):
        fetcher.read(PAGE)


def test_busy_is_tried_again_after_the_asked_pause(fetcher_of: Make) -> None:
    """A 429 with Retry-After is asked again, and its page is then read."""
    answers = iter(
        [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(200, html="<p>ok")]
    )
    assert fetcher_of(lambda _: next(answers)).read(PAGE).status == 200


def test_absence_is_not_tried_again(fetcher_of: Make) -> None:
    """A 404 is an answer: one request, and the page is gone."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(404, html="nothing")

    with pytest.raises(PageGone):
        usable(fetcher_of(answer).read(PAGE))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ("été 中文".encode(), "text/html; charset=utf-8"),
        (b'<meta charset="iso-8859-1">\xe9t\xe9', "text/html"),
        ("été".encode("utf-16"), "text/html"),
    ],
)
def test_accents_survive_any_charset(fetcher_of: Make, body: bytes, header: str) -> None:
    """The charset comes from the header, the byte order mark, or the page."""
    fetcher = fetcher_of(
        lambda _: httpx.Response(200, content=body, headers={"content-type": header})
    )
    assert "été" in fetcher.read(PAGE).html


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/@w/text-2cc6bb01141f", True), ("/@w/text-2cc6bb01141f?source=rss", False), ("/m/x", False)],
)
def test_robots_are_obeyed(fetcher_of: Make, path: str, allowed: bool) -> None:
    """Medium's own rules allow the clean link and forbid the one with tracking."""
    rules = "User-Agent: *\nDisallow: /m/\nDisallow: /*/*source=\n"
    robots = Robots(fetcher_of(lambda _: httpx.Response(200, text=rules)))
    if allowed:
        robots.check(f"https://medium.com{path}")
        return
    with pytest.raises(LinkRefused, match=r"robots\.txt"):
        robots.check(f"https://medium.com{path}")


@pytest.mark.parametrize(("status", "passes"), [(404, True), (403, True), (501, False)])
def test_missing_robots_allow_and_broken_ones_do_not(
    fetcher_of: Make, status: int, passes: bool
) -> None:
    """RFC 9309: a site without rules may be read; one whose rules fail may not, for now."""
    robots = Robots(fetcher_of(lambda _: httpx.Response(status, text="")))
    if passes:
        robots.check(PAGE)
        return
    with pytest.raises(FetchFailed):
        robots.check(PAGE)


@pytest.mark.parametrize(
    "page",
    [
        Page(url=PAGE, status=200, html="<title>Just a moment...</title>"),
        Page(url=PAGE, status=200, html="x", headers={"cf-mitigated": "challenge"}),
        Page(url=PAGE, status=403, html="no"),
        Page(url=PAGE, status=999, html="no"),
        Page(url=PAGE, status=200, html="<script>window._cf_chl_opt={}</script>"),
        Page(url=PAGE, status=200, html="<title>Privacy error</title>"),
        Page(url="https://www.linkedin.com/authwall?x=1", status=200, html="join"),
    ],
)
def test_walls_are_recognised(page: Page) -> None:
    """A challenge, a login wall or a browser's error page is never taken for the page."""
    with pytest.raises(PageBlocked):
        usable(page)


def test_an_article_about_challenges_is_no_challenge() -> None:
    """A long page may quote a challenge's markup."""
    page = Page(url=PAGE, status=200, html="<title>On walls</title>_cf_chl_opt" + "text " * 9000)
    assert usable(page) is page


def test_the_browser_s_other_content_is_refused() -> None:
    """A file that a browser can show is no page either."""
    with pytest.raises(LinkRefused, match="application/pdf"):
        usable(Page(url=PAGE, status=200, html="x", content_type="application/pdf"))


def test_missing_certutil_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trust for the browser cannot be set up, the error names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="libnss3-tools"):
        browser_trust(tmp_path / "ca.pem", tmp_path)


def test_a_file_without_certificates_is_a_clear_error(tmp_path: Path) -> None:
    """CRAWLER_CA_FILE must hold a certificate; what does not is named at the start."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="CRAWLER_CA_FILE"):
        tls_context(file)
