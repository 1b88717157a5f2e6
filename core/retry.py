"""Waiting between tries, with jitter, in one place."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Delays in seconds that double from `first` to `longest`, each with full jitter.

    Full jitter keeps many clients of one service from coming back together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    first: float = 0.2
    longest: float = 10.0
    _attempt: int = field(default=0, init=False)

    def next_delay(self) -> float:
        """The next delay: at least half of the current step, so that none is zero."""
        step = min(self.longest, self.first * 2.0**self._attempt)
        self._attempt = min(self._attempt + 1, 30)
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._attempt = 0
