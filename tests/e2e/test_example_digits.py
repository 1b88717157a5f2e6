"""The second consumer: a model that is fed by the stream of changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from core.documents import document_key
from core.errors import DocumentRejected
from core.events import ChangeEvent, Op, Purge, SnapshotCompleted
from core.mongo import connect
from core.versions import READ_POSITION, Version
from examples.digits.board import PREDICTIONS, Board, Score
from examples.digits.classify import Classifier
from examples.digits.data import Digit, Model, unseen
from tests.twin_harness import settings_of

pytestmark = pytest.mark.stack

_ROOT = Path(__file__).parents[2]


def test_the_example_classifies_what_is_written_although_the_broker_dies(tmp_path: Path) -> None:
    """Every document ends with the prediction of its last state, nine in ten right, and a PNG."""
    picture = tmp_path / "digits.png"
    wanted = ["--digits", "240", "--rate", "40", "--kill-broker", "--picture", str(picture)]
    done = subprocess.run(
        [sys.executable, "-m", "examples.digits", *wanted],
        cwd=_ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"(\d+) of (\d+) digits are right", done.stdout)
    assert told is not None
    right, digits = (int(number) for number in told.groups())
    assert digits > 200
    assert right / digits > 0.9
    with Image.open(picture) as image:
        image.verify()
        assert image.format == "PNG"
    assert list(tmp_path.glob("llm-twin-digits-*")) == []


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture
def classifier(model: Model, twin_env: dict[str, str]) -> Iterator[Classifier]:
    settings = settings_of(twin_env)
    with connect(settings.mongo) as mongo:
        yield Classifier(model, Board(mongo[settings.mongo.database][PREDICTIONS]))


def _change(number: int, digit: Digit | None, *, op: Op = Op.UPDATE, key: int = 1) -> ChangeEvent:
    return ChangeEvent(
        op=op,
        db="digits",
        collection="posts",
        key=document_key(key),
        document=None if digit is None else digit.document(key),
        version=Version(number, f"82{number:08X}"),
        wall_ms=0,
        message_id=str(number),
    )


def test_an_event_applied_again_or_late_changes_nothing(classifier: Classifier) -> None:
    """Versions decide, not the order of arrival; a deleted document is not brought back."""
    first, second = unseen()[:2]
    for event in (_change(2, second), _change(2, second), _change(1, first, op=Op.CREATE)):
        classifier.apply(event)
    assert classifier.board.labels() == {document_key(1): second.label}
    assert classifier.counts == {"update": 2, "stale": 1}
    for event in (_change(3, None, op=Op.DELETE), _change(2, second)):
        classifier.apply(event)
    assert classifier.board.labels() == {}
    assert classifier.board.score() == Score(0, 0)


def test_what_a_snapshot_did_not_see_is_forgotten(classifier: Classifier) -> None:
    """A completed snapshot sweeps what is older than it; a dropped collection is gone."""
    digit = unseen()[0]
    for key, number in ((1, 5), (2, 10)):
        classifier.apply(_change(number, digit, key=key))
    marker = {"db": "digits", "wall_ms": 0, "message_id": "m"}
    read_at = Version(10, READ_POSITION)
    classifier.apply(
        SnapshotCompleted(collections=("posts",), snapshot_id="s", version=read_at, **marker)
    )
    assert set(classifier.board.labels()) == {document_key(2)}
    classifier.apply(Purge(collection="posts", reason="drop", version=Version(11, "8"), **marker))
    assert classifier.board.labels() == {}


def test_a_document_without_a_digit_is_poison(classifier: Classifier) -> None:
    """It can never work, so it is set aside, and those behind it flow."""
    event = _change(1, Digit((1, 2, 3), 0))
    with pytest.raises(DocumentRejected):
        classifier.apply(event)
