"""Starts the embedded Qdrant: `python -m local_stack.qdrant --host H --port P --path DIR`."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from core.config import LogConfig
from core.errors import TerminalError
from core.logging import configure_logging, get_logger
from local_stack.qdrant.catalog import Catalog
from local_stack.qdrant.errors import ApiError
from local_stack.qdrant.server import build_app

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIDY_EVERY_S = 0.5
_FLUSH_EVERY_S = 5.0
_IDLE_S = 5.0
_OPTIMIZE_EVERY_S = 300.0
_STOP_WITHIN_S = 5

log = get_logger()


class PortTaken(TerminalError):
    """The address to listen on cannot be had."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        self.host, self.port = host, port
        super().__init__(
            f"{host}:{port} cannot be listened on: {cause}. "
            "Stop what uses it, or give another --port."
        )


def main() -> int:
    """Serve until SIGTERM or SIGINT. Gives the exit status: 0 after a clean stop."""
    arguments = _arguments()
    configure_logging("qdrant", LogConfig(format="auto", level="info"))
    try:
        with _listen(arguments.host, arguments.port) as listener, _open(arguments.path) as catalog:
            _serve(listener, catalog)
    except TerminalError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_stack.qdrant", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--path", type=Path, required=True, help="where collections are kept")
    return parser.parse_args()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise PortTaken(host, port, error.strerror or str(error)) from error
    # Connections inherit it. Without it, answers wait 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def _open(path: Path) -> Iterator[Catalog]:
    catalog = Catalog(path)
    stopping = threading.Event()
    keeper = threading.Thread(target=_tidy, args=(catalog, stopping), name="tidy")
    keeper.start()
    try:
        yield catalog
    finally:
        stopping.set()
        keeper.join()
        catalog.close()
        log.info("qdrant_stopped")


def _tidy(catalog: Catalog, stopping: threading.Event) -> None:
    while not stopping.wait(_TIDY_EVERY_S):
        for collection in catalog.state.collections.values():
            try:
                collection.shard.tidy(
                    flush_every_s=_FLUSH_EVERY_S,
                    idle_s=_IDLE_S,
                    optimize_every_s=_OPTIMIZE_EVERY_S,
                )
            except ApiError as error:
                # Deleted meanwhile, or a full disk: writes will say so themselves.
                log.warning("tidy_failed", collection=collection.name, error=str(error))


def _serve(listener: socket.socket, catalog: Catalog) -> None:
    # uvicorn stops at these signals and then raises them again for whoever handled them before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    host, port = listener.getsockname()[:2]
    log.info("qdrant_ready", host=host, port=port, collections=len(catalog.state.collections))
    config = uvicorn.Config(
        build_app(catalog),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
