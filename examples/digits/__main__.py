"""`python -m examples.digits`: the whole example on a stack of its own, in half a minute.

MongoDB, RabbitMQ and data_cdc run on free ports in a scratch folder and are gone
afterwards. Exit status 0 only if each document has the prediction of its last state.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

from core.config import LogConfig, Settings, load_settings
from core.documents import document_key
from core.errors import TwinError
from core.logging import configure_logging
from core.mongo import Client, connect
from examples.digits.board import PREDICTIONS, Board
from examples.digits.classify import Classifier, consume, subscription
from examples.digits.data import COLLECTION, DATABASE, QUEUE, Model
from examples.digits.feed import feed
from examples.digits.show import Show
from local_stack.service import Options
from local_stack.stack import LocalStack, running_stack

_NAMES = {
    "MONGO_DATABASE_NAME": DATABASE,
    "RABBITMQ_QUEUE_NAME": QUEUE,
    "CDC_COLLECTIONS": COLLECTION,
    "CDC_HTTP_PORT": "0",
}
_SERVICES = ("mongo", "mq", "data_cdc")
_PATIENCE_S = 60.0
_BROKER_LIVES_S, _BROKER_IS_AWAY_S = 4.0, 2.0
_PROBLEMS_FOUND, _INTERRUPTED = 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and clean up after it."""
    given = _parser().parse_args(arguments)
    given.picture = given.picture.absolute()
    signal.signal(signal.SIGTERM, _interrupt)
    configure_logging("digits", LogConfig(format="auto", level="error"), sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="llm-twin-digits-"))
    os.chdir(folder)  # services read .env where they start
    try:
        status = _play(folder, given)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except TwinError as error:
        print(f"digits: {error}", file=sys.stderr)
        status = error.exit_status
    if status in (0, _INTERRUPTED):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"digits: the logs are in {folder / 'stack' / 'logs'}", file=sys.stderr)
    return status


def _play(folder: Path, given: argparse.Namespace) -> int:
    print("Starting MongoDB, RabbitMQ and data_cdc …", flush=True)
    options = Options(environment=_NAMES, management=False)
    with running_stack(folder / "stack", services=_SERVICES, options=options) as stack:
        os.environ.update({**stack.environment(), **_NAMES})
        settings = load_settings(None)
        with connect(settings.mongo, app="digits") as mongo:
            return _watch(stack, settings, mongo, given)


def _watch(stack: LocalStack, settings: Settings, mongo: Client, given: argparse.Namespace) -> int:
    database = mongo[DATABASE]
    classifier = Classifier(Model(), Board(database[PREDICTIONS]))
    show = Show(classifier.board, classifier.counts, classifier.recent, given.picture)
    with ThreadPoolExecutor() as background:
        work = [background.submit(feed, database[COLLECTION], given.digits, given.rate)]
        if given.kill_broker:
            work.append(background.submit(_kill_broker, stack))
        end = _End(mongo, classifier.board, show, work)
        consume(settings.rabbitmq, subscription(QUEUE), classifier, end.reached)
        for done in work:
            done.result()
    score = show.draw()
    print(f"\n{score.right} of {score.digits} digits are right; the picture is {given.picture}")
    if not end.in_step:
        print(f"After {_PATIENCE_S:.0f} s some documents still lack the prediction of their state.")
    return 0 if end.in_step else _PROBLEMS_FOUND


class _End:
    """All is written, and the board knows each document as it is now; or it takes too long."""

    def __init__(
        self, mongo: Client, board: Board, show: Show, work: Sequence[Future[None]]
    ) -> None:
        self._posts = mongo[DATABASE][COLLECTION]
        self._board = board
        self._show = show
        self._work = work
        self._deadline: float | None = None
        self.in_step = False

    def reached(self) -> bool:
        """Called between batches, by `consume`."""
        self._show.refresh()
        if any(one.done() and one.exception() for one in self._work):
            return True
        if not all(one.done() for one in self._work):
            return False
        if self._deadline is None:
            self._deadline = monotonic() + _PATIENCE_S
        self.in_step = self._board.labels() == self._written()
        return self.in_step or monotonic() > self._deadline

    def _written(self) -> dict[str, int]:
        return {document_key(post["_id"]): post["label"] for post in self._posts.find()}


def _kill_broker(stack: LocalStack) -> None:
    sleep(_BROKER_LIVES_S)
    print("\nThe broker is killed, and started again", flush=True)
    stack.kill("mq")
    sleep(_BROKER_IS_AWAY_S)
    stack.start("mq")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.digits")
    parser.add_argument("--digits", type=int, default=600, help="how many are written")
    parser.add_argument("--rate", type=float, default=40.0, metavar="PER_SECOND")
    parser.add_argument("--picture", type=Path, default=Path(".local/digits.png"))
    parser.add_argument(
        "--kill-broker", action="store_true", help="kill RabbitMQ on the way, and start it again"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
