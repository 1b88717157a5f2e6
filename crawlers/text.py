"""Text that can be stored and compared: no NUL, no lone surrogate, one hash per meaning."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def storable(text: str) -> str:
    """The text as MongoDB can hold it: lone surrogates replaced, control characters gone."""
    whole = text.encode("utf-8", errors="replace").decode("utf-8")
    return _CONTROL.sub("", whole.replace("\r\n", "\n").replace("\r", "\n"))


def fingerprint(parts: Iterable[str]) -> str:
    """A hash that ignores how blanks and accents are encoded, and nothing else."""
    digest = hashlib.sha256()
    for part in parts:
        normal = unicodedata.normalize("NFC", storable(part))
        digest.update(re.sub(r"[ \t]+", " ", normal).strip().encode())
        digest.update(b"\x00")
    return digest.hexdigest()
