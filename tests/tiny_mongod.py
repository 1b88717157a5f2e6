"""A MongoDB that forgets fast: a replica set of one with the smallest oplog there can be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo.errors import PyMongoError

from local_stack.mongo import mongod_binary
from local_stack.ports import free_ports
from tests.cdc_harness import Client
from tests.twin_harness import until

_NAME = "tiny"


@contextmanager
def tiny_mongod(folder: Path) -> Iterator[str]:
    """Its URI. It writes a checkpoint each second: an oplog is cut no later than there."""
    folder.mkdir()
    (port,) = free_ports(1)
    address = f"localhost:{port}"
    with (folder / "mongod.log").open("wb") as log:
        process = subprocess.Popen(_command(folder, port), stdout=log, stderr=log)
    try:
        with Client(address, directConnection=True, serverSelectionTimeoutMS=20_000) as client:
            members = [{"_id": 0, "host": address}]
            client.admin.command("replSetInitiate", {"_id": _NAME, "members": members})
            until(lambda: client.admin.command("hello")["isWritablePrimary"], "a primary")
        yield f"mongodb://{address}/?replicaSet={_NAME}"
    finally:
        process.kill()
        process.wait()


def _command(folder: Path, port: int) -> list[str]:
    return [
        *(mongod_binary(), "--replSet", _NAME, "--dbpath", str(folder), "--quiet"),
        *("--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
        *("--oplogSize", "1", "--syncdelay", "1", "--wiredTigerCacheSizeGB", "0.25"),
        *("--setParameter", "enableTestCommands=1"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]


def roll_oplog(client: Client) -> None:
    """Return once nothing that was written before the call is in the oplog any more."""
    before = client.admin.command("ping")["operationTime"]

    def rolled() -> bool:
        _write(client, 500)
        try:
            (oldest,) = client["local"]["oplog.rs"].find().sort("$natural", 1).limit(1)
        except PyMongoError:  # it was cut under the very look
            return False
        return bool(oldest["ts"] > before)

    until(rolled, "the oplog to roll")


def fill_oplog(client: Client) -> None:
    """Leave more than half of the oplog filled."""
    _write(client, 600)


def _write(client: Client, kilobytes: int) -> None:
    client["ballast"]["random"].insert_many([{"x": os.urandom(1000)} for _ in range(kilobytes)])
