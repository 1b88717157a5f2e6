"""What a stranger runs first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.stack
@pytest.mark.browser
@pytest.mark.model
def test_the_demo_holds_its_expectations_and_cleans_up(tmp_path: Path) -> None:
    """The whole path ends with status 0, tells how fresh search is, and leaves no folder."""
    done = subprocess.run(
        [sys.executable, "-m", "local_stack.demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every expectation held" in done.stdout
    assert "✗" not in done.stdout
    for change in ("Medium article inserted", "article edited", "article deleted"):
        assert f"{change} " in done.stdout.partition("From MongoDB's commit")[2]
    assert list(tmp_path.glob("llm-twin-demo-*")) == []
