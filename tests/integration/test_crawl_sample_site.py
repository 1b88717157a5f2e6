"""The whole sample site through the real browser, httpx and git, into a real MongoDB."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pymongo import MongoClient

from core.config import CrawlerConfig, Settings, load_settings
from crawlers.browser import Browser, find_browser
from crawlers.dispatch import NO_BROWSER, Ways
from crawlers.fetch import Fetcher
from crawlers.github.clone import GitAccess
from crawlers.http import DONE, INVOCATIONS
from crawlers.medium import read
from crawlers.results import CrawlResult, FetchFailed, LinkRefused, Status
from crawlers.robots import Robots
from crawlers.service import Crawler, MongoAccess, open_crawler
from crawlers.store import Database
from crawlers.users import parse_name, resolve
from local_stack.ports import accepts
from local_stack.sample_site import SampleSite, sample_site

if TYPE_CHECKING:
    from pymongo.change_stream import DatabaseChangeStream
    from pymongo.database import Database as MongoDatabase

    from local_stack.stack import LocalStack

pytestmark = [pytest.mark.stack, pytest.mark.browser]
GOLDEN = Path(__file__).parents[1] / "fixtures" / "crawler"
USER = "Mira Sandoval"
NEEDS_BROWSER = pytest.mark.skipif(find_browser() is None, reason="no browser is installed")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SampleSite]:
    """A sample site of this test alone."""
    with sample_site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def environment(infra: LocalStack, names: dict[str, str], site: SampleSite) -> dict[str, str]:
    """What a crawler's process needs to find this test's MongoDB and the sample site."""
    return {
        **infra.environment(),
        **names,
        "CRAWLER_PROXY": site.proxy_url,
        "CRAWLER_CA_FILE": str(site.ca_file),
    }


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The configuration that this environment gives."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(None)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's databases, dropped afterwards."""
    uri = settings.mongo.uri.get_secret_value()
    with MongoClient[dict[str, Any]](uri) as client:
        found = Database.of(client, settings.mongo)
        yield found
        client.drop_database(found.documents.name)
        client.drop_database(found.state.name)


@pytest.fixture
def crawler(settings: Settings, database: Database) -> Iterator[Crawler]:
    """A crawler with its real ways out."""
    with open_crawler(settings) as opened:
        yield opened


class Events:
    """The change events of a database since the last question, as the product would see them."""

    def __init__(self, documents: MongoDatabase[dict[str, Any]]) -> None:
        self._documents = documents
        self._stream: DatabaseChangeStream[dict[str, Any]] = documents.watch()
        self._count = 0

    def since(self) -> list[tuple[str, str]]:
        """Kind and collection of each event, up to a mark that is written now."""
        self._count += 1
        self._documents["marks"].insert_one({"_id": self._count})
        seen = []
        for event in self._stream:
            if event["ns"]["coll"] == "marks":
                break
            seen.append((event["operationType"], event["ns"]["coll"]))
        return seen

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


@pytest.fixture
def events(database: Database) -> Iterator[Events]:
    """What a change stream sees from now on."""
    watching = Events(database.documents)
    yield watching
    watching.close()


def _statuses(results: list[CrawlResult]) -> list[Status]:
    return [result.status for result in results]


@NEEDS_BROWSER
def test_each_kind_of_link_ends_as_it_should(
    site: SampleSite, crawler: Crawler, database: Database, events: Events
) -> None:
    """Articles and a repository are stored; walls, previews, absences and tricks are not."""
    links = site.links
    stored = crawler.crawl([links.medium, links.article, links.repository], USER)
    assert _statuses(stored) == [Status.INSERTED] * 3
    documents = database.documents
    assert len(events.since()) == 1 + 2 + 7 + 1
    others = crawler.crawl(
        [
            links.challenge,
            links.preview,
            links.missing,
            f"{links.repository}-of-nobody",
            "https://outside.example/a",
            "https://github.com@evil.example/a/b",
        ],
        USER,
    )
    assert _statuses(others) == [
        Status.BLOCKED,
        Status.PREVIEW,
        Status.NOT_FOUND,
        Status.NOT_FOUND,
        Status.REFUSED,
        Status.REFUSED,
    ]
    assert events.since() == []
    user = documents["users"].find_one({})
    assert user is not None
    assert (user["first_name"], user["last_name"]) == ("Mira", "Sandoval")
    medium = documents["articles"].find_one({"platform": "medium"})
    assert medium is not None
    assert medium["_id"] == stored[0].id
    assert (medium["author_id"], medium["author_full_name"]) == (user["_id"], USER)
    assert medium["link"] == links.medium
    assert medium["content"]["Title"] == "How a Lighthouse Keeper Would Run a Queue"
    assert medium["content"]["Content"] == (GOLDEN / "medium.md").read_text().strip()
    assert medium["content"]["language"] == "en"


def test_a_repository_is_its_files(site: SampleSite, crawler: Crawler, database: Database) -> None:
    """Each text file is one document with its text intact; what is no text is listed with why."""
    (result,) = crawler.crawl([site.links.repository], USER)
    documents = database.documents
    repository = documents["repositories"].find_one({"_id": result.id})
    assert repository is not None
    assert repository["name"] == "tide-tables"
    assert {skip["path"]: skip["reason"] for skip in repository["skipped"]} == {
        ".env": "file for secrets",
        "chart.bin": "kept in Git LFS",
        "docs/gauge.png": "binary",
        "passwords": "symbolic link",
    }
    assert "tides/predict.py" in repository["content"]["files"].split("\n")
    assert repository["content"]["README.md"].startswith("# tide-tables")
    files = {file["path"]: file for file in documents["repository_files"].find()}
    source = site.path_of(f"{site.links.repository}/blob/main/tides/predict.py")
    assert files["tides/predict.py"]["content"] == source.read_text()
    assert files["tides/predict.py"]["repository_id"] == result.id
    assert "[secret:aws-access-key]" in files["deploy.sh"]["content"]
    assert "14.765" not in files["notebooks/springs.ipynb"]["content"]
    assert files["docs/method.md"]["link"] == f"{site.links.repository}/blob/main/docs/method.md"


@NEEDS_BROWSER
def test_an_edit_is_one_update_and_the_rest_is_silence(
    site: SampleSite, crawler: Crawler, events: Events
) -> None:
    """The same again writes nothing; an edited page or file is exactly one change."""
    links = site.links
    everything = [links.medium, links.article, links.repository]
    crawler.crawl(everything, USER)
    events.since()
    assert _statuses(crawler.crawl(everything, USER)) == [Status.UNCHANGED] * 3
    assert events.since() == []
    site.edit(links.medium, "copper barrel", "iron chest")
    site.edit(links.article, "three percent", "four percent")
    site.edit(f"{links.repository}/blob/main/tides/predict.py", "six minutes", "ten minutes")
    assert _statuses(crawler.crawl(everything, USER)) == [Status.UPDATED] * 3
    assert events.since() == [
        ("update", "articles"),
        ("update", "articles"),
        ("update", "repository_files"),
    ]
    site.remove(f"{links.repository}/blob/main/docs/method.md")
    crawler.crawl([links.repository], USER)
    assert events.since() == [("delete", "repository_files"), ("update", "repositories")]


def test_what_is_gone_twice_is_deleted_once(
    site: SampleSite, crawler: Crawler, events: Events
) -> None:
    """A link that answers 404 twice takes its document with it; what comes back is new."""
    link = site.links.article
    text = site.path_of(link).read_text()
    crawler.crawl([link], USER)
    events.since()
    site.remove(link)
    assert _statuses(crawler.crawl([link] * 3, USER)) == [
        Status.NOT_FOUND,
        Status.DELETED,
        Status.NOT_FOUND,
    ]
    assert events.since() == [("delete", "articles")]
    site.write(link, text)
    assert _statuses(crawler.crawl([link], USER)) == [Status.INSERTED]


def test_a_repository_that_is_gone_takes_its_files_along(
    site: SampleSite, crawler: Crawler, database: Database
) -> None:
    """After two absences neither the repository nor a file of it is left."""
    crawler.crawl([site.links.repository], USER)
    site.remove(site.links.repository)
    results = crawler.crawl([site.links.repository] * 2, USER)
    assert _statuses(results) == [Status.NOT_FOUND, Status.DELETED]
    assert database.documents["repositories"].count_documents({}) == 0
    assert database.documents["repository_files"].count_documents({}) == 0


def test_crawls_at_once_make_one_document_and_one_user(
    site: SampleSite, settings: Settings, database: Database, events: Events
) -> None:
    """Four crawlers that start together write one user, one article, and no update."""
    results: list[CrawlResult] = []

    def work() -> None:
        with open_crawler(settings) as one:
            results.extend(one.crawl([site.links.article], "Zoë Zimmer"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(_statuses(results)) == [Status.INSERTED, *[Status.UNCHANGED] * 3]
    assert len({result.id for result in results}) == 1
    assert sorted(events.since()) == [("insert", "articles"), ("insert", "users")]


def test_a_lost_write_is_repaired_by_the_next_crawl(
    site: SampleSite, crawler: Crawler, database: Database, events: Events
) -> None:
    """Whichever of state and documents a crash lost, crawling again makes both whole."""
    links = [site.links.article, site.links.repository]
    first = crawler.crawl(links, USER)
    database.state["crawl_identities"].delete_many({})
    events.since()
    assert [r.id for r in crawler.crawl(links, USER)] == [r.id for r in first]
    assert {kind for kind, _ in events.since()} <= {"update"}
    database.documents["articles"].delete_many({})
    database.documents["repository_files"].delete_one({"path": "docs/method.md"})
    again = crawler.crawl(links, USER)
    assert _statuses(again) == [Status.INSERTED, Status.UPDATED]
    assert [r.id for r in again] == [r.id for r in first]
    assert database.documents["repository_files"].count_documents({}) == 7


def test_a_known_user_is_used_whoever_wrote_it(database: Database) -> None:
    """A user document of another program, with any kind of `_id`, is found by its name."""
    database.documents["users"].insert_one({"_id": 7, "first_name": "Paul", "last_name": "Iusztin"})
    assert resolve(database, parse_name("Paul Iusztin")).id == 7
    assert resolve(database, parse_name("paul iusztin")).name.full == "Paul Iusztin"
    assert database.documents["users"].count_documents({}) == 1


def test_without_a_browser_the_plain_fetcher_says_so(
    site: SampleSite, settings: Settings, database: Database
) -> None:
    """Where no browser is installed the page is read plainly, and the result says it."""
    config = settings.crawlers
    fetcher, access = Fetcher(config), MongoAccess(settings.mongo)
    ways = Ways(
        fetcher=fetcher,
        browser=None,
        robots=Robots(fetcher),
        git=GitAccess(proxy=site.proxy_url, ca_file=config.ca_file),
    )
    try:
        (result,) = Crawler(access, ways).crawl([site.links.medium], USER)
    finally:
        fetcher.close()
        access.close()
    assert (result.status, result.reason) == (Status.INSERTED, NO_BROWSER)


@NEEDS_BROWSER
def test_the_browser_runs_scripts_and_goes_nowhere_else(site: SampleSite, tmp_path: Path) -> None:
    """Script-built text is read; other hosts, loopback and untrusted certificates are not."""
    files = find_browser()
    assert files is not None
    config = CrawlerConfig(proxy=site.proxy_url, ca_file=site.ca_file, host="127.0.0.1", port=9010)
    browser = Browser(files, config, site.proxy_url)
    try:
        assert "flicker" in read(browser.read(site.links.medium)).text
        assert browser.read(site.links.missing).status == 404
        for link in ("https://outside.example/", "https://127.0.0.1/"):
            with pytest.raises(LinkRefused):
                browser.read(link)
    finally:
        browser.close()
    untrusting = Browser(files, replace(config, ca_file=None), site.proxy_url)
    try:
        with pytest.raises(FetchFailed, match="certificate"):
            untrusting.read(site.links.medium)
    finally:
        untrusting.close()


@NEEDS_BROWSER
def test_a_killed_service_leaves_no_browser(
    site: SampleSite, environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    """The service answers the course's call; kill -9 then ends browser, driver and folder too."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    port = _free_port()
    service = _service({**environment, "TMPDIR": str(scratch), "CRAWLER_PORT": str(port)})
    try:
        _wait(lambda: accepts(port), "the service does not listen")
        said = httpx.post(
            f"http://127.0.0.1:{port}{INVOCATIONS}",
            json={"user": USER, "link": site.links.medium},
            timeout=60,
        ).json()
        assert (said["statusCode"], said["body"]) == (200, DONE)
        assert database.documents["articles"].find_one({"_id": said["results"][0]["id"]})
        assert list(scratch.glob("crawler-browser-*"))
        assert _processes(scratch)
    finally:
        service.send_signal(signal.SIGKILL)
        output, _ = service.communicate(timeout=10)
    _wait(lambda: not _processes(scratch), "the browser outlived the service")
    _wait(lambda: not list(scratch.iterdir()), "a folder was left behind")
    lines = [json.loads(line)["event"] for line in output.splitlines()]
    assert f"Starting scrapping article: {site.links.medium}" in lines


def test_the_service_starts_without_mongodb_and_ends_on_sigterm(site: SampleSite) -> None:
    """Without MongoDB the service listens, answers 503, and ends with status 0 when told to."""
    port = _free_port()
    service = _service(
        {
            "MONGO_DATABASE_HOST": f"mongodb://127.0.0.1:{_free_port()}/",
            "CRAWLER_PROXY": site.proxy_url,
            "CRAWLER_PORT": str(port),
        }
    )
    try:
        _wait(lambda: accepts(port), "the service does not listen")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/crawl",
            json={"user": USER, "link": site.links.article},
            timeout=30,
        )
        assert answer.status_code == 503
        assert answer.json()["results"][0]["status"] == "failed"
    finally:
        service.terminate()
        service.communicate(timeout=20)
    assert service.returncode == 0


def _service(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "crawlers"],
        env={**os.environ, **environment, "LOG_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _processes(mark: Path) -> list[int]:
    """Live processes whose environment names a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Any, complaint: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)
