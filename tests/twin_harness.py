"""A twin under test: its services as processes, its MongoDB, its Qdrant, and the oracle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
from pymongo.database import Database
from qdrant_client import QdrantClient, models

from console.audit import Report, audit
from core.config import Settings, load_settings
from core.mongo import connect
from core.mq.connection import open_blocking
from core.qdrant.client import client_of

READY = {"data_cdc": "cdc.streaming", "feature_pipeline": "feature_pipeline.consuming"}


class ServiceProcess:
    """Starts, kills and stops `python -m MODULE`; its log goes to one file."""

    def __init__(self, module: str, environment: Mapping[str, str], folder: Path) -> None:
        self.module = module
        self.log = folder / f"{module}.log"
        # Two on one port would warn; a test that asks over HTTP gives `start` a port of its own.
        fixed = {"LOG_FORMAT": "json", "CDC_HTTP_PORT": "0"}
        self._environment = {**os.environ, **environment, **fixed}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True, **extra: str) -> None:
        """Start it and, with `ready`, wait until its log says that it works."""
        seen = self.text().count(READY[self.module])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**self._environment, **extra},
                stdout=log,
                stderr=log,
            )
        if ready:
            until(lambda: self.text().count(READY[self.module]) > seen, f"{self.module} to start")

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal and wait; the exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running process, and do not wait."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.end(signal.SIGKILL)

    def wait(self, timeout: float = 30) -> int:
        """Wait until it ends by itself; the exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def text(self) -> str:
        """What it logged up to now."""
        return self.log.read_text() if self.log.exists() else ""

    def says(self, text: str, *, times: int = 1, timeout: float = 30) -> None:
        """Wait until its log holds `text`."""
        until(lambda: self.text().count(text) >= times, f"{self.module} to say {text!r}", timeout)


class Twin:
    """Clients of one test's services, and the two services that keep Qdrant in step."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = environment
        self.settings: Settings = settings_of(environment)
        self.mongo = connect(self.settings.mongo, timeout_s=30)  # an election takes its time
        self.qdrant: QdrantClient = client_of(self.settings.qdrant)
        self.cdc = ServiceProcess("data_cdc", environment, folder)
        self.pipeline = ServiceProcess("feature_pipeline", environment, folder)

    @property
    def db(self) -> Database[dict[str, Any]]:
        """The database that the twin captures."""
        return self.mongo[self.settings.mongo.database]

    def report(self, settle_s: float = 45) -> Report:
        """MongoDB compared with Qdrant, after what is in flight had time to arrive."""
        return audit(self.mongo, self.qdrant, self.settings, settle_s)

    def chunks(self, collection: str, entry: str) -> list[dict[str, Any]]:
        """The payloads of a document's chunks, in order."""
        found = self._payloads(f"vector_{collection}", entry)
        return sorted(found, key=lambda payload: payload["chunk_index"])

    def manifest(self, collection: str, entry: str) -> dict[str, Any] | None:
        """The payload of a document's point in its cleaned collection, tombstones included."""
        return next(iter(self._payloads(f"cleaned_{collection}", entry)), None)

    def dead_letters(self) -> list[tuple[dict[str, Any], bytes]]:
        """Headers and bodies of what was set aside, taken from the queue."""
        found = []
        with open_blocking(self.settings.rabbitmq, "test") as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(
                    f"{self.settings.rabbitmq.queue}.dead", auto_ack=True
                )
                if method is None:
                    return found
                found.append((dict(properties.headers or {}), body))

    def publish(self, body: bytes, headers: Mapping[str, Any] | None = None) -> None:
        """Put a message into the queue as any other program might."""
        with open_blocking(self.settings.rabbitmq, "test") as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(headers=dict(headers or {}), delivery_mode=2)
            channel.basic_publish(
                "", self.settings.rabbitmq.queue, body, properties, mandatory=True
            )

    def queue_depth(self) -> int:
        """Messages that wait in the queue."""
        with open_blocking(self.settings.rabbitmq, "test") as connection:
            declared = connection.channel().queue_declare(
                self.settings.rabbitmq.queue, passive=True
            )
            count: int = declared.method.message_count
            return count

    def close(self) -> None:
        """End the services and the clients."""
        for service in (self.cdc, self.pipeline):
            service.kill()
        self.qdrant.close()
        self.mongo.close()

    def _payloads(self, collection: str, entry: str) -> list[dict[str, Any]]:
        match = models.FieldCondition(key="entry_id", match=models.MatchValue(value=entry))
        records, _ = self.qdrant.scroll(
            collection, scroll_filter=models.Filter(must=[match]), limit=1000
        )
        return [record.payload or {} for record in records]


@contextmanager
def open_twin(environment: Mapping[str, str], folder: Path) -> Iterator[Twin]:
    """A twin whose services have not started yet, and do not outlive the test."""
    twin = Twin(environment, folder)
    try:
        yield twin
    finally:
        twin.close()


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Settings read from a test's variables, whatever the process environment says."""
    kept = dict(os.environ)
    os.environ.update(environment)
    try:
        return load_settings(None)
    finally:
        os.environ.clear()
        os.environ.update(kept)


def until(done: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Wait until `done()`, or fail saying what was waited for."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s for {what}"
        time.sleep(0.05)
