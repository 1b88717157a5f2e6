"""What Debezium Server sends, in each of its forms, is what our consumer takes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Int64, ObjectId

from core.config import CAPTURABLE
from core.documents import parse_extended
from core.errors import MalformedEvent
from core.events import ChangeEvent, Op, decode
from core.mq.topology import EXCHANGE
from tests.debezium_double import FORMS, DebeziumDouble, Form, debezium_double
from tests.twin_harness import Twin, open_twin, until

_EXAMPLE = Path(__file__).parents[2] / "examples" / "debezium"
_SOURCE = "routingKey.source"
_MESSAGES = sorted((Path(__file__).parents[1] / "fixtures" / "debezium").glob("*.json"))


@pytest.mark.fault(27)
@pytest.mark.parametrize("file", _MESSAGES, ids=lambda file: file.stem)
def test_each_form_of_message_is_taken(file: Path) -> None:
    """Each form is the event it tells, nothing to do, or refused with its reason."""
    message = json.loads(file.read_text(encoding="utf-8"))
    assert _outcome(message) == message["expect"], message["description"]


def test_each_message_has_an_identity_of_its_own() -> None:
    """The sink sends no message id: the same change again has the same one, another another."""
    [one, other] = [
        json.loads((_MESSAGES[0].parent / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("envelope-bare-legacy-v1-create", "envelope-bare-legacy-v1-update")
    ]
    first, again, second = (_event(message) for message in (one, one, other))
    assert first.message_id == again.message_id != second.message_id


@pytest.mark.fault(27)
@pytest.mark.model
def test_debezium_server_as_the_producer(twin_env: dict[str, str], tmp_path: Path) -> None:
    """Fed by Debezium in each of its forms, Qdrant ends as MongoDB, without data_cdc."""
    with open_twin(twin_env, tmp_path) as twin:
        twin.pipeline.start()
        with debezium_double(twin.settings.rabbitmq, twin.db.name) as debezium:
            lives = [
                _Life(twin, debezium, form, one) for form in FORMS for one in _identifiers(form)
            ]
            for live in lives:
                live.snapshot()
            debezium.housekeeping()
            for step in (_Life.insert, _Life.update, _Life.raced_update, _Life.delete, _Life.again):
                for live in lives:
                    step(live)
        until(lambda: twin.queue_depth() == 0, "the queue to be empty")
        report = twin.report()
        assert report.in_step, report
        assert report.checked == 3 * len(lives)
        assert twin.dead_letters() == []
        assert twin.cdc.text() == ""


class _Life:
    """Four documents of one form: one is read, one stays, one is edited, one comes and goes."""

    def __init__(self, twin: Twin, debezium: DebeziumDouble, form: Form, identifier: Any) -> None:
        self._posts, self._articles = twin.db.posts, twin.db.articles
        self._debezium = debezium
        self._form = form
        self._id = identifier
        self._text = f"{form.name}: tides wait for nobody. 潮 {identifier}"

    def snapshot(self) -> None:
        """A document that was there before the server, read by its snapshot."""
        document = self._document("was there")
        self._articles.insert_one(document)
        self._tell("r", "articles", after=document, snapshot="first_in_data_collection")

    def insert(self) -> None:
        for collection in ("posts", "repositories"):
            document = self._document("first")
            self._posts.database[collection].insert_one(document)
            self._tell("c", collection, after=document)

    def update(self) -> None:
        before, after = self._document("first"), self._document("edited")
        self._posts.replace_one({"_id": self._id}, after)
        self._tell("u", "posts", before=before, after=after)

    def raced_update(self) -> None:
        """An update whose look-up found nothing is told before the delete that it raced."""
        if not self._form.flattened:
            self._tell("u", "posts", before=self._document("edited"))

    def delete(self) -> None:
        for collection, text in (("posts", "edited"), ("articles", "was there")):
            self._posts.database[collection].delete_one({"_id": self._id})
            self._tell("d", collection, before=self._document(text))
            self._debezium.tombstone(collection)

    def again(self) -> None:
        """What was deleted may come back, and the server may tell its last change twice."""
        for collection in ("posts", "articles"):
            document = self._document("back again")
            self._posts.database[collection].insert_one(document)
            self._tell("c", collection, after=document)
            self._tell("c", collection, after=document)

    def _document(self, text: str) -> dict[str, Any]:
        return {"_id": self._id, "platform": "substack", "content": f"{text}. {self._text}"}

    def _tell(self, op: str, collection: str, **facts: Any) -> None:
        self._debezium.send(self._form, op, collection, **facts)


def _identifiers(form: Form) -> list[Any]:
    """`_id`s whose type the form keeps."""
    number = FORMS.index(form)
    kept: list[Any] = [f"{form.name} 1", ObjectId(), number]
    if not form.flattened:
        kept += [Binary.from_uuid(uuid.uuid4()), {"form": form.name, "n": number}]
    if form.mode in ("legacy", "extended") and not form.flattened:
        kept.append(Int64(100 + number))
    return kept


def _outcome(message: dict[str, Any]) -> dict[str, Any]:
    try:
        event = _decoded(message)
    except MalformedEvent as error:
        return {"refused": error.reason}
    if event is None:
        return {"nothing": True}
    return {"event": _facts(event, message["expect"].get("event", {}))}


def _facts(event: ChangeEvent, expected: dict[str, Any]) -> dict[str, Any]:
    """The event as a golden file writes it: what it expects of states, if they are equal."""
    assert event.version is None
    facts: dict[str, Any] = {
        "op": event.op.value,
        "db": event.db,
        "collection": event.collection,
        "key": event.key,
        "document": _as_written(event.document, expected.get("document")),
        "version_hint": event.version_hint,
        "wall_ms": event.wall_ms,
        "snapshot": event.snapshot,
    }
    if event.before is not None:
        facts["before"] = _as_written(event.before, expected.get("before"))
    return facts


def _as_written(state: Any, expected: Any) -> Any:
    return expected if state == parse_extended(json.dumps(expected)) else state


def _event(message: dict[str, Any]) -> ChangeEvent:
    event = _decoded(message)
    assert event is not None
    return event


def _decoded(message: dict[str, Any]) -> ChangeEvent | None:
    event = decode(message["body"].encode(), message["headers"], message["routing_key"], None)
    assert event is None or isinstance(event, ChangeEvent)
    assert event is None or (event.op is Op.DELETE) == (event.document is None)
    return event


def test_the_example_sends_where_the_pipeline_listens() -> None:
    """The example's server publishes the captured collections to our exchange, by bound topics."""
    settings = _properties(_EXAMPLE / "application.properties")
    sink = {name: settings[f"debezium.sink.rabbitmq.{name}"] for name in ("exchange", _SOURCE)}
    assert sink == {"exchange": EXCHANGE, _SOURCE: "topic"}
    assert "." not in settings["debezium.source.topic.prefix"]
    captured = settings["debezium.source.collection.include.list"].split(",")
    assert captured == [f"${{MONGO_DATABASE_NAME:twin}}.{name}" for name in CAPTURABLE]
    script = (_EXAMPLE / "pre-images.js").read_text(encoding="utf-8")
    assert all(f'"{name}"' in script for name in CAPTURABLE)


def _properties(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}
