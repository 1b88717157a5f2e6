"""Log lines per change, up to a rate, and a summary above it."""

from __future__ import annotations

from structlog.testing import capture_logs

from core.logging import LineBudget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_up_to_the_rate_each_change_has_its_line_and_there_is_no_summary() -> None:
    """A quiet second is told line by line."""
    clock = Clock()
    budget = LineBudget("Changes.", per_second=3, clock=clock)
    with capture_logs() as lines:
        assert [budget.take("articles") for _ in range(3)] == [True] * 3
        clock.now += 1
        budget.roll()
    assert lines == []


def test_above_the_rate_a_second_ends_with_one_summary() -> None:
    """A busy second has its first lines, then the counts of each kind."""
    clock = Clock()
    budget = LineBudget("Changes.", per_second=3, clock=clock)
    with capture_logs() as lines:
        taken = [budget.take(kind) for kind in ["articles"] * 4 + ["posts"] * 2]
        clock.now += 1
        budget.roll()
        budget.roll()
        assert budget.take("posts")
    assert taken == [True, True, True, False, False, False]
    assert lines == [
        {"event": "Changes.", "count": 6, "articles": 4, "posts": 2, "log_level": "info"}
    ]
