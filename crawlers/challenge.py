"""Recognises pages that are a challenge, a login wall or an error of the browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawlers.page import Page

_TITLE = re.compile(r"<title[^>]*>\s*([^<]{0,200})", re.IGNORECASE)
_TITLES = (
    "just a moment",
    "attention required! | cloudflare",
    "privacy error",
    "access denied",
    "ddos-guard",
    "are you a robot",
    "verify you are human",
    "security check",
)
_MARKUP = (
    "/cdn-cgi/challenge-platform/",
    "_cf_chl_opt",
    "challenges.cloudflare.com",
    "geo.captcha-delivery.com",
    "px-captcha",
)
_WALLS = re.compile(r"/(authwall|checkpoint/challenge|uas/login|m/signin)(/|\?|$)")
_SHORT = 20_000


def marker(page: Page) -> str | None:
    """What shows that this page is a wall, or None for a page that is itself.

    Markup counts only on a short page: an article may well quote it.
    """
    if "challenge" in page.headers.get("cf-mitigated", ""):
        return "cf-mitigated header"
    if page.status in (401, 402, 403, 407, 429, 451, 999):
        return f"status {page.status}"
    title = _TITLE.search(page.html)
    if title and title[1].strip().lower().startswith(_TITLES):
        return f"title {title[1].strip()[:60]!r}"
    if _WALLS.search(page.url):
        return "login page"
    if len(page.html) < _SHORT:
        return next((f"markup {mark}" for mark in _MARKUP if mark in page.html), None)
    return None
