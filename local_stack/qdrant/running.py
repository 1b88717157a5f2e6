"""The embedded Qdrant as a child process, for tests, benchmarks and examples."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import httpx

from core.errors import ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_READY_WITHIN_S = 20.0
_STOP_WITHIN_S = 20.0


def free_port() -> int:
    """A port on this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RunningQdrant:
    """A server process over `path`. Use it as a context manager, or call `stop` or `kill`.

    `output` receives what the process prints.
    """

    def __init__(self, path: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = path.with_name(f"{path.name}.log")
        command = [sys.executable, "-m", "local_stack.qdrant"]
        command += ["--port", str(self.port), "--path", str(path)]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end (SIGTERM). Gives its exit status; idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it without a chance to write anything (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise ServiceUnavailable(
            "Qdrant", self.url, "it did not start", f"See {self.output} for why."
        )
