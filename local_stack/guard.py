"""Ends a stack whose starter was killed: `python -m local_stack.guard STATE_FOLDER`.

It waits for the end of its standard input, which comes when the starter ends in
whatever way. A starter that has ended the stack itself says so first.
"""

from __future__ import annotations

import sys

from local_stack.layout import Layout
from local_stack.stack import LocalStack


def main() -> None:
    """Wait, then act if the starter did not say it was done."""
    if sys.stdin.read() != "done":
        LocalStack(Layout.at(sys.argv[1])).down()


if __name__ == "__main__":
    main()
