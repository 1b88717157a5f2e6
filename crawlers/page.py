"""A page as it was read, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from crawlers import challenge
from crawlers.results import FetchFailed, LinkRefused, PageBlocked, PageGone

HTML = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, kw_only=True)
class Page:
    """`url` is where it was found in the end; header names are in lower case."""

    url: str
    status: int
    html: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/html"


class PageReader(Protocol):
    """One way to read a page: the plain fetcher or the browser."""

    def read(self, link: str) -> Page:
        """Read a checked link. Blocks; raises LinkRefused or FetchFailed."""
        ...


def usable(page: Page) -> Page:
    """The page, if it is the page that was asked for.

    Raises PageBlocked, PageGone, LinkRefused or FetchFailed.
    """
    if page.status in (404, 410):
        raise PageGone(page.status)
    wall = challenge.marker(page)
    if wall:
        raise PageBlocked(wall)
    if not 200 <= page.status < 300:
        raise FetchFailed(f"The site answered {page.status}. Try again later.")
    if page.content_type and page.content_type not in HTML:
        raise wrong_type(page.content_type)
    return page


def wrong_type(found: str) -> LinkRefused:
    """The refusal of a link that leads to a file."""
    return LinkRefused(f"The link leads to {found}, not to a page of text.", reason="type")
