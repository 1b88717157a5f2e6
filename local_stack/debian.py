"""Installing packages of Debian and its kin without starting the services in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MissingDependency

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Packages ask this program whether they may start a service; 101 says no.
_POLICY = Path("/usr/sbin/policy-rc.d")
_REFUSAL = "#!/bin/sh\n# Made while llm-twin installs packages; may be removed.\nexit 101\n"


def can_install() -> bool:
    """Whether this machine has apt-get and we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], policy: Path = _POLICY) -> None:
    """Install `packages`, leaving the services in them stopped. May take minutes.

    Raises MissingDependency, which says what stood in the way.
    """
    names = " ".join(packages)
    if not can_install():
        raise MissingDependency(names, f"As root on Debian or Ubuntu: apt-get install {names}")
    with services_stay_down(policy):
        # A list of packages that cannot be refreshed may still do.
        _apt_get("update")
        problem = _apt_get("install", "--no-install-recommends", *packages)
    if problem:
        raise MissingDependency(names, f"`apt-get install {names}` failed: {problem}")


@contextlib.contextmanager
def services_stay_down(policy: Path = _POLICY) -> Iterator[None]:
    """Keep packages from starting services, where the machine has no policy of its own."""
    ours = not policy.exists()
    if ours:
        policy.write_text(_REFUSAL)
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def _apt_get(*arguments: str) -> str | None:
    done = subprocess.run(
        ["apt-get", "--yes", "--quiet", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else " ".join(done.stderr.splitlines()[-3:])
