"""Certificates: what the system trusts, plus CRAWLER_CA_FILE, for all three ways out."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import certifi
import httpx

from core.errors import ConfigurationError, MissingDependency, TerminalError


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """For httpx: the usual certificates, and `ca_file` in addition.

    Raises ConfigurationError for a file that holds no certificate.
    """
    context = httpx.create_ssl_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(
            "CRAWLER_CA_FILE", f"{ca_file} holds no certificate in PEM form"
        ) from error
    return context


def ca_bundle(ca_file: Path, folder: Path) -> Path:
    """For git, which takes one file: the usual certificates and `ca_file` joined."""
    bundle = folder / "ca-bundle.pem"
    parts = [Path(certifi.where()).read_text(), ca_file.read_text()]
    bundle.write_text("\n".join(parts))
    return bundle


def browser_trust(ca_file: Path, home: Path) -> None:
    """For the browser, which reads an NSS database in its home folder.

    Raises MissingDependency where `certutil` is not installed.
    """
    if shutil.which("certutil") is None:
        raise MissingDependency(
            "certutil", "CRAWLER_CA_FILE needs it for the browser: apt-get install libnss3-tools."
        )
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    name = f"sql:{database}"
    _certutil("-N", "-d", name, "--empty-password")
    _certutil("-A", "-d", name, "-n", "crawler-ca", "-t", "C,,", "-i", str(ca_file))


def _certutil(*arguments: str) -> None:
    done = subprocess.run(
        ["certutil", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise TerminalError(
            f"certutil could not prepare the browser's trust in CRAWLER_CA_FILE: "
            f"{done.stderr.strip()[:300]}"
        )
