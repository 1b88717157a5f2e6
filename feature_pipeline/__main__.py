"""`python -m feature_pipeline`: change events in, points out, until SIGTERM.

`--check` exits with 0 when a pipeline of this machine consumes the configured queue.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from threading import Event as StopSignal
from types import FrameType

from core.config import Settings, load_settings
from core.errors import TwinError
from core.logging import configure_logging, get_logger
from feature_pipeline.health import is_alive


def main(arguments: Sequence[str]) -> int:
    """Run the service; 0 after a drained stop, otherwise the error's exit status."""
    try:
        settings = load_settings()
        configure_logging("feature_pipeline", settings.log)
        return check(settings) if "--check" in arguments else serve(settings)
    except TwinError as error:
        get_logger().error("feature_pipeline.cannot_run", reason=str(error))
        return error.exit_status


def check(settings: Settings) -> int:
    """0 when a pipeline of this machine consumes, 1 when none does."""
    return 0 if is_alive(settings.rabbitmq.queue) else 1


def serve(settings: Settings) -> int:
    """Consume until SIGTERM or SIGINT."""
    from feature_pipeline.service import run

    stop = StopSignal()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        get_logger().info("feature_pipeline.stopping", signal=signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    run(settings, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
