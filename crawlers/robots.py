"""robots.txt, as RFC 9309 says: absent means allowed, unreachable means not now."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from protego import Protego

from crawlers.fetch import AGENT_NAME, Fetcher
from crawlers.results import FetchFailed, LinkRefused

_DAY = 24 * 3600.0
_HOSTS = 1000
_TYPES = ("text/plain", "text/html", "application/octet-stream")
_LONGEST = 500_000


class Robots:
    """Remembers each host's rules for a day. Safe to share between threads."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._known: dict[str, tuple[float, Protego]] = {}
        self._lock = threading.Lock()

    def check(self, link: str) -> None:
        """Pass if the host lets us read `link`, which must be canonical.

        Raises LinkRefused, or FetchFailed where the rules cannot be read now.
        """
        parts = urlsplit(link)
        rules = self._rules(f"{parts.scheme}://{parts.netloc}")
        if not rules.can_fetch(link, AGENT_NAME):
            raise LinkRefused(
                f"robots.txt of {parts.netloc} asks crawlers not to read this link.",
                reason="robots",
            )

    def _rules(self, origin: str) -> Protego:
        with self._lock:
            known = self._known.get(origin)
        if known and known[0] > time.monotonic():
            return known[1]
        rules = Protego.parse(self._read(origin))
        with self._lock:
            if len(self._known) >= _HOSTS:
                self._known.clear()
            self._known[origin] = (time.monotonic() + _DAY, rules)
        return rules

    def _read(self, origin: str) -> str:
        page = self._fetcher.get(f"{origin}/robots.txt", _TYPES)
        if 400 <= page.status < 500 and page.status != 429:
            return ""
        if not 200 <= page.status < 300:
            raise FetchFailed(f"robots.txt of {origin} answered {page.status}; not read for now.")
        return page.html[:_LONGEST]
