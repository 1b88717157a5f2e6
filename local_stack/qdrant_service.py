"""Qdrant: the real server where one is on the PATH, otherwise the embedded one."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING

from local_stack.service import Context, LogView, ServiceSpec, bare_environment, http_problem

if TYPE_CHECKING:
    from pathlib import Path


def qdrant_spec(context: Context) -> ServiceSpec:
    """One service, whichever program serves it.

    The two keep their data in different forms, and therefore in different folders.
    """
    server = shutil.which("qdrant")
    port, grpc = context.ports.qdrant, context.ports.qdrant_grpc
    folder = context.layout.data("qdrant")
    storage = folder / ("server" if server else "embedded")
    return ServiceSpec(
        name="qdrant",
        command=lambda: [server] if server else _embedded(port, storage),
        address=f"http://localhost:{port}",
        ports={"Qdrant": port, "gRPC": grpc} if server else {"Qdrant": port},
        folder=folder,
        environment=_environment(folder, storage, port, grpc),
        ready=partial(_problem, port),
        prepare=partial(storage.mkdir, parents=True, exist_ok=True),
    )


def _embedded(port: int, storage: Path) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "local_stack.qdrant", *listen, "--path", str(storage)]


def _environment(folder: Path, storage: Path, port: int, grpc: int) -> dict[str, str]:
    return {
        **bare_environment(folder),
        "PYTHONUNBUFFERED": "1",
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": str(port),
        "QDRANT__SERVICE__GRPC_PORT": str(grpc),
        "QDRANT__STORAGE__STORAGE_PATH": str(storage / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(storage / "snapshots"),
        "QDRANT__TELEMETRY_DISABLED": "true",
    }


def _problem(port: int, _log: LogView) -> str | None:
    return http_problem(port, "/readyz")
