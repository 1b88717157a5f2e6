"""The order of events: clusterTime as one integer, then the resume token's text.

Qdrant compares ranges as float64, so a version must stay below 2**53: seconds
take the upper bits and the increment the lower 20, which it never fills.
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

INCREMENT_BITS = 20
MAX_INCREMENT = (1 << INCREMENT_BITS) - 1

# After every resume token of the same clusterTime: those are hexadecimal, and a
# read at that time already contains what they tell.
READ_POSITION = "~"


class Version(NamedTuple):
    """Compares as the pair (number, pos). `pos` is a resume token's `_data`."""

    number: int
    pos: str

    @classmethod
    def of(cls, seconds: int, increment: int, pos: str) -> Version:
        """The version of an event with clusterTime Timestamp(seconds, increment)."""
        return cls(version_number(seconds, increment), pos)


def version_number(seconds: int, increment: int) -> int:
    """clusterTime as one integer below 2**53, until the year 2242."""
    return seconds << INCREMENT_BITS | min(increment, MAX_INCREMENT)


def is_version(number: object) -> TypeGuard[int]:
    """Whether `number` is a version that Qdrant compares exactly."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 53


def version_seconds(number: int) -> int:
    """The seconds since 1970 that a version number holds."""
    return number >> INCREMENT_BITS
