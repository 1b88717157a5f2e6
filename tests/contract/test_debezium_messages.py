"""What Debezium Server sends, in each of its forms, is what our consumer takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.documents import parse_extended
from core.errors import MalformedEvent
from core.events import ChangeEvent, Op, decode

_MESSAGES = sorted((Path(__file__).parents[1] / "fixtures" / "debezium").glob("*.json"))


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
