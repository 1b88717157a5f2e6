"""A second consumer: a queue of its own on the stream of changes, and a model behind it.

    python -m examples.digits.classify [--queue NAME]

What makes it safe to kill at any moment, and the broker too: a message is acknowledged
only after its effect is stored, and an effect may be stored twice.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pika.adapters.blocking_connection import BlockingConnection

from core.config import LogConfig, RabbitConfig, load_settings
from core.errors import DocumentRejected, PoisonError, TwinError
from core.events import ChangeEvent, Event, Purge, SnapshotCompleted, decode
from core.logging import configure_logging
from core.mongo import connect
from core.mq.consumer import Consumer, Delivery
from core.mq.dead_letters import DeadLetters
from core.mq.topology import Topology, declare
from core.versions import Version
from examples.digits.board import PREDICTIONS, Board
from examples.digits.data import COLLECTION, DATABASE, QUEUE, Digit, Model, digit_of
from examples.digits.show import Show, Told

_BATCH = 64
_WAIT_S = 0.2
_SUSPECT_AFTER = 2


def subscription(queue: str) -> Topology:
    """The durable queue `queue`, bound to the collection on the exchange `llm_twin.cdc`.

    Each queue that is bound gets each message once, so a name that nobody else uses makes
    another consumer of the same stream. It begins with what is published from then on; a
    snapshot brings what was there before. For a twin's own documents:
    `Topology("twin", ("articles", "posts"), "my-queue")`.
    """
    return Topology(DATABASE, (COLLECTION,), queue)


@dataclass
class Classifier:
    """From events to predictions. Applying an event again changes nothing."""

    model: Model
    board: Board
    counts: dict[str, int] = field(default_factory=dict)
    recent: deque[Told] = field(default_factory=lambda: deque(maxlen=40))

    def apply(self, event: Event | None) -> None:
        """Returns when the effect is stored. Raises PoisonError for what can never work."""
        match event:
            case ChangeEvent(document=None):
                self._count("deleted", self.board.deleted(event.key, _version(event)))
            case ChangeEvent():
                self._classify(event)
            case Purge() if event.collection in (COLLECTION, None):
                self.board.forget_older(event.version)
            case SnapshotCompleted() if COLLECTION in event.collections:
                # What the snapshot read has the time at which it was read, or a later one.
                self.board.forget_older(Version(event.version.number, ""))

    def _classify(self, event: ChangeEvent) -> None:
        digit = _digit(event)
        [predicted] = self.model.predict([digit])
        fresh = self.board.predicted(event.key, _version(event), digit.label, predicted)
        self._count(event.op.name.lower(), fresh)
        if fresh:
            self.recent.append(Told(digit, predicted))

    def _count(self, what: str, fresh: bool) -> None:
        name = what if fresh else "stale"
        self.counts[name] = self.counts.get(name, 0) + 1


def consume(
    rabbitmq: RabbitConfig,
    topology: Topology,
    classifier: Classifier,
    after_each: Callable[[], bool],
) -> None:
    """Apply what arrives until `after_each`, called at least five times a second, says stop."""

    def prepare(connection: BlockingConnection) -> None:
        declare(connection, topology)  # on each new connection: a broker may come back empty

    consumer = Consumer(rabbitmq, topology.queue, prepare=prepare, name="digits")
    dead_letters = DeadLetters(rabbitmq, topology.dead_queue)
    try:
        while not after_each():
            deliveries = consumer.fetch(_BATCH, _WAIT_S, suspect_after=_SUSPECT_AFTER)
            for delivery in deliveries:
                _handle(delivery, classifier, dead_letters)
            if deliveries:
                consumer.acknowledge(deliveries[-1])
    finally:
        consumer.close()
        dead_letters.close()


def _handle(delivery: Delivery, classifier: Classifier, dead_letters: DeadLetters) -> None:
    try:
        classifier.apply(
            decode(delivery.body, delivery.headers, delivery.routing_key, delivery.message_id)
        )
    except PoisonError as error:
        dead_letters.put(delivery, error)


def _digit(event: ChangeEvent) -> Digit:
    try:
        return digit_of(event.document or {})
    except ValueError as error:
        raise DocumentRejected(
            f"{event.collection}/{event.key}", str(error), reason="rejected", stage="classify"
        ) from None


def _version(event: ChangeEvent) -> Version:
    """Debezium's events have none; then they count in the order they arrive in, by their second."""
    return event.version or Version(event.version_hint, "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.classify")
    parser.add_argument("--queue", default=QUEUE, help="another name is another consumer")
    parser.add_argument("--picture", type=Path, default=Path(".local/digits.png"))
    given = parser.parse_args(arguments)
    configure_logging("digits", LogConfig(format="auto", level="warning"), sys.stderr)
    try:
        settings = load_settings()
        with connect(settings.mongo, app="digits") as mongo:
            classifier = Classifier(Model(), Board(mongo[DATABASE][PREDICTIONS]))
            show = Show(classifier.board, classifier.counts, classifier.recent, given.picture)
            consume(settings.rabbitmq, subscription(given.queue), classifier, show.refresh)
    except KeyboardInterrupt:
        return 0
    except TwinError as error:
        print(f"digits: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
