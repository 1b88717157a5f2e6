"""The constituents that matter in a small harbour."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constituent:
    """One cosine of the tide: amplitude in metres, phase in degrees."""

    name: str
    amplitude: float
    phase: float

    def height(self, hours: float) -> float:
        """Its part of the water's height at `hours` after the epoch."""
        angle = math.radians(SPEEDS[self.name] * hours - self.phase)
        return self.amplitude * math.cos(angle)


# Degrees an hour.
SPEEDS = {
    "M2": 28.9841042,
    "S2": 30.0,
    "N2": 28.4397295,
    "K1": 15.0410686,
    "O1": 13.9430356,
}
