"""An article, and how it is taken out of a page of unknown make.

The text comes from trafilatura as Markdown; title, subtitle, author, date and language
from what the page says about itself (JSON-LD, then OpenGraph), then from trafilatura.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import trafilatura
from bs4 import BeautifulSoup, Tag

from crawlers.markup import keep_code
from crawlers.page import Page
from crawlers.results import PageUnusable, PreviewOnly
from crawlers.text import fingerprint, storable

MIN_CHARACTERS = 200
PREVIEW_CHARACTERS = 1500
_KINDS = {"article", "newsarticle", "blogposting", "techarticle", "report", "scholarlyarticle"}


@dataclass(frozen=True, kw_only=True)
class Article:
    """What a person wrote. `text` is Markdown; what the page does not say is None."""

    title: str
    text: str
    subtitle: str | None = None
    author: str | None = None
    published: str | None = None
    language: str | None = None

    @property
    def hash(self) -> str:
        """Changes with the words, not with how often they were liked."""
        return fingerprint((self.title, self.subtitle or "", self.text))


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a page says about itself, outside its text."""

    title: str | None = None
    subtitle: str | None = None
    author: str | None = None
    published: str | None = None
    language: str | None = None
    canonical: str | None = None
    free: bool = True


def extract(page: Page) -> Article:
    """The article of any page. Raises PageUnusable or PreviewOnly."""
    soup = BeautifulSoup(page.html, "lxml")
    said = metadata(soup)
    keep_code(soup)
    text = storable(_as_markdown(soup, page.url)).strip()
    guess = trafilatura.extract_metadata(page.html, default_url=page.url)
    title = said.title or guess.title
    if not said.free and len(text) < PREVIEW_CHARACTERS:
        raise PreviewOnly
    return checked(
        Article(
            title=title or "",
            text=_without_leading_title(text, title),
            subtitle=said.subtitle,
            author=said.author or guess.author,
            published=said.published or guess.date,
            language=said.language or guess.language,
        )
    )


def checked(article: Article) -> Article:
    """The article, if it is worth storing. Raises PageUnusable."""
    if not article.title.strip():
        raise PageUnusable("The page has no title, so it is no article.")
    if len(article.text) < MIN_CHARACTERS:
        raise PageUnusable(
            f"The page holds {len(article.text)} characters of text; an article has at least "
            f"{MIN_CHARACTERS}. Its text may be built by scripts."
        )
    return article


def _as_markdown(soup: BeautifulSoup, url: str) -> str:
    text = trafilatura.extract(
        str(soup),
        url=url,
        output_format="markdown",
        favor_precision=True,
        include_comments=False,
        include_formatting=True,
        include_tables=True,
    )
    return text or ""


def _without_leading_title(text: str, title: str | None) -> str:
    first, _, rest = text.partition("\n")
    return rest.strip() if title and first.lstrip("# ").strip() == title.strip() else text


def metadata(soup: BeautifulSoup) -> Metadata:
    """Read JSON-LD first, then OpenGraph and the like."""
    ld = next(_linked_data(soup), {})
    return Metadata(
        title=_text(ld.get("headline")) or _meta(soup, "og:title", "twitter:title"),
        subtitle=_text(ld.get("alternativeHeadline"))
        or _text(ld.get("description"))
        or _meta(soup, "og:description", "description"),
        author=_names(ld.get("author")) or _meta(soup, "author", "article:author"),
        published=_text(ld.get("datePublished")) or _meta(soup, "article:published_time"),
        language=_language(soup, ld),
        canonical=_canonical(soup),
        free=ld.get("isAccessibleForFree", True) not in (False, "False", "false"),
    )


def _linked_data(soup: BeautifulSoup) -> Iterator[Mapping[str, Any]]:
    for script in soup.find_all("script", type="application/ld+json"):
        try:
            data = json.loads(script.get_text())
        except (ValueError, RecursionError):
            continue
        for item in _flattened(data):
            kind = item.get("@type", "")
            kinds = kind if isinstance(kind, list) else [kind]
            if any(str(one).lower() in _KINDS for one in kinds):
                yield item


def _flattened(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, list):
        for item in data:
            yield from _flattened(item)
    elif isinstance(data, dict):
        yield data
        yield from _flattened(data.get("@graph", []))


def _meta(soup: BeautifulSoup, *names: str) -> str | None:
    for name in names:
        tag = soup.find("meta", property=name) or soup.find("meta", attrs={"name": name})
        if isinstance(tag, Tag) and _text(tag.get("content")):
            return _text(tag.get("content"))
    return None


def _language(soup: BeautifulSoup, ld: Mapping[str, Any]) -> str | None:
    root = soup.find("html")
    declared = _text(root.get("lang")) if isinstance(root, Tag) else None
    found = _text(ld.get("inLanguage")) or declared or _meta(soup, "og:locale")
    return found.replace("_", "-").split("-")[0].lower() if found else None


def _canonical(soup: BeautifulSoup) -> str | None:
    tag = soup.find("link", rel="canonical")
    return _text(tag.get("href")) if isinstance(tag, Tag) else None


def _names(value: Any) -> str | None:
    people = value if isinstance(value, list) else [value]
    names = [_text(one.get("name")) if isinstance(one, dict) else _text(one) for one in people]
    return ", ".join(name for name in names if name) or None


def _text(value: Any) -> str | None:
    return " ".join(storable(value).split()) or None if isinstance(value, str) else None


def canonical_link(page: Page) -> str | None:
    """What the page names as its own link; not judged, maybe relative."""
    return metadata(BeautifulSoup(page.html, "lxml")).canonical
