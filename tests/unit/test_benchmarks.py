"""What the benchmarks make of what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cdc import PARTS
from benchmarks.documents import article
from benchmarks.figures import Aim, Row, Samples, growth, percentile, rate
from benchmarks.report import cells, markdown, write_json


def row(*measured: float, baseline: tuple[float, ...] | None = None, aim: Aim | None = None) -> Row:
    return Row(
        figure="rate",
        unit="/s",
        measured=Samples.of(measured),
        baseline=None if baseline is None else Samples.of(baseline),
        against="without it",
        aim=aim,
    )


def test_a_ratio_is_taken_round_by_round() -> None:
    """A round in which the machine was slow counts as one ratio, not as a slow figure."""
    slow_once = row(900, 90, 950, baseline=(1000, 100, 1000))
    assert slow_once.ratio == Samples.of((0.9, 0.9, 0.95))


@pytest.mark.parametrize(
    ("one", "met"),
    [
        (row(90, baseline=(100,), aim=Aim(0.9)), True),
        (row(89, baseline=(100,), aim=Aim(0.9)), False),
        (row(120, aim=Aim(120, at_most=True)), True),
        (row(121, aim=Aim(120, at_most=True)), False),
        (row(1, 100, 101, aim=Aim(100)), True),
        (row(5), None),
    ],
)
def test_an_aim_is_judged_by_the_median(one: Row, met: bool | None) -> None:
    """The ratio where there is a baseline, else the value; and no verdict without an aim."""
    assert one.met is met


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_keep(values: list[float], share: float) -> None:
    """At least that share of the values is no larger; for the next smaller one it is not so."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_a_rate_leaves_out_how_it_began_and_ended() -> None:
    """Waiting before the first event and after the last is nobody's speed."""
    points = [(0.0, 0), (9.0, 0), (10.0, 100), (11.0, 600), (12.0, 1100), (30.0, 1200)]
    assert rate(points, total=1200) == 500


def test_a_rate_needs_two_looks() -> None:
    """Too small a load is said, not guessed from."""
    with pytest.raises(ValueError, match="too few"):
        rate([(0.0, 0), (1.0, 100)], total=100)


def test_growth_is_that_of_the_line_through_all_points() -> None:
    """One odd sample at the end does not make a leak."""
    flat = [(float(x), 60.0) for x in range(100)]
    assert growth(flat) == pytest.approx(0)
    assert growth([(x, 60 + x / 10) for x, _ in flat]) == pytest.approx(9.9)
    assert growth([*flat[:-1], (99.0, 70.0)]) < 1


def test_a_row_shows_median_spread_and_verdict() -> None:
    """What README quotes can be read off the table."""
    shown = cells(row(9000, 8000, 10_000, baseline=(200, 200, 200), aim=Aim(40)))
    assert shown == (
        "rate",
        "9,000 (8,000 to 10,000) /s",
        "200.0 (200.0 to 200.0) /s without it",
        "45.0 (40.0 to 50.0)",
        "≥ 40",
        "met",
    )


def test_the_table_in_readme_is_printed_ready_made() -> None:
    """Markdown has the same cells, a column for each."""
    lines = markdown([row(5, aim=Aim(4))]).splitlines()
    assert [line.count("|") for line in lines] == [7, 7, 7]
    assert "| 5.00 /s |" in lines[2]


def test_json_holds_every_round(tmp_path: Path) -> None:
    """The file says on what machine, and has each value."""
    write_json([row(1, 2, baseline=(2, 2), aim=Aim(1))], tmp_path / "b.json")
    content = json.loads((tmp_path / "b.json").read_text())
    assert "cores" in content["machine"]
    assert content["rows"][0]["ratio"] == [0.5, 1.0]
    assert content["rows"][0]["met"] is False


def test_documents_have_a_kilobyte() -> None:
    """Each is its own, the same every time, and has the size that the figures name."""
    sizes = [len(bson.encode(article(number))) for number in range(200)]
    assert all(980 < size < 1080 for size in sizes)
    assert article(7) == article(7) != article(8)


@pytest.mark.parametrize("arguments", [["cdc", "--only", "speed"], []])
def test_a_bad_command_line_is_told(arguments: list[str]) -> None:
    """Nothing is started for a part that does not exist."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "speed" in done.stderr or "required" in done.stderr


def test_parts_are_those_that_the_manual_names() -> None:
    """`--only` takes these."""
    assert list(PARTS) == ["publish", "insert", "lag", "memory"]
