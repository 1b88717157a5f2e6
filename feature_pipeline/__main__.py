"""`python -m feature_pipeline`: change events in, points out, until SIGTERM."""

from __future__ import annotations

import signal
import sys
from threading import Event as StopSignal
from types import FrameType

from core.config import load_settings
from core.errors import TwinError
from core.logging import configure_logging, get_logger


def main() -> int:
    """Run the service; 0 after a drained stop, otherwise the error's exit status."""
    stop = StopSignal()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        get_logger().info("feature_pipeline.stopping", signal=signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        settings = load_settings()
        configure_logging("feature_pipeline", settings.log)
        from feature_pipeline.service import run

        run(settings, stop)
    except TwinError as error:
        get_logger().error("feature_pipeline.cannot_run", reason=str(error))
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
