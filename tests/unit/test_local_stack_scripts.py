"""What the scripts behind the make targets choose, run with programs that only note calls."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LINK = "https://medium.com/@you/a-post"

_DOCKER = """#!/bin/sh
case "$*" in
  "info" | "compose version") exit 0 ;;
  *"ps --all --quiet"*) echo 0123456789ab ;;
  "ps --all"*) echo "$CONTAINERS_OF" ;;
  inspect*) echo "running [\\"CRAWLER_PROXY=$CRAWLERS_PROXY\\"]" ;;
  *) echo "docker $*" >>"$CALLS" ;;
esac
"""
_PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
case "$*" in
  *"local_stack status"*) printf 'mongo1 running 1\\nqdrant dead -\\n' && exit 4 ;;
esac
"""
_TWIN = """#!/bin/sh
echo "twin $*" >>"$CALLS"
"""
_CURL = """#!/bin/sh
cat >/dev/null
echo "$ANSWER"
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts, and what they call."""

    root: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "CALLS": str(self.root / "calls"),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        noted = self.root / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def program(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def crawl(self, status: str, link: str = _LINK, proxy: str = "") -> str:
        code = 200 if status in {"inserted", "updated", "unchanged", "deleted"} else 400
        answer = {"statusCode": code, "results": [{"status": status}]}
        text = json.dumps(answer, separators=(",", ":"))
        return self.run(
            "scripts/crawl-link", "medium", CRAWL_LINK=link, ANSWER=text, CRAWLERS_PROXY=proxy
        ).stdout


@pytest.fixture
def bare(tmp_path: Path) -> Checkout:
    """A checkout in which nothing was installed or started; another one's containers run."""
    shutil.copytree(_ROOT / "scripts", tmp_path / "scripts")
    checkout = Checkout(tmp_path)
    checkout.program("bin/docker", _DOCKER)
    checkout.program("bin/curl", _CURL)
    return checkout


@pytest.fixture
def checkout(bare: Checkout) -> Checkout:
    """The same after the stack without Docker was started."""
    bare.program(".venv/bin/python", _PYTHON)
    bare.program(".venv/bin/twin", _TWIN)
    (bare.root / ".local").mkdir()
    (bare.root / ".local" / "stack.json").write_text("{}")
    return bare


_DOWN = "docker compose --profile sample down --remove-orphans"
_LOCAL_DOWN = "python -m local_stack down"


@pytest.mark.parametrize(
    ("stack", "ours", "expected"),
    [
        ("local", True, [_LOCAL_DOWN]),
        ("docker", True, [_DOWN]),
        ("docker", False, [_DOWN]),
        ("", True, [_DOWN, _LOCAL_DOWN]),
        ("", False, [_LOCAL_DOWN]),
    ],
)
def test_stop_ends_what_is_meant(
    checkout: Checkout, stack: str, *, ours: bool, expected: list[str]
) -> None:
    """STACK decides; without it the containers of another checkout are left alone."""
    of = str(checkout.root) if ours else "/another/checkout"
    checkout.run("scripts/stack", "stop", STACK=stack, CONTAINERS_OF=of)
    assert checkout.calls() == expected


def test_stop_says_whose_containers_it_left(bare: Checkout) -> None:
    """Where only another checkout's containers run, it is named."""
    done = bare.run("scripts/stack", "stop", CONTAINERS_OF="/another/checkout")
    assert (bare.calls(), done.returncode) == ([], 0)
    assert "/another/checkout" in done.stdout


def test_a_dead_service_hides_nothing(checkout: Checkout) -> None:
    """With one service dead, `status` still shows documents and queues, and fails in the end."""
    done = checkout.run("scripts/stack", "status", STACK="local")
    assert "twin status" in checkout.calls()
    assert done.returncode == 4


def test_docker_does_not_start_beside_half_a_local_stack(checkout: Checkout) -> None:
    """A local stack with a dead service still holds its ports."""
    (checkout.root / ".env").touch()
    done = checkout.run("scripts/stack", "start", STACK="docker")
    assert done.returncode == 1
    assert "make local-stop STACK=local" in done.stderr


def test_a_dead_sample_site_is_told(checkout: Checkout) -> None:
    """`status` says that the crawlers wait for a sample site that has died."""
    (checkout.root / ".local" / "run").mkdir()
    (checkout.root / ".local" / "run" / "sample-site.pid").write_text("4194305\n")
    done = checkout.run("scripts/stack", "status", STACK="local")
    assert "The sample site has died" in done.stdout


@pytest.mark.parametrize("command", ["status", "logs", "search"])
@pytest.mark.parametrize("stack", ["", "local"])
def test_before_a_start_each_target_says_how_to_begin(
    bare: Checkout, command: str, stack: str
) -> None:
    """One sentence instead of a missing .venv."""
    done = bare.run("scripts/stack", command, STACK=stack, CONTAINERS_OF="/another/checkout")
    assert done.stderr == "error: nothing was started here. Begin with: make local-start\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("inserted", "MongoDB has it; Qdrant"),
        ("unchanged", "nothing was written"),
        ("deleted", "MongoDB has deleted"),
        ("refused", "REFUSED"),
        ("blocked", "SAMPLE=1"),
        ("failed", "SAMPLE=1"),
    ],
)
def test_what_is_said_after_a_crawl_fits_its_status(bare: Checkout, status: str, said: str) -> None:
    """Each status has its own sentence, and a refused link no advice that cannot help."""
    printed = bare.crawl(status)
    assert f"crawling {_LINK} for Paul Iusztin" in printed
    assert said in printed
    assert ("SAMPLE=1" in printed) == (status in {"blocked", "failed"})


def test_a_sample_site_that_is_on_is_not_advised(bare: Checkout) -> None:
    """Crawlers that already go to the sample site reach nothing else, and that is said."""
    printed = bare.crawl("not_found", proxy="http://sample-site:8888")
    assert "SAMPLE=1" not in printed
    assert "the crawlers reach only it" in printed
