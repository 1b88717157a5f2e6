"""Serve the sample site: `python -m local_stack.sample_site --state DIR`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from local_stack.sample_site.site import CONTENT, sample_site


def main() -> int:
    """Print one JSON line when ready, and serve until SIGTERM or SIGINT."""
    options = _options()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with sample_site(
        options.state.resolve(),
        content=options.content,
        host=options.host,
        proxy_port=options.proxy_port,
    ) as site:
        ready = {
            "proxy_url": site.proxy_url,
            "ca_file": str(site.ca_file.resolve()),
            "content": str(site.content.resolve()),
            "links": asdict(site.links),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_stack.sample_site")
    parser.add_argument("--host", default="127.0.0.1", help="where the proxy listens")
    parser.add_argument("--proxy-port", type=int, default=0, help="its port; 0 takes a free one")
    parser.add_argument("--content", type=Path, default=CONTENT, help="pages to serve")
    parser.add_argument("--state", type=Path, required=True, help="folder for copies and ca.pem")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
