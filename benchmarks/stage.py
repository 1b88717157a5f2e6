"""Where measuring takes place: a stack of its own, and data_cdc as a process seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection

from benchmarks.broker import Queue
from core.errors import TransientError
from local_stack.service import Options
from local_stack.stack import LocalStack, running_stack

COLLECTION = "articles"
_STREAMING = '"event": "cdc.streaming"'
_START_S = 60.0
_STOP_S = 40.0


class TooSlow(TransientError):
    """What was waited for did not come in time."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"waited {seconds:.0f} s for {what}. Is the machine busy with other work?")


class Ended(TransientError):
    """data_cdc ended by itself."""

    def __init__(self, status: int, log: str) -> None:
        last = log.rstrip().rpartition("\n")[2]
        super().__init__(f"data_cdc ended with status {status}; its last line is: {last}")


class Capture:
    """`python -m data_cdc`, started and stopped as often as needed. Its log goes to one file.

    `processors` are those that it may use from its next start on; None for all.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = {**os.environ, **environment, "LOG_FORMAT": "json"}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.processors: set[int] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Start it, and do not wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "data_cdc"], env=self._environment, stdout=log, stderr=log
            )
        if self.processors is not None:
            os.sched_setaffinity(self._process.pid, self.processors)

    def start(self) -> None:
        """Start it, and wait until it says that it streams."""
        seen = self._said(_STREAMING)
        self.begin()
        wait_until(lambda: self._streams(seen), "data_cdc to stream", _START_S)

    def stop(self) -> None:
        """End it in good order. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _streams(self, seen: int) -> bool:
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise Ended(status, self._log.read_text())
        return self._said(_STREAMING) > seen

    def _said(self, text: str) -> int:
        return self._log.read_text().count(text) if self._log.exists() else 0


class Scene:
    """One database, one queue and one data_cdc, which nothing else uses."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        unique = uuid.uuid4().hex[:8]
        self.stack = stack
        self.environment = {
            **stack.environment(),
            "MONGO_DATABASE_NAME": f"bench_{unique}",
            "RABBITMQ_QUEUE_NAME": f"bench_{unique}",
            "CDC_HTTP_PORT": "0",
            "CDC_COLLECTIONS": COLLECTION,
        }
        self.capture = Capture(self.environment, folder / f"data_cdc_{unique}.log")
        self.queue = Queue(self.environment)
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            self.environment["MONGO_DATABASE_HOST"]
        )
        self.database = self.environment["MONGO_DATABASE_NAME"]

    @property
    def collection(self) -> Collection[dict[str, Any]]:
        """What is captured; writes return once a majority has them."""
        majority = WriteConcern("majority")
        return self._client[self.database].get_collection(COLLECTION, write_concern=majority)

    def open(self) -> None:
        """Let data_cdc make its queue and its checkpoint, then stop it."""
        self.collection.insert_one({"_id": "first"})
        self.capture.start()
        wait_until(lambda: self.queue.depth() > 0, "the first event", _START_S)
        self.capture.stop()
        self.queue.purge()

    def close(self) -> None:
        """End data_cdc and drop what was written; the queue goes with the stack."""
        self.capture.stop()
        for name in (self.database, f"{self.database}_state"):
            self._client.drop_database(name)
        self._client.close()


class Stage:
    """A stack, and the scenes on it."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    @contextmanager
    def scene(self) -> Iterator[Scene]:
        """A fresh one, with data_cdc stopped at a position after everything."""
        scene = Scene(self._stack, self._folder)
        try:
            scene.open()
            yield scene
        finally:
            scene.close()


@contextmanager
def stage() -> Iterator[Stage]:
    """MongoDB and RabbitMQ on free ports in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="llm-twin-bench-") as name:
        folder = Path(name)
        options = Options(management=False, oplog_mb=1024)
        with running_stack(folder / "stack", services=("mongo", "mq"), options=options) as stack:
            yield Stage(stack, folder)


def wait_until(done: Callable[[], object], what: str, seconds: float) -> None:
    """Look every 50 ms. Raises TooSlow."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TooSlow(what, seconds)
        time.sleep(0.05)
