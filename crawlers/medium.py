"""A Medium article, taken out of its page.

Class names on Medium are generated and change, so elements are chosen by tag, by the
few stable names (`pw-…`), and by where they stand: between the first and the last
paragraph of the body. Claps, buttons, the author's card and recommendations are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup, Tag

from crawlers.article import PREVIEW_CHARACTERS, Article, checked, extract, metadata
from crawlers.markup import code_language, keep_code
from crawlers.page import Page
from crawlers.results import PreviewOnly
from crawlers.text import storable

_BODY = "pw-post-body-paragraph"
_BLOCKS = ["h1", "h2", "h3", "h4", "p", "pre", "blockquote", "li", "figcaption"]
_NOISE = (
    "button, svg, script, style, noscript, form, iframe, [role=button], [role=dialog], "
    "[data-testid*=author], [data-testid*=header], [data-testid*=clap], [data-testid*=footer], "
    "[class*=speechify], [aria-hidden=true]"
)
_LIST = re.compile(r"^(- .*)\n\n(?=- )", re.MULTILINE)
_LOCKED = re.compile(r'"isLockedPreviewOnly"\s*:\s*true')


def read(page: Page) -> Article:
    """The article of a Medium page. Raises PreviewOnly or PageUnusable.

    A page without Medium's marks (a publication's own design) is read as any article.
    """
    soup = BeautifulSoup(page.html, "lxml")
    if _LOCKED.search(page.html) or soup.select_one("[data-testid*=paywall i]"):
        raise PreviewOnly
    said = metadata(soup)
    body = soup.find("article")
    if not isinstance(body, Tag) or body.find(class_=_BODY) is None:
        return extract(page)
    for noise in body.select(_NOISE):
        noise.decompose()
    keep_code(soup)
    text = _LIST.sub(r"\1\n", storable("\n\n".join(_paragraphs(body))))
    if not said.free and len(text) < PREVIEW_CHARACTERS:
        raise PreviewOnly
    return checked(
        Article(
            title=_of(body, "h1.pw-post-title") or _headline(said.title) or "",
            subtitle=_of(body, ".pw-subtitle-paragraph") or said.subtitle,
            text=text,
            author=said.author,
            published=said.published,
            language=said.language,
        )
    )


def _paragraphs(body: Tag) -> Iterator[str]:
    blocks = [block for block in body.find_all(_BLOCKS) if not block.find_parent(_BLOCKS)]
    marks = [place for place, block in enumerate(blocks) if _is_body(block)]
    for block in blocks[marks[0] : marks[-1] + 1]:
        if block.name != "p" or _is_body(block):
            text = _markdown(block)
            if text.strip():
                yield text


def _is_body(block: Tag) -> bool:
    if _BODY in block.get_attribute_list("class") or block.name == "pre":
        return True
    return block.find(class_=_BODY) is not None


def _markdown(block: Tag) -> str:
    if block.name == "pre":
        return f"```{code_language(block)}\n{block.get_text()}\n```"
    for code in block.find_all("code"):
        code.replace_with(f"`{code.get_text()}`")
    text = " ".join(block.get_text().split())
    match block.name:
        case "h1" | "h2" | "h3" | "h4":
            return f"{'#' * max(2, int(block.name[1]))} {text}"
        case "blockquote":
            return f"> {text}"
        case "li":
            return f"- {text}"
        case _:
            return text


def _headline(title: str | None) -> str | None:
    """Medium's og:title ends in author and site: `Headline | by Author | Medium`."""
    return re.split(r"\s+\|\s+(?:by|Medium)\b", title)[0] if title else None


def _of(body: Tag, selector: str) -> str | None:
    tag = body.select_one(selector)
    return " ".join(storable(tag.get_text()).split()) or None if tag else None
