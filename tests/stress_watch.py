"""What is seen from outside while services are killed: in Qdrant, and on the exchange."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qdrant_client import QdrantClient, models

from core.events import decode
from core.mq.connection import open_blocking
from core.mq.topology import EXCHANGE
from core.qdrant.client import client_of, scroll
from core.qdrant.schema import FAMILIES, cleaned_name, family_of, vector_name
from core.versions import Version
from feature_pipeline.plan import DocumentRef, manifest_id
from tests.cdc_harness import Received
from tests.stress_walk import Clock, Ref
from tests.twin_harness import Twin

_EVERYTHING = models.Filter()
_PAGE = 500


class Watch(threading.Thread):
    """Reads all manifests about once a second. None may go back to an older version, or vanish."""

    def __init__(self, twin: Twin, clock: Clock) -> None:
        super().__init__(daemon=True)
        self._client: QdrantClient = client_of(twin.settings.qdrant)
        self._clock = clock
        self._ending = threading.Event()
        self._newest: dict[Ref, Version] = {}
        self.readings = 0
        self.violations: list[str] = []

    def run(self) -> None:
        try:
            while not self._ending.wait(1):
                self._read()
                self.readings += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.violations.append(f"the watch ended: {error!r}")

    def end(self) -> None:
        """Look no more."""
        self._ending.set()
        self.join(30)
        self._client.close()

    def _read(self) -> None:
        present = manifests(self._client)
        for ref, payload in present.items():
            version = Version(payload["version"], payload["pos"])
            before = self._newest.get(ref)
            if before is not None and version < before:
                self._tell(ref, f"went back from {before} to {version}")
            self._newest[ref] = version
        for ref in self._newest.keys() - present.keys():
            if self._is_gone(ref):
                self._tell(ref, f"has no manifest any more; it was at {self._newest.pop(ref)}")

    def _is_gone(self, ref: Ref) -> bool:
        """A scroll reads page by page while others write: ask for this one alone."""
        identifier = manifest_id(DocumentRef(*ref))
        return not self._client.retrieve(cleaned_name(family_of(ref[0])), [identifier])

    def _tell(self, ref: Ref, what: str) -> None:
        self.violations.append(f"{self._clock():.2f} s: {ref} {what}")


def manifests(client: QdrantClient) -> dict[Ref, Mapping[str, Any]]:
    """Each document's point in its cleaned collection, tombstones included."""
    fields = ["type", "key", "version", "pos", "deleted", "chunk_count", "cleaned_content"]
    return {
        (payload["type"], payload["key"]): payload
        for family in FAMILIES
        for record in scroll(client, cleaned_name(family), _EVERYTHING, fields, _PAGE)
        for payload in [record.payload or {}]
    }


def chunks(client: QdrantClient) -> dict[Ref, list[Mapping[str, Any]]]:
    """The chunks of each document, in whatever order."""
    found: dict[Ref, list[Mapping[str, Any]]] = {}
    fields = ["type", "key", "version", "chunk_index", "chunk_count", "content"]
    for family in FAMILIES:
        for record in scroll(client, vector_name(family), _EVERYTHING, fields, _PAGE):
            payload = record.payload or {}
            found.setdefault((payload["type"], payload["key"]), []).append(payload)
    return found


def wrong_chunks(client: QdrantClient) -> dict[Ref, str]:
    """Documents whose chunks are not exactly those of their present version."""
    told = manifests(client)
    found = chunks(client)
    return {
        ref: problem
        for ref in told.keys() | found.keys()
        if (problem := _problem(told.get(ref), found.get(ref, [])))
    }


def _problem(manifest: Mapping[str, Any] | None, own: list[Mapping[str, Any]]) -> str | None:
    if manifest is None:
        return f"{len(own)} chunks without a manifest"
    if manifest.get("deleted"):
        return f"deleted, with {len(own)} chunks" if own else None
    places = sorted(chunk["chunk_index"] for chunk in own)
    if places != list(range(manifest["chunk_count"])):
        return f"chunks {places} where there should be {manifest['chunk_count']}"
    versions = {chunk["version"] for chunk in own}
    if versions != {manifest["version"]}:
        return f"chunks of {versions}, manifest of {manifest['version']}"
    if any(chunk["content"] not in manifest["cleaned_content"] for chunk in own):
        return "a chunk of another text"
    return None


class Tap:
    """A second queue on the exchange, which keeps all that data_cdc published."""

    def __init__(self, twin: Twin) -> None:
        self._config = twin.settings.rabbitmq
        self._keys = f"{twin.settings.mongo.database}.#"
        self._name = f"{twin.settings.rabbitmq.queue}.tap"

    @contextmanager
    def open(self) -> Iterator[Tap]:
        """It exists inside the block."""
        with open_blocking(self._config, "tap") as connection:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True)
            channel.queue_declare(self._name, durable=True)
            channel.queue_bind(self._name, EXCHANGE, self._keys)
        try:
            yield self
        finally:
            with open_blocking(self._config, "tap") as connection:
                connection.channel().queue_delete(self._name)

    def drain(self) -> list[Received]:
        """All that came, in order."""
        found: list[Received] = []
        with open_blocking(self._config, "tap") as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(self._name, auto_ack=True)
                if method is None:
                    return found
                event = decode(body, properties.headers, message_id=properties.message_id)
                if event is not None:
                    found.append(Received(event.message_id, properties.headers or {}, event))
