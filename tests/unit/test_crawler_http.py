"""The HTTP service's contract, around a crawling function of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from core.errors import ServiceUnavailable
from crawlers.http import DONE, INVOCATIONS, Crawl, create_app
from crawlers.results import CrawlResult, Status, UserInvalid
from crawlers.users import parse_name

BODY = {"user": "Paul Iusztin", "link": "https://a.example/x"}


def _ending_in(status: Status) -> Crawl:
    def crawl(links: Sequence[str], user: str) -> list[CrawlResult]:
        return [CrawlResult(link=links[0], status=status, reason="why", collection="c", id="1")]

    return crawl


def _raising(error: Exception) -> Crawl:
    def crawl(links: Sequence[str], user: str) -> list[CrawlResult]:
        raise error

    return crawl


@pytest.mark.parametrize("status", Status)
def test_each_status_has_its_code(status: Status) -> None:
    """The course's call is always HTTP 200 with the code inside; /crawl says it as HTTP."""
    with TestClient(create_app(_ending_in(status))) as client:
        lambda_shape = client.post(INVOCATIONS, json=BODY)
        plain = client.post("/crawl", json=BODY)
    said = lambda_shape.json()
    assert lambda_shape.status_code == 200
    assert said["statusCode"] == plain.status_code
    assert (said["statusCode"] == 200) == status.good
    assert said["body"] == (DONE if status.good else "why")
    assert said["results"] == [
        {
            "link": BODY["link"],
            "status": status.value,
            "reason": "why",
            "collection": "c",
            "id": "1",
        }
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"user": "a"}',
        b'{"link": "https://a.example"}',
        b'{"user": null, "link": "https://a.example"}',
        b'{"user": 7, "link": "https://a.example"}',
        b'{"user": "a", "link": ["https://a.example"]}',
        b'{"user": "", "link": "https://a.example"}',
        b'{"user": "a", "link": " "}',
        b"[" * 60_000,
    ],
)
def test_bad_requests_say_what_is_wrong(body: bytes) -> None:
    """Whatever is sent that is no request gets a 400 with a sentence, and nothing is crawled."""
    with TestClient(create_app(_raising(AssertionError()))) as client:
        said = client.post(INVOCATIONS, content=body).json()
        assert client.post("/crawl", content=body).status_code == 400
    assert said["statusCode"] == 400
    assert said["body"].endswith(".")


def test_a_large_body_is_cut_off() -> None:
    """A body beyond the limit is answered without being kept."""
    with TestClient(create_app(_raising(AssertionError()))) as client:
        assert client.post("/crawl", content=b"x" * 100_000).status_code == 413


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceUnavailable("MongoDB", "localhost:30001", "refused"), 503),
        (UserInvalid("user must be a name."), 400),
        (RuntimeError("a secret detail"), 500),
    ],
)
def test_trouble_is_answered_in_shape(error: Exception, code: int) -> None:
    """A missing MongoDB is a 503, and an unexpected error shows no detail."""
    with TestClient(create_app(_raising(error))) as client:
        said = client.post(INVOCATIONS, json=BODY).json()
    assert said["statusCode"] == code
    assert "secret" not in said["body"]


def test_health_is_answered_without_mongodb() -> None:
    """The service is up as soon as it listens."""
    with TestClient(create_app(_raising(AssertionError()))) as client:
        assert client.get("/health").status_code == 200


def test_crawls_are_bounded_and_the_rest_told_to_wait() -> None:
    """With one place and none in line, a second crawl at once is answered 503."""
    started, go_on = threading.Event(), threading.Event()

    def slow(links: Sequence[str], user: str) -> list[CrawlResult]:
        started.set()
        go_on.wait(5)
        return []

    with (
        TestClient(create_app(slow, at_once=1, waiting=0)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client.post, "/crawl", json=BODY)
        started.wait(5)
        assert client.post("/crawl", json=BODY).status_code == 503
        go_on.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("Paul Iusztin", "Paul", "Iusztin"),
        ("  Ana  María de   Souza ", "Ana María de", "Souza"),
        ("Plato", "Plato", "Plato"),
        ("李 小龍", "李", "小龍"),
    ],
)
def test_names_have_a_first_and_a_last_part(text: str, first: str, last: str) -> None:
    """The last word is the last name; a single word is both."""
    name = parse_name(text)
    assert (name.first, name.last) == (first, last)


@pytest.mark.parametrize("text", ["", "  ", "\x00", None, 7, "a" * 300])
def test_blank_names_are_refused(text: object) -> None:
    """A user without a name is an error, never a user with a blank name."""
    with pytest.raises(UserInvalid):
        parse_name(text)
