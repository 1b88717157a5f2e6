"""One call for every caller: links and a user's name in, one result for each link out.

    with open_crawler(settings) as crawler:
        results = crawler.crawl(["https://…"], user="Paul Iusztin")

A link that fails ends in its own result and never stops the others. What does stop them
is raised: MongoDB cannot be reached, or something is not installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pymongo.errors import ConnectionFailure, PyMongoError, WTimeoutError

from core import mongo
from core.errors import PoisonError, TerminalError, TransientError
from core.logging import get_logger
from crawlers import links, store, users
from crawlers.browser import Browser, find_browser
from crawlers.dispatch import Ways, read_and_store
from crawlers.egress import ConnectProxy
from crawlers.fetch import Fetcher
from crawlers.github.clone import GitAccess
from crawlers.links import Target
from crawlers.results import CrawlResult, LinkRefused, PageGone, Status
from crawlers.robots import Robots
from crawlers.store import Database
from crawlers.users import Name

if TYPE_CHECKING:
    from core.config import CrawlerConfig, MongoConfig, Settings

_STATUS_OF_REASON = {
    "blocked": Status.BLOCKED,
    "not_found": Status.NOT_FOUND,
    "preview": Status.PREVIEW,
    "unusable": Status.FAILED,
}
OnResult = Callable[[CrawlResult], None]


class MongoAccess:
    """Connects when first asked, and again after a failure. Safe to share between threads."""

    def __init__(self, config: MongoConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: mongo.Client | None = None

    def database(self) -> Database:
        """Both databases. Blocks a few seconds at most; raises ServiceUnavailable."""
        with self._lock:
            if self._client is None:
                self._client = mongo.connect(self._config, app="llm-twin-crawlers")
                get_logger().info("mongodb connected", address=self._config.address)
            return Database.of(self._client, self._config)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a lost connection into ServiceUnavailable."""
        try:
            yield
        except (ConnectionFailure, WTimeoutError) as error:
            raise mongo.explain(error, self._config) from error

    def close(self) -> None:
        """End the connection. Idempotent."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None


class Crawler:
    """Crawls links for as long as it is open. Safe to share between threads."""

    def __init__(self, access: MongoAccess, ways: Ways) -> None:
        self._access = access
        self._ways = ways

    def crawl(
        self, wanted: Iterable[str], user: str, on_result: OnResult | None = None
    ) -> list[CrawlResult]:
        """Crawl each link in turn; `on_result` sees each result as soon as there is one.

        Running it again is safe: what has not changed is not written. Raises UserInvalid,
        ServiceUnavailable, or MissingDependency.
        """
        name = users.parse_name(user)
        results = []
        for link in wanted:
            result = self._one(link, name)
            _log(result)
            results.append(result)
            if on_result:
                on_result(result)
        return results

    def _one(self, link: str, name: Name) -> CrawlResult:
        """The result carries the link as it was given, so that callers find theirs again."""
        shown = link if isinstance(link, str) else repr(link)
        try:
            target = links.parse(link)
        except LinkRefused as error:
            return CrawlResult(link=shown, status=Status.REFUSED, reason=str(error))
        with self._access.explained():
            database = self._access.database()
            return replace(self._crawl(database, target, name), link=shown)

    def _crawl(self, database: Database, target: Target, name: Name) -> CrawlResult:
        try:
            with store.lease(database, target.identity):
                try:
                    user = users.resolve(database, name)
                    return read_and_store(database, target, user, self._ways)
                except PageGone as error:
                    return _gone(database, target, error)
        except (TerminalError, ConnectionFailure):
            raise
        except PoisonError as error:
            return _failed(target, _STATUS_OF_REASON.get(error.reason, Status.REFUSED), str(error))
        except TransientError as error:
            return _failed(target, Status.FAILED, str(error))
        except PyMongoError as error:
            get_logger().exception("document not stored", link=target.link)
            kind = type(error).__name__
            return _failed(target, Status.FAILED, f"MongoDB refused the document: {kind}.")
        except Exception as error:  # noqa: BLE001  # one link never stops the others
            get_logger().exception("crawl failed", link=target.link)
            kind = type(error).__name__
            return _failed(target, Status.FAILED, f"An unexpected error: {kind}. See the log.")


def _gone(database: Database, target: Target, error: PageGone) -> CrawlResult:
    deleted = store.gone(database, target.identity)
    if deleted is None:
        return _failed(target, Status.NOT_FOUND, str(error))
    return CrawlResult(
        link=target.link,
        status=Status.DELETED,
        reason="The link was gone twice, so its document was deleted.",
        collection=deleted.collection,
        id=str(deleted.id),
    )


def _failed(target: Target, status: Status, reason: str) -> CrawlResult:
    return CrawlResult(link=target.link, status=status, reason=reason)


def _log(result: CrawlResult) -> None:
    get_logger().info(
        "link crawled",
        link=result.link,
        status=result.status.value,
        reason=result.reason,
        collection=result.collection,
        entry_id=result.id,
    )


@contextmanager
def open_crawler(settings: Settings) -> Iterator[Crawler]:
    """A crawler with its ways out; they, and the browser, are ended when the context ends.

    Reaches nothing yet: MongoDB is connected with the first link.
    """
    with ExitStack() as stack:
        access = MongoAccess(settings.mongo)
        stack.callback(access.close)
        ways = _ways(settings.crawlers, stack)
        yield Crawler(access, ways)


def _ways(config: CrawlerConfig, stack: ExitStack) -> Ways:
    fetcher = Fetcher(config)
    stack.callback(fetcher.close)
    proxy = config.proxy or stack.enter_context(ConnectProxy()).url
    files = find_browser()
    browser = Browser(files, config, proxy) if files else None
    if browser:
        stack.callback(browser.close)
    return Ways(
        fetcher=fetcher,
        browser=browser,
        robots=Robots(fetcher),
        git=GitAccess(proxy=proxy, ca_file=config.ca_file),
    )


def crawl(
    wanted: Iterable[str], user: str, settings: Settings, on_result: OnResult | None = None
) -> list[CrawlResult]:
    """Open a crawler for these links only. Raises what `Crawler.crawl` raises."""
    with open_crawler(settings) as crawler:
        return crawler.crawl(wanted, user, on_result)
