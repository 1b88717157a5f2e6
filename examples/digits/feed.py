"""A writer: handwritten digits as documents in MongoDB, some corrected, some taken back.

    python -m examples.digits.feed [--digits N] [--rate PER_SECOND]

It knows nothing of queues and models; it only writes to its database.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from pymongo.collection import Collection

from core.config import load_settings
from core.errors import TwinError
from core.mongo import connect
from examples.digits.data import COLLECTION, DATABASE, Digit, unseen

_CORRECTED_EVERY, _TAKEN_BACK_EVERY = 8, 20


def feed(posts: Collection[dict[str, object]], digits: int, rate: float) -> None:
    """Write `digits` documents, `rate` a second, and correct or delete one of them now and then."""
    chance = random.Random(digits)  # noqa: S311 - the same story each time
    source = unseen()
    pace = _paced(rate)
    for number, digit in enumerate(islice(source, digits)):
        next(pace)
        _write(posts, number, digit)
        earlier = chance.randrange(number + 1)
        if number % _CORRECTED_EVERY == _CORRECTED_EVERY - 1:
            _write(posts, earlier, chance.choice(source))
        if number % _TAKEN_BACK_EVERY == _TAKEN_BACK_EVERY - 1:
            posts.delete_one({"_id": chance.randrange(number + 1)})


def _write(posts: Collection[dict[str, object]], number: int, digit: Digit) -> None:
    posts.replace_one({"_id": number}, digit.document(number), upsert=True)


def _paced(rate: float) -> Iterator[None]:
    """One item each 1/`rate` seconds; what was missed is made up for."""
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / rate
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Write to the MongoDB that the environment names."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.feed")
    parser.add_argument("--digits", type=int, default=len(unseen()))
    parser.add_argument("--rate", type=float, default=40.0, metavar="PER_SECOND")
    given = parser.parse_args(arguments)
    try:
        with connect(load_settings().mongo, app="digits-feed") as mongo:
            feed(mongo[DATABASE][COLLECTION], given.digits, given.rate)
    except TwinError as error:
        print(f"digits: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
