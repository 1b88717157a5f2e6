"""What a blob says: text, notebooks without their outputs, or a reason why not."""

from __future__ import annotations

import json
from typing import Any

import charset_normalizer

from crawlers.github.tree import Skipped
from crawlers.secrets import redact
from crawlers.text import storable

_LFS = b"version https://git-lfs.github.com/spec/"
_SNIFFED = 8000
_LONGEST_LINE = 20_000


def read(path: str, blob: bytes | None, limit: int) -> str | Skipped:
    """The text of a blob with secrets replaced, or why there is none."""
    if blob is None or len(blob) > limit:
        return Skipped.TOO_LARGE
    if blob.startswith(_LFS):
        return Skipped.LFS
    text = _decoded(blob)
    if text is None:
        return Skipped.BINARY
    if path.endswith(".ipynb"):
        text = _notebook(text)
    if not text.strip():
        return Skipped.EMPTY
    if max(map(len, text.split("\n"))) > _LONGEST_LINE:
        return Skipped.GENERATED
    return redact(storable(text))[0]


def _decoded(blob: bytes) -> str | None:
    """By git's own rule a NUL in the beginning means binary, except in UTF-16."""
    if blob.startswith((b"\xff\xfe", b"\xfe\xff")):
        return blob.decode("utf-16", errors="replace")
    if b"\x00" in blob[:_SNIFFED]:
        return None
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(blob[:100_000]).best()
        return blob.decode(best.encoding if best else "utf-8", errors="replace")


def _notebook(text: str) -> str:
    """The cells' sources: prose as it is, code in fences. What is no notebook stays."""
    try:
        cells = json.loads(text)["cells"]
        return "\n\n".join(_cell(cell) for cell in cells)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def _cell(cell: Any) -> str:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    return f"```python\n{text}\n```" if cell.get("cell_type") == "code" else text
