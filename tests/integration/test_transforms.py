"""Transforms in the running services: what they make is what arrives, and what verify expects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.events import ChangeEvent, Op
from tests.cdc_harness import Cdc, Queue, Received, await_snapshots, cdc_process, finish
from tests.twin_harness import Twin, open_twin, until

pytestmark = [pytest.mark.stack]

_OWN = """
from dataclasses import replace

def sign(signature):
    def transform(event):
        if event.document is None:
            return event
        signed = {**event.document, "signed": event.document["by"] + signature}
        return replace(event, document=signed)
    return transform

def twice(event):
    yield event
    yield replace(event, key='"copy of ' + event.key[1:])
"""
_PUBLIC = {"type": "filter", "expression": "document.state == 'public'"}
_MASK = {"type": "mask", "fields": ["author_full_name", "content.Mail"]}
_SIGN = {"type": "own_transforms.sign", "signature": "!"}
_SECRET = "s3cret"


def _configured(
    environment: Mapping[str, str], folder: Path, *specs: Mapping[str, Any]
) -> dict[str, str]:
    (folder / "own_transforms.py").write_text(_OWN)
    transforms = {"CDC_TRANSFORMS": json.dumps(specs), "PYTHONPATH": str(folder)}
    return {**environment, **transforms, "CDC_HTTP_PORT": "0"}


def _article(state: str = "public", text: str = "about tides", **fields: Any) -> dict[str, Any]:
    content = {"Title": "t", "Content": text, "Mail": _SECRET}
    return {"state": state, "content": content, "author_full_name": _SECRET, "by": "x", **fields}


def _manifest(twin: Twin, entry: str) -> dict[str, Any]:
    return twin.manifest("articles", entry) or {}


@pytest.mark.model
def test_qdrant_holds_what_the_transforms_make(
    twin_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first snapshot on: filtered, masked, and in step when documents change sides."""
    monkeypatch.syspath_prepend(tmp_path)
    environment = _configured(twin_env, tmp_path, _PUBLIC, _MASK, _SIGN)
    with open_twin(environment, tmp_path) as twin:
        articles = twin.db["articles"]
        articles.insert_many([{"_id": f"a{n}", **_article()} for n in range(3)])
        articles.insert_one({"_id": "draft", **_article("draft")})
        twin.cdc.start(ready=False)
        twin.pipeline.start()
        assert twin.report().in_step
        assert _manifest(twin, "a0")["author_full_name"] == "***"
        assert _SECRET not in json.dumps([_manifest(twin, "a0"), twin.chunks("articles", "a0")])
        articles.update_one({"_id": "draft"}, {"$set": {"state": "public"}})
        articles.update_one({"_id": "a0"}, {"$set": {"state": "draft"}})
        articles.delete_one({"_id": "a1"})
        assert twin.report().in_step
        assert [len(twin.chunks("articles", name)) for name in ("draft", "a0", "a1")] == [1, 0, 0]
        articles.update_one({"_id": "a2"}, {"$unset": {"by": 1}, "$set": {"content": _SECRET}})
        twin.cdc.says("event.parked")
        articles.insert_one({"_id": "behind", **_article()})
        until(lambda: twin.chunks("articles", "behind"), "the document behind the parked one")
        assert twin.report(settle_s=1).stale == [("articles", '"a2"')]
        parked = twin.mongo[f"{twin.db.name}_state"]["cdc_parked"].find_one() or {}
        assert parked["key"] == '"a2"'
        assert "own_transforms.sign raised KeyError at own_transforms.py:" in parked["reason"]
        assert _SECRET not in twin.cdc.text()
        articles.update_one({"_id": "a2"}, {"$set": {"by": "y"}})
        assert twin.report().in_step


@pytest.mark.model
def test_verify_follows_documents_to_other_keys(
    twin_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that travels as two is expected twice, also where only doubts are looked at."""
    monkeypatch.syspath_prepend(tmp_path)
    environment = _configured(twin_env, tmp_path, {"type": "own_transforms.twice"})
    with open_twin(environment, tmp_path) as twin:
        twin.db["articles"].insert_one({"_id": "a", **_article()})
        missing = [("articles", '"a"'), ("articles", '"copy of a"')]
        assert twin.report(settle_s=1).missing == missing
        twin.cdc.start(ready=False)
        twin.pipeline.start()
        assert twin.report().in_step
        assert twin.chunks("articles", "copy of a")


def test_another_list_tells_everything_anew(cdc: Cdc, database: Any, queue: Queue) -> None:
    """What was sent unmasked before is sent again, masked; the same list sends nothing twice."""
    database.articles.insert_one({"_id": "a", **_article()})
    mask = json.dumps([_MASK])
    for transforms in ("", mask, mask):
        cdc.start(ready=True, CDC_TRANSFORMS=transforms)
        await_snapshots(database)
        assert cdc.end() == 0
    cdc.start(CDC_TRANSFORMS=mask)
    told = [one.event.document for one in filter(is_read, finish(database, queue))]
    assert [document["author_full_name"] for document in told] == [_SECRET, "***"]
    assert cdc.text().count("snapshot.started") == 2


def is_read(one: Received) -> bool:
    return isinstance(one.event, ChangeEvent) and one.event.op is Op.READ


def test_nothing_masked_is_in_a_message(twin_env: dict[str, str], tmp_path: Path) -> None:
    """Neither of a snapshot nor of the stream; ids of several events of one change are its own."""
    specs = ({**_MASK, "fields": ["author_full_name", "content"]}, {"type": "own_transforms.twice"})
    environment = _configured(twin_env, tmp_path, *specs)
    with open_twin(environment, tmp_path) as twin:
        twin.db["articles"].insert_one({"_id": "a", **_article()})
        twin.cdc.start()
        twin.db["articles"].update_one({"_id": "a"}, {"$set": {"content.Mail": _SECRET + "2"}})
        received = Queue(environment).read_until(_is_copy_of_a_change)
        assert _SECRET not in repr([one.event for one in received])
        assert len({one.message_id for one in received}) == len(received)


def _is_copy_of_a_change(one: Received) -> bool:
    event = one.event
    return isinstance(event, ChangeEvent) and event.op is Op.UPDATE and "copy" in event.key


def test_a_bad_list_ends_the_service_at_once(twin_env: dict[str, str], tmp_path: Path) -> None:
    """One sentence and status 2, before anything is connected to."""
    environment = _configured(twin_env, tmp_path, {"type": "masc"})
    with cdc_process({**environment, "MONGO_DATABASE_HOST": "mongodb://nobody"}, tmp_path) as cdc:
        cdc.start()
        assert cdc.wait() == 2
        assert "CDC_TRANSFORMS: number 1 (masc): unknown type" in cdc.text()
