"""Documents as the bytes that MongoDB holds, for what decoding would change or refuse.

A program in another language may have written text that is no UTF-8, or values that
the driver does not take. See https://bsonspec.org/spec.html for the layout.
"""

from __future__ import annotations

# How many bytes a value has, by its type.
_FIXED = {
    0x01: 8,
    0x06: 0,
    0x07: 12,
    0x08: 1,
    0x09: 8,
    0x0A: 0,
    0x10: 4,
    0x11: 8,
    0x12: 8,
    0x13: 16,
    0x7F: 0,
    0xFF: 0,
}
# A value that begins with a length: how many bytes it has beside those that it counts.
_COUNTED = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
_HEAD = 4
_NAME = b"_id\x00"


def identity(document: bytes) -> bytes:
    """The BSON of `{"_id": …}` alone, byte for byte as in `document`.

    Raises ValueError where there is no `_id`.
    """
    at = _HEAD
    while document[at]:
        end = _end(document, at)
        if document.startswith(_NAME, at + 1):
            element = document[at:end]
            return (len(element) + _HEAD + 1).to_bytes(_HEAD, "little") + element + b"\x00"
        at = end
    raise ValueError("a document without _id")


def is_max_key(identity_: bytes) -> bool:
    """Whether `_id` is MaxKey, behind which there is nothing."""
    return identity_[_HEAD] == 0x7F


def _end(document: bytes, at: int) -> int:
    """Where the element that begins `at` ends."""
    kind, value = document[at], document.index(0, at + 1) + 1
    if kind in _FIXED:
        return value + _FIXED[kind]
    if kind in _COUNTED:
        return value + _COUNTED[kind] + int.from_bytes(document[value : value + _HEAD], "little")
    # A regular expression: two texts, each up to a zero.
    return document.index(0, document.index(0, value) + 1) + 1
