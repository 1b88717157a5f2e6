"""Change data capture as a process: `python -m data_cdc`.

Captures `CDC_COLLECTIONS` of `MONGO_DATABASE_NAME` and publishes each change to
RabbitMQ. Waits for either side to come up, and for either to come back. SIGTERM
or SIGINT ends it once what was read is confirmed; where MongoDB or RabbitMQ do not
answer, within half a minute. Nothing is lost then either: it is told again.

`python -m data_cdc --check` asks a running one how it does (for health checks):
status 0 when its heartbeat in `<MONGO_DATABASE_NAME>_state.cdc_status` is fresher
than 15 seconds, which it is only while both sides can be reached. One that stands by
on this host, to take over from another, is healthy as well.
`python -m data_cdc --preflight` says whether MongoDB and RabbitMQ are fit for it.

Exit status: 0 stopped when told, done (`CDC_SNAPSHOT_MODE=initial_only`), or healthy;
1 unexpected, or not healthy; 2 a bad setting; 3 a service cannot be reached, and 4 it
is not fit (`--check` and `--preflight` only); 5 changes were missed, and
`CDC_SNAPSHOT_MODE` forbids to read the collections again.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from datetime import UTC, datetime

from pymongo.errors import PyMongoError

from core.config import MongoConfig, Settings, load_settings
from core.errors import TwinError
from core.logging import configure_logging, get_logger
from core.mongo import connect, explain
from data_cdc.keeping.state import StateStore, is_fresh
from data_cdc.preflight import preflight
from data_cdc.service import serve

_CHECK_TIMEOUT_S = 3.0

log = get_logger()


def main() -> int:
    """Parse, configure, run."""
    parser = argparse.ArgumentParser(prog="python -m data_cdc", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="ask a running service how it does")
    parser.add_argument(
        "--preflight",
        action="store_true",
        help="say whether the services are fit",
    )
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        if arguments.preflight:
            return preflight(settings)
        return check(settings.mongo) if arguments.check else run(settings)
    except TwinError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def run(settings: Settings) -> int:
    """The service, until a signal ends it."""
    configure_logging("data_cdc", settings.log)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(settings.mongo, settings.rabbitmq, settings.cdc, stop)
    except TwinError as error:
        # The sentence says what to do; a trace would bury it.
        log.error("cdc.failed", reason=str(error), exit_status=error.exit_status)  # noqa: TRY400
        raise
    return 0


def check(config: MongoConfig) -> int:
    """0 when the heartbeat is fresh."""
    with connect(config, timeout_s=_CHECK_TIMEOUT_S, app="data_cdc-check") as client:
        try:
            store = StateStore(client[config.state_database])
            status, standbys = store.status(), store.standbys()
        except PyMongoError as error:
            raise explain(error, config) from error
    now, here = datetime.now(UTC), socket.gethostname()
    if is_fresh(status, now) or any(s["host"] == here and is_fresh(s, now) for s in standbys):
        return 0
    last = "there is no heartbeat" if status is None else f"the last heartbeat was {status['at']}"
    print(f"data_cdc is not healthy: {last}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
