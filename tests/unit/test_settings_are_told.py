"""Every variable stands where people look for it: .env.example, the manual, docker-compose.yml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.config import _Environment

_ROOT = Path(__file__).parents[2]
# Compose passes the crawlers' own to the crawlers only, and decides their host and port itself.
_VARIABLES = sorted(_Environment.model_fields)


@pytest.mark.parametrize("variable", _VARIABLES)
def test_the_example_and_the_manual_tell_each_variable(variable: str) -> None:
    """.env.example and INSTALL_AND_USAGE.md name every variable that the code reads."""
    example = (_ROOT / ".env.example").read_text()
    manual = (_ROOT / "INSTALL_AND_USAGE.md").read_text()
    assert re.search(rf"^#?\s*{variable}=", example, re.MULTILINE)
    assert f"`{variable}`" in manual


@pytest.mark.parametrize("variable", _VARIABLES)
def test_compose_passes_each_variable_on(variable: str) -> None:
    """What a person sets in .env reaches the containers."""
    compose = (_ROOT / "docker-compose.yml").read_text()
    assert re.search(rf"^\s+{variable}:", compose, re.MULTILINE)


def test_the_example_names_no_variable_that_nobody_reads() -> None:
    """.env.example holds variables of the code, and of compose and scripts, only."""
    example = (_ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?\s*([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert named - set(_VARIABLES) == set()
