"""Messages as frames: the very bytes that pika would send."""

from __future__ import annotations

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import AMQPError

from core.events.encode import Message
from core.mq.frames import Framing

SHORT = st.text(max_size=60)
MESSAGES = st.builds(
    Message,
    routing_key=SHORT,
    body=st.binary(max_size=400),
    message_id=SHORT,
    type=SHORT,
    timestamp=st.integers(0, 2**40),
    headers=st.dictionaries(
        SHORT, st.text(max_size=300) | st.booleans() | st.integers(-(2**63), 2**63 - 1), max_size=4
    ),
    content_type=SHORT,
)


def message(**fields: object) -> Message:
    facts = {"routing_key": "k", "body": b"b", "message_id": "i", "type": "c", "timestamp": 1}
    return Message(**{**facts, "headers": {}, **fields})  # type: ignore[arg-type]


def by_pika(one: Message, exchange: str, channel: int, frame_max: int) -> bytes:
    properties = pika.BasicProperties(
        content_type=one.content_type,
        delivery_mode=2,
        headers=dict(one.headers),
        message_id=one.message_id,
        timestamp=one.timestamp,
        type=one.type,
    )
    method = spec.Basic.Publish(exchange=exchange, routing_key=one.routing_key, mandatory=True)
    step = frame_max - 8
    bodies = [one.body[at : at + step] for at in range(0, len(one.body), step)]
    frames = [
        frame.Method(channel, method),
        frame.Header(channel, len(one.body), properties),
        *(frame.Body(channel, body) for body in bodies),
    ]
    return b"".join(each.marshal() for each in frames)


@given(st.lists(MESSAGES, max_size=4), SHORT, st.integers(1, 2047), st.integers(64, 512))
def test_frames_are_those_of_pika(
    messages: list[Message], exchange: str, channel: int, frame_max: int
) -> None:
    """Whatever a message holds, the broker sees the bytes that pika's own publish would send."""
    ours = b"".join(Framing(exchange, channel, frame_max).writes(messages))
    assert ours == b"".join(by_pika(one, exchange, channel, frame_max) for one in messages)


def test_many_small_messages_are_one_write() -> None:
    """A socket is called once for many messages, and not with more than it can take at once."""
    small = [message(body=b"x" * 1000)] * 100
    assert len(list(Framing("e", 1, 131072).writes(small))) == 2
    large = list(Framing("e", 1, 131072).writes([message(body=b"x" * 1_000_000)]))
    assert max(map(len, large)) <= 2 * 131072


@pytest.mark.parametrize("field", ["routing_key", "message_id", "type", "content_type"])
def test_what_no_frame_can_carry_is_refused(field: str) -> None:
    """A text of more than 255 bytes where AMQP allows no more raises, and nothing is cut off."""
    with pytest.raises(AMQPError):
        list(Framing("e", 1, 131072).writes([message(**{field: "é" * 128})]))
