"""Replaces obvious secrets by a placeholder that says what stood there."""

from __future__ import annotations

import re

_KINDS = {
    "private-key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
    "aws-access-key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "gitlab-token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "slack-token": r"\bxox[abposr]-[A-Za-z0-9-]{10,}",
    "google-key": r"\bAIza[0-9A-Za-z_-]{35}",
    "hugging-face-token": r"\bhf_[A-Za-z0-9]{30,}",
    "api-key": r"\bsk-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{20,}",
    "json-web-token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "password-in-url": r"(?<=://)[^\s/:@'\"<>{}$]{1,100}:[^\s/:@'\"<>{}$]{3,200}(?=@[\w.-])",
}
_SECRET = re.compile("|".join(f"(?P<k{n}>{text})" for n, text in enumerate(_KINDS.values())))
_NAMES = tuple(_KINDS)


def redact(text: str) -> tuple[str, int]:
    """The text with each secret as `[secret:<kind>]`, and how many there were."""
    return _SECRET.subn(_placeholder, text)


def _placeholder(match: re.Match[str]) -> str:
    return f"[secret:{_NAMES[int((match.lastgroup or 'k0')[1:])]}]"
