"""The story of the demo, step by step, each with what must come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from core.rag import Hit
from crawlers.browser import find_browser
from local_stack.demo.stage import Stage
from local_stack.demo.telling import Telling

_PATIENCE_S = 20.0
_POLL_S = 0.005

_MEDIUM_QUESTION = "what does the lighthouse keeper store things in?"
_OLD_WORDS, _NEW_WORDS = "copper barrel", "oak cask"

Seen = Callable[[Sequence[Hit]], bool]


def tell(stage: Stage, telling: Telling) -> None:
    """Crawl, search, edit, crawl again, delete, verify."""
    article = _crawl_all(stage, telling)
    _edit(stage, telling)
    _crawl_unchanged(stage, telling)
    _edit_file(stage, telling)
    _delete(stage, telling, article)
    _verify(stage, telling)


def _crawl_all(stage: Stage, telling: Telling) -> dict[str, Any]:
    links = stage.site.links
    how = "the real browser" if find_browser() else "plain HTTP, for no browser is installed"
    telling.step(f"A Medium article, through {how}")
    medium = _crawl(stage, telling, links.medium, "inserted")
    _wait(stage, telling, "Medium article inserted", medium, _MEDIUM_QUESTION, _shows(medium))
    telling.step("An ordinary article")
    article = _crawl(stage, telling, links.article, "inserted")
    _wait(stage, telling, "article inserted", article, "baking bread high up", _shows(article))
    telling.step("A repository, through git without a checkout")
    repository = _crawl(stage, telling, links.repository, "inserted")
    question = "predict the time of high water"
    _wait(stage, telling, "repository inserted", repository, question, _of_type("repository_files"))
    return article


def _edit(stage: Stage, telling: Telling) -> None:
    link = stage.site.links.medium
    telling.step(f"The author edits the Medium article: “{_OLD_WORDS}” becomes “{_NEW_WORDS}”")
    stage.site.edit(link, _OLD_WORDS, _NEW_WORDS)
    medium = _crawl(stage, telling, link, "updated")
    hits = _wait(stage, telling, "article edited", medium, f"the {_NEW_WORDS}", _says(_NEW_WORDS))
    telling.expect("the old words are found no more", held=not _says(_OLD_WORDS)(hits))


def _crawl_unchanged(stage: Stage, telling: Telling) -> None:
    telling.step("The same link again, unchanged")
    _crawl(stage, telling, stage.site.links.medium, "unchanged")


def _edit_file(stage: Stage, telling: Telling) -> None:
    links = stage.site.links
    telling.step("One file of the repository is edited: one change, not a whole repository")
    file = f"{links.repository}/blob/main/docs/method.md"
    stage.site.write(file, "# Method\n\nThe gauge is now read by a retired tuba player.\n")
    results = _results(stage, telling, links.repository)
    repository = results[0] if results else {}
    telling.expect("the crawl says updated", held=repository.get("status") == "updated")
    question = "who reads the gauge?"
    begun = time.time()
    hits, found = _until(stage, question, _says("tuba player"))
    telling.expect("search finds the new text of the file", held=found is not None)
    if found is not None and hits:
        committed = stage.committed_ms(hits[0].type, hits[0].entry_id)
        _tell_time(telling, "file of a repository edited", found, committed or int(begun * 1000))


def _delete(stage: Stage, telling: Telling, article: dict[str, Any]) -> None:
    telling.step("The ordinary article is deleted in MongoDB")
    entry = str(article.get("id"))
    stage.delete("articles", entry)
    hidden: Seen = lambda hits: all(hit.entry_id != entry for hit in hits)  # noqa: E731
    _wait(stage, telling, "article deleted", article, "baking bread high up", hidden)


def _verify(stage: Stage, telling: Telling) -> None:
    telling.step("twin verify: is Qdrant in step with MongoDB?")
    report = stage.verify()
    telling.expect(
        f"verify compared {report.checked} documents and finds Qdrant in step", held=report.in_step
    )


def _crawl(stage: Stage, telling: Telling, link: str, expected: str) -> dict[str, Any]:
    results = _results(stage, telling, link)
    first = results[0] if results else {"status": "nothing", "id": None}
    telling.expect(f"the crawl says {expected}", held=first["status"] == expected)
    return first


def _results(stage: Stage, telling: Telling, link: str) -> list[dict[str, Any]]:
    telling.say(link)
    results = stage.crawl(link)
    for result in results:
        telling.say(f"{result['status']}: {result['collection']} {result['id']}")
        if result.get("reason"):
            telling.say(str(result["reason"]))
    return results


def _wait(
    stage: Stage,
    telling: Telling,
    change: str,
    document: dict[str, Any],
    question: str,
    seen: Seen,
) -> Sequence[Hit]:
    """Search until the change is seen, and tell how long it took from its commit."""
    hits, found = _until(stage, question, seen)
    telling.expect(f"search shows it: {change}", held=found is not None)
    if found is not None and document.get("id"):
        committed = stage.committed_ms(str(document["collection"]), str(document["id"]))
        if committed is None and hits:  # a file of a repository was faster than its list of files
            committed = stage.committed_ms(hits[0].type, hits[0].entry_id)
        _tell_time(telling, change, found, committed)
    return hits


def _until(stage: Stage, question: str, seen: Seen) -> tuple[Sequence[Hit], float | None]:
    deadline = time.monotonic() + _PATIENCE_S
    hits: Sequence[Hit] = ()
    while time.monotonic() < deadline:
        hits = stage.search(question)
        if seen(hits):
            return hits, time.time()
        time.sleep(_POLL_S)
    return hits, None


def _tell_time(telling: Telling, change: str, found: float, committed_ms: int | None) -> None:
    if committed_ms is None:
        return
    seconds = max(0.0, found - committed_ms / 1000)
    telling.say(f"{seconds * 1000:.0f} ms after MongoDB committed it")
    telling.fresh(change, seconds)


def _shows(document: dict[str, Any]) -> Seen:
    return lambda hits: any(hit.entry_id == document.get("id") for hit in hits)


def _of_type(kind: str) -> Seen:
    return lambda hits: any(hit.type == kind for hit in hits)


def _says(words: str) -> Seen:
    return lambda hits: any(words in " ".join(hit.content.split()) for hit in hits)
