"""Where to cut: at the strongest border near the middle, until every part fits.

Borders of equal rank are ordered by a hash of the unit behind them, not by their
position. So an edit moves the cuts of the part it falls in, and leaves the others
where they were: what is already embedded stays so.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from feature_pipeline.units import Unit

# A cut may fall into the middle half of a part, so that none becomes a crumb.
_MARGIN = 0.25


def split(
    text: str, units: Sequence[Unit], starts: Sequence[int], budget: int
) -> Iterator[Sequence[Unit]]:
    """Group `units` into consecutive parts of at most `budget` tokens each.

    `starts` are the ascending offsets in `text` at which tokens begin. A single
    unit over the budget is cut between tokens, at a space where there is one.
    """
    fitting = [piece for unit in units for piece in _fit(text, unit, starts, budget)]
    costs = [_tokens(unit.start, unit.end, starts) for unit in fitting]
    sums = [0, *accumulate(costs)]
    ranks = [(unit.border, _digest(text[unit.start : unit.end])) for unit in fitting]
    yield from _parts(fitting, sums, ranks, 0, len(fitting), budget)


def _parts(
    units: Sequence[Unit],
    sums: Sequence[int],
    ranks: Sequence[tuple[int, bytes]],
    low: int,
    high: int,
    budget: int,
) -> Iterator[Sequence[Unit]]:
    if low == high:
        return
    total = sums[high] - sums[low]
    if total <= budget or high - low == 1:
        yield units[low:high]
        return
    cut = _cut(sums, ranks, low, high, total)
    yield from _parts(units, sums, ranks, low, cut, budget)
    yield from _parts(units, sums, ranks, cut, high, budget)


def _cut(
    sums: Sequence[int], ranks: Sequence[tuple[int, bytes]], low: int, high: int, total: int
) -> int:
    """The index of the unit before which to cut, strictly between `low` and `high`."""
    first = bisect_left(sums, sums[low] + total * _MARGIN, low + 1, high - 1)
    last = bisect_left(sums, sums[low] + total * (1 - _MARGIN), first, high - 1)
    return max(range(first, last + 1), key=lambda index: ranks[index])


def _fit(text: str, unit: Unit, starts: Sequence[int], budget: int) -> Iterator[Unit]:
    begin, border = unit.start, unit.border
    while _tokens(begin, unit.end, starts) > budget:
        limit = starts[bisect_left(starts, begin) + budget]
        space = text.rfind(" ", begin + 1, limit)
        end = space if space > begin + (limit - begin) // 2 else limit
        yield Unit(begin, end, border, unit.headings)
        begin, border = end, 0
    yield Unit(begin, unit.end, border, unit.headings)


def _tokens(start: int, end: int, starts: Sequence[int]) -> int:
    return bisect_left(starts, end) - bisect_left(starts, start)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
