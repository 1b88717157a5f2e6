"""The crawlers' HTTP service: `python -m crawlers`."""

from __future__ import annotations

import signal
import sys

import uvicorn

from core.config import Settings, load_settings
from core.errors import TwinError
from core.logging import configure_logging, get_logger
from crawlers.http import create_app
from crawlers.service import open_crawler


def main() -> int:
    """Serve until SIGTERM or SIGINT; the browser is ended on the way out."""
    try:
        settings = load_settings()
        configure_logging("crawlers", settings.log)
        return _serve(settings)
    except TwinError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status


def _serve(settings: Settings) -> int:
    config = settings.crawlers
    with open_crawler(settings) as crawler:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(crawler.crawl),
                host=config.host,
                port=config.port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=20,
            )
        )
        # uvicorn raises the signal again when it has shut down; what follows it must still run.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        get_logger().info("crawlers listening", host=config.host, port=config.port)
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
