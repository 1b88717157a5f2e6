"""Keeps a browser from outliving the crawler, also when that is killed.

A shell leads the process group of driver and browser and reads a pipe that only the
crawler holds open. When the pipe closes it ends the group and removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

from crawlers.results import FetchFailed

_START_SECONDS = 20.0
# Not the rest: it holds passwords, which a page's process has no business to see.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "FONTCONFIG_PATH")
_PORT = re.compile(rb"started successfully on port (\d+)")

# Runs the driver in its own process group; ends that group, and the private folder, when
# standard input closes, which also happens when the crawler is killed.
_SCRIPT = """
trap : TERM HUP INT
"$@" </dev/null &
cat >/dev/null
kill -TERM 0
n=0
while [ $n -lt 20 ] && kill -0 $! 2>/dev/null; do n=$((n + 1)); sleep 0.1; done
rm -rf -- "$CRAWLER_BROWSER_HOME"
kill -KILL 0
"""


def start(driver: str, home: Path) -> subprocess.Popen[bytes]:
    """Start `driver` on a free port, with `home` as its home and scratch folder.

    Folder and processes end with this process, in whatever way it ends.
    """
    environment = {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "CRAWLER_BROWSER_HOME": str(home),
        "SE_OFFLINE": "true",
        "SE_AVOID_STATS": "true",
    }
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "browser-supervisor", driver, f"--port={_free_port()}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _free_port() -> int:
    """Chosen here: asked to choose, the driver takes IPv6's word, and has none without IPv6."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def driver_port(supervisor: subprocess.Popen[bytes]) -> int:
    """The driver's port, once it listens. Blocks; raises FetchFailed after 20 s."""
    if supervisor.stdout is None:
        raise FetchFailed("The browser's driver has no output.")
    impatience = threading.Timer(_START_SECONDS, _kill, [supervisor])
    impatience.start()
    try:
        for line in supervisor.stdout:
            found = _PORT.search(line)
            if found:
                return int(found[1])
    finally:
        impatience.cancel()
    raise FetchFailed("The browser's driver ended before it listened.")


def stop(supervisor: subprocess.Popen[bytes]) -> None:
    """End the group and wait for it. Idempotent."""
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        supervisor.wait(timeout=5)
    except subprocess.TimeoutExpired:
        _kill(supervisor)
        supervisor.wait(timeout=5)


def _kill(supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.poll() is None:
        os.killpg(supervisor.pid, signal.SIGKILL)
