"""High and low water from a sum of constituents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tides.constituents import Constituent


def height(parts: Sequence[Constituent], mean: float, hours: float) -> float:
    """The water's height in metres above chart datum."""
    return mean + sum(part.height(hours) for part in parts)


def turning_points(
    parts: Sequence[Constituent], mean: float, days: int
) -> Iterator[tuple[float, float]]:
    """Hours and heights at which the tide turns, looked for every six minutes."""
    step = 0.1
    before, here = height(parts, mean, -step), height(parts, mean, 0.0)
    for tick in range(1, int(days * 24 / step)):
        after = height(parts, mean, tick * step)
        if (here - before) * (after - here) < 0:
            yield (tick - 1) * step, here
        before, here = here, after
