"""The fault matrix has thirty rows, and none without a test."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fault_matrix import FAULTS

_TESTS = Path(__file__).parents[1]
_MARK = re.compile(r"@pytest\.mark\.fault\(([\d, ]+)\)")


def test_each_row_has_a_test() -> None:
    """Every number of the matrix is on a test, and no test names another."""
    marked = {
        int(number)
        for file in _TESTS.rglob("test_*.py")
        for numbers in _MARK.findall(file.read_text(encoding="utf-8"))
        for number in numbers.split(",")
    }
    assert marked == set(range(1, 31)) == FAULTS.keys()
