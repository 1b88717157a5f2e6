"""What a link means: its platform, its identity, and the address to read it at.

A `Target` is a pure function of the link's text. Two spellings of one thing have one
`identity`; tracking parameters, fragments and letter case of hosts are not part of it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from crawlers.guard import is_public, literal_address
from crawlers.results import LinkRefused

_TRACKING = re.compile(r"utm_.*|source|r|trk|ref|ref_src|fbclid|gclid|mc_cid|mc_eid|sk|gi|_hsenc")
_HOST = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)+")
_INTERNAL = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".corp", ".intranet")
_LOOK_ALIKE = re.compile(r"(^|\.)(github|medium|linkedin|substack)\.com\.")
_MEDIUM_ID = re.compile(r"(?:^|-)([0-9a-f]{10,12})$")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LONGEST = 2000


class Platform(StrEnum):
    """Which crawler reads a target."""

    MEDIUM = "medium"
    GITHUB = "github"
    ARTICLE = "article"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to crawl. `link` is what is read and stored, `identity` what it is."""

    platform: Platform
    identity: str
    link: str
    host: str
    name: str = ""


def parse(link: object) -> Target:
    """Read a link. Raises LinkRefused with the reason, before anything is reached."""
    link_read = canonical(link)
    _, host, path, _, _ = urlsplit(link_read)
    if host in ("github.com", "www.github.com"):
        return _github(path)
    if host == "linkedin.com" or host.endswith(".linkedin.com") or host == "lnkd.in":
        raise LinkRefused(
            "LinkedIn's terms forbid automated reading, so live pages are not crawled. "
            "Ask LinkedIn for a copy of your data, and write it to MongoDB.",
            reason="terms",
        )
    if host == "medium.com" or host.endswith(".medium.com"):
        return _medium(host, path)
    return Target(
        platform=Platform.ARTICLE, identity=identity_of(link_read), link=link_read, host=host
    )


def identity_of(link: str) -> str:
    """The identity of an article link: no scheme, no www, no closing slash."""
    parts = urlsplit(canonical(link))
    host = (parts.hostname or "").removeprefix("www.")
    query = f"?{parts.query}" if parts.query else ""
    return f"article:{host}{parts.path.rstrip('/')}{query}"


def canonical(link: object) -> str:
    """The same link, checked, with a lower-case host and without tracking and fragment."""
    parts = urlsplit(checked(link))
    return urlunsplit(parts._replace(query=_without_tracking(parts.query)))


def checked(link: object) -> str:
    """An allowed link, normal in scheme, host, port and path, without its fragment.

    Every hop of a redirect passes here again. Raises LinkRefused.
    """
    if not isinstance(link, str) or not link.strip():
        raise LinkRefused("A link must be text such as https://example.com/article.")
    text = link.strip()
    if len(text) > _LONGEST:
        raise LinkRefused(f"The link is longer than {_LONGEST} characters.")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs") or char in "\\ " for char in text):
        raise LinkRefused("The link contains a space, a backslash or a control character.")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise LinkRefused(f"This is no link: {error}.") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise LinkRefused("Only links that begin with https:// or http:// are followed.")
    if "@" in parts.netloc:
        raise LinkRefused(
            f"The link carries credentials before an @; the host would be {parts.hostname!r}."
        )
    if port not in (None, 80, 443):
        raise LinkRefused(f"Port {port} is not read; only 80 and 443 are.")
    default = 443 if parts.scheme.lower() == "https" else 80
    host = _checked_host(parts.hostname or "")
    netloc = host if port in (None, default) else f"{host}:{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._")
    return urlunsplit((parts.scheme.lower(), netloc, path, query, ""))


def _checked_host(text: str) -> str:
    host = unicodedata.normalize("NFKC", text).lower().rstrip(".")
    if not host:
        raise LinkRefused("The link names no host.")
    address = literal_address(host)
    if address is not None:
        if not is_public(address):
            raise LinkRefused("The link names an internal address, which a crawler never reads.")
        return f"[{address}]" if ":" in address else address
    return _checked_name(host)


def _checked_name(host: str) -> str:
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise LinkRefused(f"{host!r} is no host name.") from None
    if name == "localhost" or "." not in name or name.endswith(_INTERNAL):
        raise LinkRefused(f"{name!r} is an internal name, which a crawler never reads.")
    if not _HOST.fullmatch(name):
        raise LinkRefused(f"{name!r} is no host name.")
    if _LOOK_ALIKE.search(name):
        raise LinkRefused(f"{name!r} only looks like a known platform; its owner is another.")
    return name


def _without_tracking(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([pair for pair in pairs if not _TRACKING.fullmatch(pair[0].lower())])


def _medium(host: str, path: str) -> Target:
    found = _MEDIUM_ID.search(path.rstrip("/").rsplit("/", 1)[-1])
    if not found:
        raise LinkRefused(
            "This Medium link is no article: an article's link ends in a dash and its id.",
            reason="kind",
        )
    return Target(
        platform=Platform.MEDIUM,
        identity=f"medium:{found[1]}",
        link=f"https://{host}{path.rstrip('/')}",
        host=host,
    )


def _github(path: str) -> Target:
    words = [word for word in path.split("/") if word]
    if len(words) < 2:
        raise LinkRefused("This GitHub link names no repository; one is owner/name.", reason="kind")
    owner, name = words[0], words[1].removesuffix(".git")
    if not _OWNER.fullmatch(owner) or not _REPOSITORY.fullmatch(name) or name in ("", ".", ".."):
        raise LinkRefused(f"{owner}/{name} is no name that GitHub gives to a repository.")
    return Target(
        platform=Platform.GITHUB,
        identity=f"github:{owner}/{name}".lower(),
        link=f"https://github.com/{owner}/{name}",
        host="github.com",
        name=name,
    )
