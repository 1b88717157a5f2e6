"""Git repositories made from ordinary folders, the same commit each time."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 73400320
"""


class Repositories:
    """Serves each `sources`/<owner>/<name> folder as the bare `folder`/<owner>/<name>.git.

    A working repository keeps the folder as its tree, so that an edited file is a commit.
    """

    def __init__(self, sources: Path, folder: Path) -> None:
        self._sources = sources
        self.folder = folder
        self._count = 0
        shutil.rmtree(folder, ignore_errors=True)
        for source in sorted(path for path in sources.glob("*/*") if path.is_dir()):
            self._make(source)

    def commit(self, file: Path) -> None:
        """Commit the repository that a file belongs to, if it belongs to one."""
        for source in self._sources.glob("*/*"):
            if source.is_dir() and file.is_relative_to(source):
                self._commit(source)

    def remove(self, source: Path) -> None:
        """Stop serving the repository of a folder."""
        shutil.rmtree(self._bare(source))

    def _make(self, source: Path) -> None:
        bare = self._bare(source)
        bare.parent.mkdir(parents=True, exist_ok=True)
        _git(source, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        for setting in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
            self._at(source, "config", setting, "true")
        _add_oddities(source)
        self._commit(source)

    def _commit(self, source: Path) -> None:
        self._count += 1
        self._at(source, "add", "--all", "--force")
        self._at(
            source, "commit", "--quiet", "--allow-empty", "--message", f"Edition {self._count}"
        )

    def _at(self, source: Path, *arguments: str) -> None:
        _git(source, f"--git-dir={self._bare(source)}", f"--work-tree={source}", *arguments)

    def _bare(self, source: Path) -> Path:
        return self.folder / f"{source.relative_to(self._sources)}.git"


def _add_oddities(source: Path) -> None:
    """What a package cannot ship as ordinary files, and a crawler must leave alone."""
    (source / ".env").write_text("HARBOUR_PASSWORD=not-a-real-one\n")
    (source / "chart.bin").write_text(_LFS_POINTER)
    (source / "passwords").symlink_to("/etc/passwd")


def _git(folder: Path, *arguments: str) -> None:
    identity = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "Mira Sandoval"),
            ("EMAIL", "mira@sample.example"),
            ("DATE", "2026-01-15T08:00:00+00:00"),
        )
    }
    settings = ("-c", "core.fileMode=false", "-c", "core.autocrlf=false", "-c", "gc.auto=0")
    subprocess.run(
        ["git", *settings, *arguments],
        cwd=folder,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            **identity,
        },
        check=True,
        capture_output=True,
        timeout=30,
    )
