"""Git, run so that a repository can only be read.

Bare and without a checkout: no hook, filter, symlink or path of the repository ever acts on
this machine. After cloning the remote is removed, since git would otherwise fetch each
withheld blob again one by one.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import MissingDependency
from crawlers.fetch import USER_AGENT
from crawlers.results import FetchFailed, LinkRefused, PageGone
from crawlers.trust import ca_bundle

_ABSENT = ("not found", "could not read username", "authentication failed", "returned error: 404")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a repository is read. Sizes in bytes, time in seconds."""

    file_bytes: int = 1_000_000
    files: int = 5_000
    text_bytes: int = 50_000_000
    pack_bytes: int = 500_000_000
    seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class GitAccess:
    """How git reaches out. `proxy` is always set: the configured one or our own guard."""

    proxy: str
    ca_file: Path | None = None
    limits: Limits = Limits()


class Clone:
    """A repository on this disk, valid while its context is entered."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def head(self) -> str:
        """The commit that was cloned; empty for a repository without one."""
        return self._run("rev-parse", "--verify", "--quiet", "HEAD", check=False).decode().strip()

    def branch(self) -> str:
        """The name of the default branch."""
        return self._run("symbolic-ref", "--short", "HEAD").decode().strip()

    def listing(self) -> bytes:
        """All entries of HEAD as `ls-tree -r -z` prints them."""
        return self._run("ls-tree", "-r", "-z", "--full-tree", "HEAD")

    def blobs(self, oids: Iterable[str]) -> Iterator[bytes | None]:
        """The content of each blob in turn; None for one that was withheld as too large."""
        reader = subprocess.Popen(
            ["git", "cat-file", "--batch"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with reader:
            if reader.stdin is None or reader.stdout is None:
                raise FetchFailed("git gives no output.")
            try:
                for oid in oids:
                    reader.stdin.write(f"{oid}\n".encode())
                    reader.stdin.flush()
                    words = reader.stdout.readline().split()
                    if not words:
                        raise FetchFailed("git stopped in the middle of the files.")
                    if len(words) != 3:
                        yield None
                        continue
                    size = int(words[2])
                    yield reader.stdout.read(size + 1)[:size]
            finally:
                reader.kill()

    def _run(self, *arguments: str, check: bool = True) -> bytes:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise FetchFailed(f"git could not read the clone: {_sentence(done.stderr)}")
        return done.stdout


@contextmanager
def cloned(link: str, access: GitAccess) -> Iterator[Clone]:
    """Clone the newest commit of `link` into a folder that is removed afterwards.

    Raises PageGone where there is no public repository, FetchFailed for anything else.
    """
    with TemporaryDirectory(prefix="crawler-git-") as name:
        folder = Path(name)
        environment = _environment(access, folder)
        target = folder / "repository.git"
        _clone(link, target, access, environment)
        clone = Clone(target, environment)
        subprocess.run(
            ["git", "remote", "remove", "origin"],
            cwd=target,
            env=environment,
            capture_output=True,
            timeout=30,
            check=True,
        )
        yield clone


def _environment(access: GitAccess, home: Path) -> dict[str, str]:
    """No user's or system's configuration, no prompt, one protocol."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "https",
        "GIT_HTTP_USER_AGENT": f"git/{USER_AGENT}",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
        "GIT_HTTP_LOW_SPEED_TIME": "20",
    }
    for name in ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        if name in os.environ:
            environment[name] = os.environ[name]
    if access.ca_file:
        # Of git's ways to name certificates the variable wins over configuration.
        environment["GIT_SSL_CAINFO"] = str(ca_bundle(access.ca_file, home))
    return environment


def _clone(link: str, target: Path, access: GitAccess, environment: dict[str, str]) -> None:
    command = [
        "git",
        "-c",
        f"http.proxy={access.proxy}",
        "-c",
        "transfer.fsckObjects=true",
        "-c",
        "http.followRedirects=initial",
        "clone",
        "--quiet",
        "--bare",
        "--depth=1",
        "--single-branch",
        "--no-tags",
        f"--filter=blob:limit={access.limits.file_bytes}",
        "--",
        f"{link}.git",
        str(target),
    ]
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MissingDependency(
            "git", "Repositories are read with it: apt-get install git."
        ) from None
    # Git has no option for the size of what it receives; its children inherit this.
    size = access.limits.pack_bytes
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    try:
        _, stderr = process.communicate(timeout=access.limits.seconds)
    except subprocess.TimeoutExpired:
        raise FetchFailed(f"The clone took longer than {access.limits.seconds:.0f} s.") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise _failure(stderr)


def _failure(stderr: bytes) -> Exception:
    sentence = _sentence(stderr)
    if any(word in sentence.lower() for word in _ABSENT):
        return PageGone(404)
    if "response 403" in sentence:
        return LinkRefused("The proxy does not let the crawler reach this host.")
    return FetchFailed(f"git could not clone the repository: {sentence}")


def _sentence(stderr: bytes) -> str:
    text = " ".join(stderr.decode(errors="replace").split())
    return text[:300] or "no message"
