"""Print what pip is to install for some extras of pyproject.toml, one requirement a line.

    python scripts/dependencies.py crawlers console
    python scripts/dependencies.py local-stack --only trustme

Images install dependencies before they copy code, so that a changed line of code does not
install everything again. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path


def main() -> None:
    """Read pyproject.toml of the current folder and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="+")
    parser.add_argument("--only", metavar="NAME", help="this one requirement, nothing else")
    given = parser.parse_args()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [line for extra in given.extras for line in project["optional-dependencies"][extra]]
    if given.only:
        found = [line for line in found if re.match(rf"{re.escape(given.only)}\b(?!-)", line)]
    else:
        found += project["dependencies"]
    print("\n".join(dict.fromkeys(found)))


if __name__ == "__main__":
    main()
