"""Text taken out of pages: golden files for the sample's pages, six markups of code."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from crawlers import article, medium
from crawlers.markup import keep_code
from crawlers.page import Page
from crawlers.results import PageUnusable, PreviewOnly
from crawlers.text import fingerprint, storable
from local_stack.sample_site import Links
from local_stack.sample_site.site import CONTENT

GOLDEN = Path(__file__).parents[1] / "fixtures" / "crawler"
CODE = "def f(x):\n    if x:\n        return 1\n    return 2"
LINES = CODE.split("\n")
MARKUPS = {
    "plain": f"<pre>{CODE}</pre>",
    "code": f'<pre><code class="language-python">{CODE}</code></pre>',
    "spans": "<pre><code>"
    + CODE.replace("def", "<span class='k'>def</span>").replace("1", "<span class='m'>1</span>")
    + "</code></pre>",
    "breaks": f"<pre><span>{'<br>'.join(LINES)}</span></pre>",
    "lines": "<pre>" + "".join(f"<div class='line'>{line}</div>" for line in LINES) + "</pre>",
    "table": "<table><tr><td><pre>1\n2\n3\n4</pre></td><td><pre>"
    + CODE
    + "</pre></td></tr></table>",
}
PROSE = "<p>" + "Some prose that a reader would want to find again some day. " * 6 + "</p>"


def _sample(link: str) -> Page:
    host, _, path = link.removeprefix("https://").partition("/")
    html = (CONTENT / host / f"{path}.html").read_text(encoding="utf-8")
    return Page(url=link, status=200, html=html)


@pytest.mark.parametrize("name", MARKUPS)
def test_code_survives_in_every_markup(name: str) -> None:
    """Each of the six ways to mark up code keeps its lines and its indentation."""
    html = (
        f"<html><head><title>Code</title></head><body><article><h1>Code</h1>{PROSE}"
        f"{MARKUPS[name]}{PROSE}</article></body></html>"
    )
    assert CODE in article.extract(Page(url="https://a.example/", status=200, html=html)).text


@pytest.mark.parametrize("name", MARKUPS)
def test_code_blocks_become_one_form(name: str) -> None:
    """The pre-pass leaves exactly one `pre > code` with the code in it."""
    soup = BeautifulSoup(f"<body>{MARKUPS[name]}</body>", "lxml")
    keep_code(soup)
    assert [block.get_text() for block in soup.select("pre > code")] == [CODE]


def test_an_article_is_its_text_and_nothing_else() -> None:
    """The sample's ordinary article comes out as the golden file, without menu or footer."""
    found = article.extract(_sample(Links.article))
    assert found.text == (GOLDEN / "article.md").read_text(encoding="utf-8").strip()
    assert (found.title, found.author, found.published, found.language) == (
        "Baking Bread at Altitude",
        "Paul Albrecht",
        "2026-05-02",
        "en",
    )


def test_a_medium_article_is_its_text_and_nothing_else() -> None:
    """What the server sent of the Medium page comes out without claps, buttons and cards."""
    found = medium.read(_sample(Links.medium))
    assert found.text == (GOLDEN / "medium_static.md").read_text(encoding="utf-8").strip()
    assert found.title == "How a Lighthouse Keeper Would Run a Queue"
    assert found.subtitle is not None
    assert found.subtitle.startswith("Four habits")


def test_a_preview_is_no_article() -> None:
    """The beginning of a text for members is recognised and not taken for the text."""
    with pytest.raises(PreviewOnly):
        medium.read(_sample(Links.preview))


@pytest.mark.parametrize(
    "html",
    ["", "<html></html>", "<title>Empty</title><p>Too short.</p>", f"<article>{PROSE}</article>"],
)
def test_pages_without_an_article_are_said_to_be_so(html: str) -> None:
    """No text, too little text, or no title: nothing is stored, and the reason is given."""
    with pytest.raises(PageUnusable):
        article.extract(Page(url="https://a.example/", status=200, html=html))


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_storable(text: str) -> None:
    """Lone surrogates, NUL and control characters never reach MongoDB."""
    clean = storable(text)
    assert "\x00" not in clean
    assert clean.encode().decode() == clean
    assert storable(clean) == clean


def test_the_hash_ignores_encoding_only() -> None:
    """Composed and decomposed accents are one text; another word is another."""
    assert fingerprint(["e\u0301te"]) == fingerprint(["éte"])
    assert fingerprint(["a  b"]) == fingerprint(["a b"])
    assert fingerprint(["a", "b"]) != fingerprint(["ab"])
