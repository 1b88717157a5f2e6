"""What the demo prints, and whether every expectation held."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Freshness:
    """How long one change took from MongoDB's commit to what search shows, in seconds."""

    change: str
    seconds: float


@dataclass
class Telling:
    """Prints each step as it happens and remembers what failed."""

    freshness: list[Freshness] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    def step(self, sentence: str) -> None:
        """A new step begins."""
        self._print(f"\n[{time.monotonic() - self._begun:5.1f} s] {sentence}")

    def say(self, sentence: str) -> None:
        """Something within a step."""
        self._print(f"          {sentence}")

    def expect(self, sentence: str, *, held: bool) -> None:
        """An expectation, and whether it held."""
        self._print(f"        {'✓' if held else '✗'} {sentence}")
        if not held:
            self.failures.append(sentence)

    def fresh(self, change: str, seconds: float) -> None:
        """A change was seen by search."""
        self.freshness.append(Freshness(change, seconds))

    def close(self) -> int:
        """The summary, and the exit status: 0 only if every expectation held."""
        self._print("\nFrom MongoDB's commit to what search shows:")
        for one in self.freshness:
            self._print(f"  {one.change:<42} {one.seconds * 1000:6.0f} ms")
        took = time.monotonic() - self._begun
        if self.failures:
            self._print(f"\n{len(self.failures)} expectations did not hold ({took:.0f} s):")
            for sentence in self.failures:
                self._print(f"  ✗ {sentence}")
            return 1
        self._print(f"\nEvery expectation held ({took:.0f} s).")
        return 0

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
