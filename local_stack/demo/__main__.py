"""`python -m local_stack.demo`: the whole path, shown in about a minute.

Everything runs on free ports in a scratch folder and is gone afterwards; after a
failure the folder with the logs stays. Exit status 0 only if every expectation held.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from core.config import LogConfig
from core.errors import TwinError
from core.logging import configure_logging
from local_stack.demo.stage import open_stage
from local_stack.demo.story import tell
from local_stack.demo.telling import Telling

_INTERRUPTED = 130


def main() -> int:
    """Run the demo and clean up after it."""
    signal.signal(signal.SIGTERM, _interrupt)
    configure_logging("demo", LogConfig(format="auto", level="error"), sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="llm-twin-demo-"))
    # Services read .env where they start, and a stack of the demo's own is none of its business.
    os.chdir(folder)
    telling = Telling()
    try:
        status = _play(folder, telling)
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; everything it started has ended\n")
        status = _INTERRUPTED
    except TwinError as error:
        sys.stderr.write(f"demo: {error}\n")
        status = error.exit_status
    if status in (0, _INTERRUPTED):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        sys.stderr.write(f"demo: the logs are in {folder / 'stack' / 'logs'}\n")
    return status


def _play(folder: Path, telling: Telling) -> int:
    telling.step(f"Starting the stack in {folder}")
    with open_stage(folder, telling) as stage:
        tell(stage, telling)
        telling.step("Cleaning up")
    return telling.close()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
