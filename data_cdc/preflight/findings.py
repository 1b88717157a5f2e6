"""What a look finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from core.errors import ConfigurationError

Level = Literal["ok", "info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `cause` is what an error ends the service with."""

    check: str
    level: Level
    sentence: str
    cause: ConfigurationError | None = field(default=None, repr=False, compare=False)


def error(check: str, cause: ConfigurationError) -> Finding:
    """The service cannot run like this."""
    return Finding(check, "error", str(cause), cause)
