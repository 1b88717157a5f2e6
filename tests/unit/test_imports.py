"""Imports point one way, and a service needs only its own extra."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SERVICES = {"crawlers", "data_cdc", "feature_pipeline"}
_ABOVE = {"console", "local_stack"}
_MAY_IMPORT = {
    "core": {"core"},
    **{service: {"core", service} for service in _SERVICES},
    "console": {"core", "console", *_SERVICES},
    "local_stack": {"core", "local_stack", *_SERVICES, "console"},
    "benchmarks": {"core", "local_stack"},
}
_HEAVY = ("torch", "sentence_transformers", "selenium", "bytewax", "qdrant_client")


def _imported(package: str) -> set[str]:
    found = set()
    for file in (_ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found & {*_SERVICES, *_ABOVE, "core"}


@pytest.mark.parametrize("package", sorted(_MAY_IMPORT))
def test_imports_point_one_way(package: str) -> None:
    """Services import core and themselves, nothing imports console; benchmarks import no service."""
    assert _imported(package) <= _MAY_IMPORT[package]


@pytest.mark.parametrize("module", ["data_cdc.__main__", "core.config", "core.events"])
def test_capturing_changes_needs_no_model_and_no_browser(module: str) -> None:
    """Importing the CDC service loads neither torch nor a browser's driver."""
    code = f"import sys, {module}; print([n for n in {_HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["feature_pipeline.service", "console.__main__", "core.embedding"]
)
def test_the_model_is_imported_only_when_it_is_used(module: str) -> None:
    """Starting a command does not pay for torch."""
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
