"""What a link means, and which links are refused before anything is reached."""

from __future__ import annotations

import pytest

from crawlers.links import Platform, identity_of, parse
from crawlers.results import LinkRefused

MEDIUM = "medium:2cc6bb01141f"


@pytest.mark.parametrize(
    ("link", "identity"),
    [
        ("https://medium.com/@paul/an-article-2cc6bb01141f", MEDIUM),
        ("https://medium.com/@paul/an-article-2cc6bb01141f?source=rss-1------2#top", MEDIUM),
        ("HTTPS://WWW.Medium.com/p/2cc6bb01141f/", MEDIUM),
        ("https://paul.medium.com/another-title-2cc6bb01141f", MEDIUM),
        ("https://github.com/Owner/Repo", "github:owner/repo"),
        ("https://github.com/owner/repo.git", "github:owner/repo"),
        ("https://www.github.com/owner/repo/tree/main/src?tab=readme", "github:owner/repo"),
        ("https://github.com/owner/repo/blob/main/a.py#L3", "github:owner/repo"),
        ("http://www.Example.com/a/?utm_source=x&r=2", "article:example.com/a"),
        ("https://example.com:443/a?b=2&a=1&fbclid=3", "article:example.com/a?b=2&a=1"),
        ("https://example.com/%7Epaul/été", "article:example.com/%7Epaul/%C3%A9t%C3%A9"),
        ("https://bücher.example/x", "article:xn--bcher-kva.example/x"),
    ],
)
def test_spellings_of_one_thing_have_one_identity(link: str, identity: str) -> None:
    """Case of hosts, tracking, fragments and link forms are no part of what a link means."""
    assert parse(link).identity == identity


def test_targets_are_read_without_tracking() -> None:
    """The link that is read, and checked against robots.txt, carries no tracking parameter."""
    target = parse("https://medium.com/@paul/an-article-2cc6bb01141f?source=rss-1------2")
    assert target.link == "https://medium.com/@paul/an-article-2cc6bb01141f"
    assert target.platform is Platform.MEDIUM


def test_unknown_query_parameters_are_kept() -> None:
    """A parameter that may choose the page is part of its identity."""
    assert identity_of("https://example.com/?p=17") == "article:example.com?p=17"


@pytest.mark.parametrize(
    "link",
    [
        "",
        "   ",
        None,
        7,
        "nonsense",
        "example.com/a",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "javascript:alert(1)",
        "view-source:https://example.com",
        "https://",
        "https://user:secret@example.com/a",
        "https://github.com@evil.example/a/b",
        "https://github.com.evil.example/a/b",
        "https://medium.com.evil.example/@a/b-2cc6bb01141f",
        "https://githubXcom/a/b",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://１２７.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://[fe80::1%25eth0]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.5/",
        "http://localhost/",
        "http://localhost./",
        "http://mongo1/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "https://example.com:30001/",
        "https://example.com:abc/",
        "https://127.0.0.1\\@example.com/",
        "https://exa mple.com/",
        "https://example.com/\x00",
        "https://example.com/\u202egpj.exe",
        "https://example.com/\ud800",
        "https://exa%6dple.com/a",
        "https://[::1/",
        "https://example.com/" + "a" * 3000,
        "https://medium.com/@paul",
        "https://medium.com/tag/python",
        "https://github.com/owner",
        "https://github.com/--upload-pack=x/repo",
        "https://github.com/owner/..",
        "https://www.linkedin.com/in/somebody",
        "https://lnkd.in/abc",
        "--upload-pack=touch /tmp/x",
    ],
)
def test_hostile_links_are_refused_with_a_sentence(link: object) -> None:
    """Internal addresses in every spelling, credentials, look-alikes and tricks go nowhere."""
    with pytest.raises(LinkRefused) as caught:
        parse(link)
    assert str(caught.value).endswith(".")


def test_a_refusal_names_the_real_host() -> None:
    """Who reads the refusal of a link with credentials sees where it would have led."""
    with pytest.raises(LinkRefused, match=r"'evil\.example'"):
        parse("https://github.com@evil.example/a/b")
