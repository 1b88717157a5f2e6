"""What a repository's entries are, and what of them is text."""

from __future__ import annotations

import json

import pytest

from crawlers.github.files import read
from crawlers.github.tree import Entry, Skipped, parse, readme, refusal
from crawlers.secrets import redact

OID = "4" * 40
LIMIT = 100_000


def _entry(path: str, mode: str = "100644", kind: str = "blob") -> Entry:
    return Entry(mode, kind, OID, path)


def test_listings_are_read_with_any_path() -> None:
    """Spaces, tabs, newlines and bytes that are no UTF-8 in a path do not break the listing."""
    listing = (
        f"100644 blob {OID}\ta b.py\x00120000 blob {OID}\tx\ty\n.md\x00".encode()
        + f"160000 commit {OID}\t".encode()
        + b"sub\xff\x00"
    )
    assert [(entry.mode, entry.path) for entry in parse(listing)] == [
        ("100644", "a b.py"),
        ("120000", "x\ty\n.md"),
        ("160000", "sub\ufffd"),
    ]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (_entry("a/b.py"), None),
        (_entry(".github/workflows/ci.yml"), None),
        (_entry(".env.example"), None),
        (_entry("src/environment.py"), None),
        (_entry("link", mode="120000"), Skipped.SYMLINK),
        (_entry("sub", mode="160000", kind="commit"), Skipped.SUBMODULE),
        (_entry(".env"), Skipped.SECRETS),
        (_entry("deploy/.env.production"), Skipped.SECRETS),
        (_entry("keys/server.pem"), Skipped.SECRETS),
        (_entry("home/.ssh/id_rsa"), Skipped.SECRETS),
        (_entry("package-lock.json"), Skipped.GENERATED),
        (_entry("web/node_modules/x/index.js"), Skipped.GENERATED),
        (_entry("app.min.js"), Skipped.GENERATED),
    ],
)
def test_entries_are_refused_for_a_reason(entry: Entry, why: Skipped | None) -> None:
    """Links, submodules, files for secrets and generated files are listed, never read."""
    assert refusal(entry) is why


def test_the_readme_is_the_one_at_the_root() -> None:
    """A README of a subfolder is not the repository's."""
    entries = [_entry("docs/README.md"), _entry("Readme.rst")]
    assert readme(entries) == entries[1]
    assert readme(entries[:1]) is None


@pytest.mark.parametrize(
    ("blob", "what"),
    [
        (None, Skipped.TOO_LARGE),
        (b"x" * (LIMIT + 1), Skipped.TOO_LARGE),
        (b"\x89PNG\r\n\x00\x00", Skipped.BINARY),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", Skipped.LFS),
        (b" \n", Skipped.EMPTY),
        (b"a" * 50_000, Skipped.GENERATED),
        (b"if x:\r\n\ty  = 1\r\n", "if x:\n\ty  = 1\n"),
        ("été".encode("utf-8-sig"), "été"),
        ("été 中文".encode("utf-16"), "été 中文"),
        (b"a\x00".ljust(1) + b"b", Skipped.BINARY),
        (b"plain \x1b[0m", "plain [0m"),
    ],
)
def test_blobs_are_text_or_a_reason(blob: bytes | None, what: object) -> None:
    """Code keeps every space; what is no text says what it is instead."""
    assert read("a.py", blob, LIMIT) == what


def test_notebooks_keep_their_source_only() -> None:
    """Outputs are dropped, prose stays prose and code becomes a code block."""
    book = {
        "cells": [
            {"cell_type": "markdown", "source": ["# T\n", "text"]},
            {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "OUTPUT"}]},
        ]
    }
    text = read("n.ipynb", json.dumps(book).encode(), LIMIT)
    assert text == "# T\ntext\n\n```python\nx = 1\n```"


def test_a_broken_notebook_is_kept_as_text() -> None:
    """What only has a notebook's name is stored as it is."""
    assert read("n.ipynb", b"no json", LIMIT) == "no json"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("id = AKIA" + "IOSFODNN7EXAMPLE", "aws-access-key"),
        ("ghp_" + "a1B2" * 9, "github-token"),
        ("glpat-" + "x" * 20, "gitlab-token"),
        ("xoxb-" + "1234567890-abc", "slack-token"),
        ("AIza" + "b" * 35, "google-key"),
        ("hf_" + "c" * 34, "hugging-face-token"),
        ("sk-proj-" + "d" * 40, "api-key"),
        ("postgres://bob:hunter22@db.example/x", "password-in-url"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",  # gitleaks:allow
            "private-key",
        ),
    ],
)
def test_secrets_become_placeholders(text: str, kind: str) -> None:
    """An obvious secret is replaced by its kind, and what surrounds it stays."""
    redacted, count = redact(f"before {text} after")
    assert count == 1
    assert f"[secret:{kind}]" in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize(
    "text",
    ["sk-learn is a library", "http://user:{password}@host/", "AKIA", "task-force-of-a-kind"],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """What only resembles a secret is not touched."""
    assert redact(text) == (text, 0)
