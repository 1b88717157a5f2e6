"""What was written since the engine last reached the disk, to be done again after a crash.

The engine has a log of its own, but a process that is killed in the middle of a flush
leaves some points with new version numbers and old payloads, and the replay of that log
skips what has a new number. So every write is noted here first, with filters already
resolved to ids, and done once more when the shard is opened. Each of them sets, replaces
or removes, so doing the row again in order ends where it ended before.

A file is a row of records: length and CRC-32 of what follows, a header line, the body.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FRAME = struct.Struct("<QI")


class Journal:
    """Files `<number>.journal` in `path`, the highest of which grows. One writer at a time."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self._path = path
        numbers = [int(file.stem) for file in self._files()]
        self._number = max(numbers, default=0)
        self._size = 0
        self._file = self._next()

    @property
    def size(self) -> int:
        """Bytes in the file that grows."""
        return self._size

    def append(self, header: bytes, body: bytes) -> None:
        """Note a write before it is done. `header` is one line. It survives the process."""
        content = header + b"\n" + body
        frame = _FRAME.pack(len(content), zlib.crc32(content))
        try:
            os.writev(self._file, [frame, content])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(frame) + len(content)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """The header and body of each write, oldest first. Ends a file at a torn record."""
        for file in self._files():
            content = file.read_bytes()
            start = 0
            while start + _FRAME.size <= len(content):
                length, checksum = _FRAME.unpack_from(content, start)
                start += _FRAME.size
                record = content[start : start + length]
                if len(record) < length or zlib.crc32(record) != checksum:
                    break
                header, _, body = record.partition(b"\n")
                yield header, body
                start += length

    def rotate(self) -> None:
        """Go on in a new file. Call before a flush of the engine."""
        os.close(self._file)
        self._file = self._next()

    def forget(self) -> None:
        """Remove the files before this one. Call when the flush is done."""
        for file in self._files():
            if int(file.stem) < self._number:
                file.unlink()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _files(self) -> list[Path]:
        return sorted(self._path.glob("*.journal"), key=lambda file: int(file.stem))

    def _next(self) -> int:
        self._number += 1
        self._size = 0
        file = self._path / f"{self._number}.journal"
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
