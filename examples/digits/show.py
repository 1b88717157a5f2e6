"""What people see: a line on the terminal that changes, and a picture of the last digits."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.digits.board import Board, Score
from examples.digits.data import SIDE, Digit

_EVERY_S = 0.5
_LAST = 12

_COLUMNS = 8
_CELL, _MARGIN, _CAPTION, _TITLE = 96, 12, 26, 44
_PAPER, _INK, _RIGHT, _WRONG = "#ffffff", "#1f2933", "#1b7f4b", "#c0262d"
_DARKEST = 16


@dataclass(frozen=True)
class Told:
    """A digit and what the model said of it."""

    digit: Digit
    predicted: int

    @property
    def right(self) -> bool:
        """Whether it is what the writer meant."""
        return self.predicted == self.digit.label


@dataclass
class Show:
    """Counts since the start, the score of all documents, the last digits."""

    board: Board
    counts: Mapping[str, int]
    recent: Sequence[Told]
    picture: Path
    _begun: float = field(default_factory=time.monotonic)
    _next: float = 0.0
    _said: str = ""

    def refresh(self) -> bool:
        """Show anew where it is time to. False: nothing here says stop."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            self.draw()
        return False

    def draw(self) -> Score:
        """Print the line, write the picture."""
        score = self.board.score()
        self._say(_line(score, self.counts, self.recent))
        if self.recent:
            _save(paint(score, list(self.recent)), self.picture)
        return score

    def _say(self, line: str) -> None:
        """A terminal shows one line that changes; a file gets one for each change."""
        since = f"{time.monotonic() - self._begun:6.1f} s  "
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{since}{line}", end="", flush=True)
        elif line != self._said:
            print(f"{since}{line}", flush=True)
        self._said = line


def _line(score: Score, counts: Mapping[str, int], recent: Sequence[Told]) -> str:
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "waiting"
    last = " ".join(
        str(one.predicted) if one.right else f"{one.predicted}({one.digit.label})"
        for one in list(recent)[-_LAST:]
    )
    return f"{score.digits:4} digits  accuracy {score.accuracy:6.1%}  [{told}]  {last}"


def paint(score: Score, recent: Sequence[Told]) -> Image.Image:
    """The last digits, each above what the model said of it, and what it is where that is wrong."""
    rows = -(-len(recent) // _COLUMNS)
    width = _MARGIN + _COLUMNS * (_CELL + _MARGIN)
    sheet = Image.new("RGB", (width, _TITLE + rows * (_CELL + _CAPTION + _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title = f"{score.digits} digits, {score.accuracy:.1%} right"
    draw.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(20))
    for place, told in enumerate(recent):
        row, column = divmod(place, _COLUMNS)
        left = _MARGIN + column * (_CELL + _MARGIN)
        _cell(sheet, draw, (left, _TITLE + row * (_CELL + _CAPTION + _MARGIN)), told)
    return sheet


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], told: Told
) -> None:
    left, top = corner
    colour = _RIGHT if told.right else _WRONG
    sheet.paste(_image(told.digit), corner)
    draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), outline=colour, width=2)
    said = str(told.predicted) if told.right else f"{told.predicted} (is {told.digit.label})"
    draw.text((left, top + _CELL + 2), said, colour, ImageFont.load_default(18))


def _image(digit: Digit) -> Image.Image:
    grey = 255 - np.array(digit.pixels, dtype=np.float64).reshape(SIDE, SIDE) / _DARKEST * 255
    small = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return small.resize((_CELL, _CELL), Image.Resampling.NEAREST)


def _save(image: Image.Image, file: Path) -> None:
    """At once: a viewer that looks meanwhile sees the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.part")
    image.save(unfinished, "PNG")
    unfinished.replace(file)
