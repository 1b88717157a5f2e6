"""scikit-learn's handwritten digits: one half to learn from, one to be fed as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

# The example has a database and a queue of its own: a twin on the same stack does not see it.
DATABASE = QUEUE = "digits"
COLLECTION = "posts"

SIDE = 8
_SEED = 7


@dataclass(frozen=True)
class Digit:
    """8 × 8 pixels of 0 to 16, and which digit the writer meant."""

    pixels: tuple[int, ...]
    label: int

    def document(self, identifier: int) -> dict[str, Any]:
        """As any program might write it to MongoDB."""
        content = " ".join(str(pixel) for pixel in self.pixels)
        return {"_id": identifier, "platform": "digits", "content": content, "label": self.label}


def digit_of(document: Mapping[str, Any]) -> Digit:
    """The digit in a document. Raises ValueError for a document that holds none."""
    pixels = tuple(int(word) for word in str(document.get("content")).split())
    label = document.get("label")
    if len(pixels) != SIDE * SIDE or not isinstance(label, int):
        raise ValueError("the document holds no digit")
    return Digit(pixels, label)


def unseen() -> list[Digit]:
    """The half that the model has not learnt from."""
    _, images, _, labels = _halves()
    return [
        Digit(tuple(int(pixel) for pixel in image), int(label))
        for image, label in zip(images, labels, strict=True)
    ]


class Model:
    """A support vector machine that has learnt the other half, which takes a blink."""

    def __init__(self) -> None:
        images, _, labels, _ = _halves()
        self._machine = SVC(gamma=0.001).fit(images, labels)

    def predict(self, digits: Sequence[Digit]) -> list[int]:
        """What each digit looks like."""
        images = np.array([digit.pixels for digit in digits])
        return [int(label) for label in self._machine.predict(images)]


def _halves() -> list[NDArray[np.float64]]:
    """Images to learn, images to feed, and the labels of both."""
    digits = load_digits()
    halves: list[NDArray[np.float64]] = train_test_split(
        digits.data, digits.target, test_size=0.5, random_state=_SEED, stratify=digits.target
    )
    return halves
