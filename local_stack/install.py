"""What the stack's services need from the system, and getting it where we may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import MissingDependency
from local_stack import debian, mongo, rabbitmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local_stack.startup import Report

# A service, how to find out whether its program runs here, and what to install if not.
_NEEDS: tuple[tuple[str, Callable[[], object], tuple[str, ...]], ...] = (
    ("mongo1", mongo.mongod_binary, mongo.LIBRARY_PACKAGES),
    ("mq", rabbitmq.server_script, ("rabbitmq-server",)),
)


def install_missing(services: Iterable[str], report: Report) -> None:
    """Install Debian's packages that `services` lack here, leaving their services stopped.

    Idempotent; does nothing where nothing is missing. Raises MissingDependency when we are
    not root, when apt-get fails, and when a program is missing even then.
    """
    checks = [(find, packages) for name, find, packages in _NEEDS if name in set(services)]
    wanted = [name for find, packages in checks if _lacks(find) for name in packages]
    if wanted:
        report(f"installing {' '.join(wanted)} with apt-get …")
        debian.install(wanted)
    for find, _packages in checks:
        find()


def _lacks(find: Callable[[], object]) -> bool:
    try:
        find()
    except MissingDependency:
        return True
    return False
