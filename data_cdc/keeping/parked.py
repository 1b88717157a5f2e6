"""What is known of a change that is set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# An `_id` may have megabytes.
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A change that cannot travel, and why. `size` is the bytes that its message had, if any."""

    id: str
    collection: str
    key: str
    reason: str
    op: str = ""
    size: int = 0


# Keeps a record of a change; returns once that is kept.
Park = Callable[[Parked], None]
