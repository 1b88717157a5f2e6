"""What was measured, against what, and whether that is good enough. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Samples:
    """One figure, measured once in each round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Samples:
        """At least one value."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """What is quoted."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return min(self.values), max(self.values)

    def over(self, baseline: Samples) -> Samples:
        """The ratio in each round: what slows a whole round down slows both."""
        pairs = zip(self.values, baseline.values, strict=True)
        return Samples.of(value / base for value, base in pairs)


@dataclass(frozen=True)
class Aim:
    """A bound on the median of a ratio, or of the value where there is no baseline."""

    bound: float
    at_most: bool = False

    def met_by(self, samples: Samples) -> bool:
        """Whether the median keeps the bound."""
        return samples.median <= self.bound if self.at_most else samples.median >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `baseline` has a sample for each of `measured`, if it is there."""

    figure: str
    unit: str
    measured: Samples
    against: str = ""
    baseline: Samples | None = None
    aim: Aim | None = None

    @property
    def ratio(self) -> Samples | None:
        """Measured over baseline, round by round."""
        return None if self.baseline is None else self.measured.over(self.baseline)

    @property
    def met(self) -> bool | None:
        """Whether the aim is kept; None where there is none."""
        return None if self.aim is None else self.aim.met_by(self.ratio or self.measured)

    def as_json(self) -> dict[str, Any]:
        """Everything, with each round's value."""
        return {
            "figure": self.figure,
            "unit": self.unit,
            "measured": list(self.measured.values),
            "against": self.against or None,
            "baseline": None if self.baseline is None else list(self.baseline.values),
            "ratio": None if self.ratio is None else list(self.ratio.values),
            "aim": None if self.aim is None else str(self.aim),
            "met": self.met,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def growth(points: Sequence[tuple[float, float]]) -> float:
    """By how much y grows from the first x to the last, along the line of least squares."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return statistics.linear_regression(xs, ys).slope * (xs[-1] - xs[0])


def rate(points: Sequence[tuple[float, int]], total: int) -> float:
    """Events a second from (time, count): between the first and the last count that are underway.

    The beginning and the end lie somewhere between two looks, so neither is taken.
    """
    underway = [point for point in points if 0 < point[1] < total]
    if len(underway) < 2:
        raise ValueError("too few events to tell a rate from")
    (begun, first), (ended, last) = underway[0], underway[-1]
    return (last - first) / (ended - begun)
