"""Which entries of a repository are text that a person wrote, and why others are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath


class Skipped(Enum):
    """Why an entry is listed but not stored."""

    SYMLINK = "symbolic link"
    SUBMODULE = "submodule"
    SECRETS = "file for secrets"
    GENERATED = "generated or vendored"
    BINARY = "binary"
    LFS = "kept in Git LFS"
    TOO_LARGE = "too large"
    TOO_MANY = "beyond the limit of files"
    EMPTY = "empty"


@dataclass(frozen=True)
class Entry:
    """One path of the tree with git's hash of its content."""

    mode: str
    type: str
    oid: str
    path: str


_SECRETS = re.compile(
    r"(^|/)(\.env(\..+)?|\.netrc|\.pgpass|\.htpasswd|\.npmrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)"
    r"|credentials(\.json)?|[^/]+\.(pem|key|p12|pfx|jks|keystore|kdbx))$",
    re.IGNORECASE,
)
_EXAMPLES = re.compile(r"\.(example|sample|template|dist)$", re.IGNORECASE)
_GENERATED = re.compile(
    r"(^|/)(node_modules|vendor|third_party|dist|__pycache__|\.venv|site-packages)/"
    r"|(^|/)(package-lock\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|Cargo\.lock"
    r"|composer\.lock|Gemfile\.lock|Pipfile\.lock|go\.sum)$|\.min\.(js|css)$|\.map$"
)
_README = re.compile(r"readme(\.(md|rst|txt|markdown))?", re.IGNORECASE)


def parse(listing: bytes) -> Iterator[Entry]:
    """Read `ls-tree -r -z`: mode, type and oid, a tab, and the path until NUL."""
    for record in listing.split(b"\x00"):
        head, tab, path = record.partition(b"\t")
        words = head.decode("ascii", errors="replace").split()
        if tab and len(words) == 3:
            mode, kind, oid = words
            yield Entry(mode, kind, oid, path.decode("utf-8", errors="replace"))


def refusal(entry: Entry) -> Skipped | None:
    """Why an entry is not read, judged by its mode and path alone."""
    if entry.mode == "120000":
        return Skipped.SYMLINK
    if entry.type != "blob":
        return Skipped.SUBMODULE
    if _SECRETS.search(entry.path) and not _EXAMPLES.search(entry.path):
        return Skipped.SECRETS
    if _GENERATED.search(entry.path):
        return Skipped.GENERATED
    return None


def readme(entries: list[Entry]) -> Entry | None:
    """The README at the root, if there is one."""
    roots = [entry for entry in entries if PurePosixPath(entry.path).name == entry.path]
    return next((entry for entry in roots if _README.fullmatch(entry.path)), None)
