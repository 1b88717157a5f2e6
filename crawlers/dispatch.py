"""Reads one target and writes what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from core.logging import get_logger
from crawlers import article, links, medium, store
from crawlers.article import Article
from crawlers.github import crawl as github
from crawlers.github.clone import GitAccess
from crawlers.links import Platform, Target
from crawlers.page import Page, PageReader, usable
from crawlers.results import CrawlResult, LinkRefused, Status
from crawlers.robots import Robots
from crawlers.store import Database, Stored
from crawlers.users import User

NO_BROWSER = "No browser is installed; the plain fetcher read the page."


@dataclass(frozen=True, kw_only=True)
class Ways:
    """The ways out. `browser` is None where none is installed."""

    fetcher: PageReader
    browser: PageReader | None
    robots: Robots
    git: GitAccess


def read_and_store(database: Database, target: Target, user: User, ways: Ways) -> CrawlResult:
    """Crawl one target. The caller holds its lease. Raises what the parts raise."""
    handlers: dict[Platform, Callable[[], CrawlResult]] = {
        Platform.MEDIUM: lambda: _medium(database, target, user, ways),
        Platform.GITHUB: lambda: _github(database, target, user, ways),
        Platform.ARTICLE: lambda: _any_article(database, target, user, ways),
    }
    return handlers[target.platform]()


def _medium(database: Database, target: Target, user: User, ways: Ways) -> CrawlResult:
    log = get_logger()
    log.info("Starting scrapping article: %s", target.link, link=target.link)
    if ways.browser is None:
        log.warning("browser missing", remedy="apt-get install chromium-headless-shell")
    page = _read(ways, ways.browser or ways.fetcher, target)
    # A publication may have a domain of its own; the article's id stays.
    if target.identity.removeprefix("medium:") not in page.url:
        raise LinkRefused("Medium led to another page than the article.", reason="moved")
    stored = _store(database, target, user, medium.read(page), page)
    _log_stored("Finished scrapping Medium article", target, stored)
    return _result(target, stored, "" if ways.browser else NO_BROWSER)


def _any_article(database: Database, target: Target, user: User, ways: Ways) -> CrawlResult:
    log = get_logger()
    log.info(
        "No crawler found for %s. Defaulting to CustomArticleCrawler.",
        target.link,
        link=target.link,
    )
    log.info("Starting scrapping article: %s", target.link, link=target.link)
    page = _read(ways, ways.fetcher, target)
    stored = _store(database, target, user, article.extract(page), page)
    _log_stored("Finished scrapping custom article", target, stored)
    return _result(target, stored)


def _github(database: Database, target: Target, user: User, ways: Ways) -> CrawlResult:
    log = get_logger()
    log.info("Starting scrapping GitHub repository: %s", target.link, link=target.link)
    report = github.crawl(database, target, user, ways.git)
    log.info(
        "Finished scrapping GitHub repository: %s",
        target.link,
        link=target.link,
        entry_id=report.stored.id,
        written=report.written,
        deleted=report.deleted,
        skipped=report.skipped,
    )
    reason = f"{report.written} files written, {report.deleted} deleted, {report.skipped} skipped."
    return _result(target, report.stored, reason)


def _read(ways: Ways, reader: PageReader, target: Target) -> Page:
    """The page of a target, if the site lets crawlers read it where it is found in the end."""
    ways.robots.check(target.link)
    page = usable(reader.read(target.link))
    if page.url != target.link:
        ways.robots.check(links.canonical(page.url))
    return page


def _store(database: Database, target: Target, user: User, found: Article, page: Page) -> Stored:
    link = _stored_link(target, page)
    identity = target.identity
    if target.platform is Platform.ARTICLE:
        identity = links.identity_of(link)
    return store.save(
        database,
        "articles",
        target.identity,
        _fields(target, user, found, link),
        content_hash=found.hash,
        aliases=(identity,) if identity != target.identity else (),
    )


def _stored_link(target: Target, page: Page) -> str:
    """The page's own canonical link where it stays on the site; else where it was found."""
    if target.platform is not Platform.ARTICLE:
        return target.link
    named = article.canonical_link(page)
    try:
        link = links.canonical(urljoin(page.url, named)) if named else page.url
    except LinkRefused:
        return page.url
    same_site = urlsplit(link).hostname == urlsplit(page.url).hostname
    return link if same_site and urlsplit(link).path.strip("/") else page.url


def _fields(target: Target, user: User, found: Article, link: str) -> dict[str, Any]:
    return {
        "platform": "medium" if target.platform is Platform.MEDIUM else target.host,
        "link": link,
        "content": {
            "Title": found.title,
            "Subtitle": found.subtitle,
            "Content": found.text,
            "language": found.language,
        },
        "author_id": user.id,
        "author_full_name": user.name.full,
        "byline": found.author,
        "published_at": found.published,
    }


def _log_stored(phrase: str, target: Target, stored: Stored) -> None:
    if stored.status is Status.UNCHANGED:
        get_logger().info(
            "Article already exists in the database: %s",
            target.link,
            link=target.link,
            entry_id=stored.id,
        )
    get_logger().info(
        f"{phrase}: %s",
        target.link,
        link=target.link,
        entry_id=stored.id,
        status=stored.status.value,
    )


def _result(target: Target, stored: Stored, reason: str = "") -> CrawlResult:
    return CrawlResult(
        link=target.link,
        status=stored.status,
        reason=reason,
        collection=stored.collection,
        id=str(stored.id),
    )
