"""Documents of one kilobyte, as a crawler stores articles."""

from __future__ import annotations

import random
from typing import Any

_WORDS = (
    *("change", "stream", "resume", "token", "oplog", "replica", "primary", "broker", "queue"),
    *("confirm", "publish", "order", "lighthouse", "keeper", "tide", "harbour", "of", "the"),
    *("naïve", "café", "Straße", "“quoted”", "—", "数据"),
)
# Beside the other fields, so that the document has 1,024 bytes as BSON, give or take a word.
_CONTENT_BYTES = 690


def article(number: int) -> dict[str, Any]:
    """The document with `_id` `number`: its fields are those of `articles`."""
    source = random.Random(number)  # noqa: S311 - the same text each time
    return {
        "_id": f"{number:012d}",
        "platform": "medium",
        "link": f"https://medium.com/@writer/a-story-about-queues-{number:012d}",
        "content": {
            "Title": f"Story {number}",
            "Subtitle": "What a lighthouse teaches about queues",
            "Content": _text(source),
            "language": "en",
        },
        "author_id": "2f6d2b6e-7a3b-4c55-9d0a-0f3f4a7e1c11",
        "author_full_name": "Paul Iusztin",
    }


def articles(first: int, count: int) -> list[dict[str, Any]]:
    """`count` documents from number `first` on."""
    return [article(number) for number in range(first, first + count)]


def _text(source: random.Random) -> str:
    words: list[str] = []
    size = 0
    while size < _CONTENT_BYTES:
        words.append(source.choice(_WORDS))
        size += len(words[-1].encode()) + 1
    return " ".join(words)
