"""The embedded Qdrant as a process: killed, stopped, started again, and used by many at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from local_stack.qdrant.running import RunningQdrant
from local_stack.qdrant.schema import parse_schema
from local_stack.qdrant.shard import Shard
from local_stack.qdrant.updates import parse_update

KEYWORD = models.PayloadSchemaType.KEYWORD


@contextmanager
def connect(running: RunningQdrant) -> Iterator[QdrantClient]:
    """A client that is closed in the end."""
    client = QdrantClient(url=running.url, timeout=20)
    try:
        yield client
    finally:
        client.close()


def chunks(start: int, count: int, **payload: object) -> list[models.PointStruct]:
    """Points with a small vector."""
    return [
        models.PointStruct(id=i, vector={"text": [1.0, float(i)]}, payload={"n": i, **payload})
        for i in range(start, start + count)
    ]


def create(client: QdrantClient, name: str) -> None:
    """A collection with the vector `text` and one payload index."""
    params = models.VectorParams(size=2, distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config={"text": params}, metadata={"model": "none"})
    client.create_payload_index(name, "key", KEYWORD)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the server where it cannot start, and wait for its end."""
    command = [sys.executable, "-m", "local_stack.qdrant", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.fault
def test_acknowledged_writes_survive_sigkill(tmp_path: Path) -> None:
    """Every kind of write that was answered is there after kill -9 and a new start."""
    running = RunningQdrant(tmp_path / "data")
    with connect(running) as client:
        create(client, "a_v1")
        client.create_collection("clean", vectors_config={})
        client.update_collection_aliases(
            [
                models.CreateAliasOperation(
                    create_alias=models.CreateAlias(collection_name="a_v1", alias_name="a")
                )
            ]
        )
        client.upsert("a", chunks(0, 300, key="x"))
        client.delete("a", points_selector=list(range(100)))
        x = models.FieldCondition(key="key", match=models.MatchValue(value="x"))
        few = models.Filter(must=[x, models.HasIdCondition(has_id=list(range(150)))])
        client.set_payload("a", {"key": "y"}, points=few)
        client.upsert("clean", [models.PointStruct(id=1, vector={}, payload={"pos": "8"})])
        client.create_payload_index("a", "n", models.PayloadSchemaType.INTEGER)
    running.kill()
    with RunningQdrant(tmp_path / "data") as again, connect(again) as client:
        found = client.get_collection("a")
        assert found.points_count == 200
        assert found.config.metadata == {"model": "none"}
        assert set(found.payload_schema) == {"key", "n"}
        facets = client.facet("a", "key", exact=True).hits
        assert {hit.value: hit.count for hit in facets} == {"x": 150, "y": 50}
        assert len(client.query_points("a", [1.0, 0.0], using="text", limit=999).points) == 200
        assert client.retrieve("clean", [1])[0].payload == {"pos": "8"}


@pytest.mark.fault
def test_writer_killed_server_and_retry_lose_nothing(tmp_path: Path) -> None:
    """A writer that sends again what was not answered loses nothing over three kills."""
    written = 0
    for _ in range(3):
        running = RunningQdrant(tmp_path / "data")
        with connect(running) as client:
            if not client.collection_exists("a"):
                create(client, "a")
            assert client.count("a").count >= written
            killer = threading.Timer(0.2, running.process.kill)
            killer.start()
            try:
                while True:
                    client.upsert("a", chunks(written, 20, key="x"))
                    written += 20
            except Exception:  # noqa: BLE001  (the client has several names for a lost server)
                killer.join()
                running.kill()
    with RunningQdrant(tmp_path / "data") as again, connect(again) as client:
        stored = {one.id for one in client.scroll("a", limit=1_000_000)[0]}
        assert written > 0
        assert set(range(written)) <= stored


def test_stops_cleanly_and_starts_with_everything(tmp_path: Path) -> None:
    """SIGTERM ends it with status 0; the next start has collections, aliases and points."""
    running = RunningQdrant(tmp_path / "data")
    with connect(running) as client:
        create(client, "a")
        create(client, "b")
        client.delete_collection("b")
        client.upsert("a", chunks(0, 10))
    assert running.stop() == 0
    with RunningQdrant(tmp_path / "data") as again, connect(again) as client:
        assert [one.name for one in client.get_collections().collections] == ["a"]
        assert client.count("a").count == 10
    assert len(list((tmp_path / "data" / "shards").iterdir())) == 1


def test_taken_port_and_directory_are_one_sentence_each(tmp_path: Path) -> None:
    """A port or directory in use ends a second server with status 1 and one sentence."""
    with RunningQdrant(tmp_path / "data") as running:
        port = start("--port", str(running.port), "--path", str(tmp_path / "other"))
        directory = start("--port", "0", "--path", str(tmp_path / "data"))
    assert (port.returncode, directory.returncode) == (1, 1)
    assert f"127.0.0.1:{running.port} cannot be listened on" in port.stderr
    assert "is in use by another process" in directory.stderr
    assert port.stderr.count("\n") == directory.stderr.count("\n") == 1


def test_unreadable_directory_is_one_sentence(tmp_path: Path) -> None:
    """A damaged catalog ends the server with status 1, and says which directory to look at."""
    (tmp_path / "catalog.json").write_text("{")
    ended = start("--port", "0", "--path", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{tmp_path} cannot be opened: ")


def test_writers_and_searchers_at_once(tmp_path: Path) -> None:
    """Two writers and two searchers at once see no error, and every point is stored."""
    errors: list[Exception] = []
    with RunningQdrant(tmp_path / "data") as running, connect(running) as first:
        create(first, "a")

        def work(number: int) -> None:
            try:
                with connect(running) as client:
                    for turn in range(20):
                        if number < 2:
                            client.upsert("a", chunks((number * 20 + turn) * 64, 64, key="x"))
                        else:
                            client.query_points("a", [1.0, 0.0], using="text", limit=5)
            except Exception as error:  # noqa: BLE001  (whatever it is, the test must show it)
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert first.count("a").count == 2 * 20 * 64


def test_alias_switch_is_atomic_for_readers(tmp_path: Path) -> None:
    """While an alias is switched to and fro, a reader always finds one whole collection."""
    with RunningQdrant(tmp_path / "data") as running, connect(running) as client:
        for name in ("one", "two"):
            create(client, name)
            client.upsert(name, chunks(0, 10))
        stop, counts = threading.Event(), set()
        switch(client, "one")

        def read() -> None:
            with connect(running) as reader:
                while not stop.is_set():
                    counts.add(reader.count("live").count)

        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(40):
            switch(client, ("two", "one")[turn % 2])
        stop.set()
        reader.join()
    assert counts == {10}


def switch(client: QdrantClient, target: str) -> None:
    """Point the alias `live` at `target`, in one request."""
    create_alias = models.CreateAlias(collection_name=target, alias_name="live")
    client.update_collection_aliases(
        [
            models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="live")),
            models.CreateAliasOperation(create_alias=create_alias),
        ]
    )


def test_payload_writes_reach_the_log_point_by_point(tmp_path: Path) -> None:
    """A payload write is one operation a point: a replay loses only those that are gone.

    The engine drops a whole operation where one of its points is missing, and after a
    crash in a flush a point that was deleted later is missing when the log is replayed.
    """
    schema = parse_schema({}, {})
    shard = Shard.create(tmp_path / "shard", schema.engine_config())
    points = [{"id": i, "vector": {}, "payload": {}} for i in range(5)]
    shard.apply([parse_update("upsert", {"points": points}, schema)])
    body = {"points": list(range(5)), "payload": {"key": "a"}}
    operations = list(parse_update("set_payload", body, schema)(shard))
    shard.close()
    assert len(operations) == 5
