"""The window of messages on their way, and the offset that is safe to keep."""

from __future__ import annotations

from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.events import Message
from data_cdc.delivery.outbox import Entry, Outbox
from data_cdc.keeping.position import Position, position_of_token, token_time


def place(number: int) -> Position:
    return Position(Timestamp(number, 1), {"_data": f"82{number:08X}"})


def entry(number: int, *, size: int = 1, partial: bool = False) -> Entry:
    message = Message(
        routing_key="twin.articles",
        body=b"x" * size,
        message_id=str(number),
        type="c",
        timestamp=0,
        headers={},
    )
    return Entry(message, "articles", '"a"', None if partial else place(number))


def filled(*entries: Entry) -> Outbox:
    outbox = Outbox()
    for one in entries:
        outbox.append(one)
    return outbox


def ids(entries: list[Entry]) -> list[str]:
    return [one.message.message_id for one in entries]


def test_nothing_is_safe_before_the_first_confirm() -> None:
    """What was only sent may be lost, so it gives no position to resume from."""
    outbox = filled(entry(1))
    assert ids(list(outbox.to_send())) == ["1"]
    assert outbox.safe is None


def test_the_safe_position_is_that_of_the_last_confirmed_event() -> None:
    """The checkpoint follows the contiguous confirmed prefix and no further."""
    outbox = filled(entry(1), entry(2), entry(3))
    list(outbox.to_send())
    assert ids(outbox.confirm(2)) == ["1", "2"]
    assert outbox.safe == place(2)


def test_a_snapshot_is_safe_only_with_its_marker() -> None:
    """Events without a position leave the safe position where it was."""
    outbox = filled(entry(1), entry(2, partial=True), entry(3, partial=True), entry(4))
    list(outbox.to_send())
    outbox.confirm(3)
    assert outbox.safe == place(1)
    outbox.confirm(1)
    assert outbox.safe == place(4)


def test_after_a_break_all_unconfirmed_is_sent_again_in_order() -> None:
    """Go-back-N: what was in flight comes before what had not been sent yet."""
    outbox = filled(entry(1), entry(2), entry(3))
    list(outbox.to_send())
    outbox.append(entry(4))
    outbox.confirm(1)
    outbox.rewind()
    assert ids(list(outbox.to_send())) == ["2", "3", "4"]


def test_a_message_that_could_not_be_sent_waits() -> None:
    """Breaking off in the middle keeps the message that was not taken, and those behind it."""
    outbox = filled(entry(1), entry(2), entry(3))
    for sent in outbox.to_send():
        if sent.message.message_id == "2":
            break
    assert ids(list(outbox.to_send())) == ["2", "3"]


def test_a_skipped_change_is_safe_with_those_before_it() -> None:
    """An event that needs no message moves the position once all before it are confirmed."""
    outbox = filled(entry(1))
    outbox.advance(place(2))
    assert outbox.safe is None
    list(outbox.to_send())
    outbox.confirm(1)
    assert outbox.safe == place(2)


def test_an_empty_outbox_is_safe_at_once() -> None:
    """With nothing in flight a position of the stream's own is safe."""
    outbox = Outbox()
    outbox.advance(place(7))
    assert outbox.safe == place(7)


def test_the_window_is_bounded_in_messages_and_bytes() -> None:
    """A few large documents fill the window as many small ones do; one always fits."""
    small, large = Outbox(max_messages=2), Outbox(max_bytes=100)
    assert not large.full
    large.append(entry(1, size=1000))
    assert large.full
    small.append(entry(1))
    assert not small.full
    small.append(entry(2))
    assert small.full
    list(small.to_send())
    small.confirm(1)
    assert not small.full


def test_setting_an_entry_aside_keeps_the_order_and_the_position() -> None:
    """What is parked no longer blocks, and its position goes to the one before it."""
    outbox = filled(entry(1), entry(2, size=50), entry(3))
    list(outbox.to_send())
    outbox.rewind()
    (too_large,) = outbox.larger_than(10)
    outbox.remove(too_large)
    assert ids(list(outbox.to_send())) == ["1", "3"]
    outbox.confirm(1)
    assert outbox.safe == place(2)


def test_setting_the_first_entry_aside_makes_its_position_safe() -> None:
    """With nothing before it, what is parked is done."""
    outbox = filled(entry(1, size=50), entry(2))
    outbox.remove(outbox.larger_than(10)[0])
    assert outbox.safe == place(1)


@given(st.lists(st.sampled_from(["append", "send", "confirm", "break"]), max_size=60))
def test_whatever_happens_events_are_confirmed_once_and_in_order(steps: list[str]) -> None:
    """No order of sends, confirms and breaks loses, repeats or reorders an event."""
    outbox, appended, confirmed, in_flight = Outbox(), 0, [], 0
    for step in steps:
        match step:
            case "append":
                appended += 1
                outbox.append(entry(appended))
            case "send":
                in_flight += len(list(outbox.to_send()))
            case "confirm" if in_flight:
                in_flight -= 1
                confirmed += ids(outbox.confirm(1))
            case "break":
                outbox.rewind()
                in_flight = 0
        assert outbox.safe == (place(len(confirmed)) if confirmed else None)
        assert len(outbox) == appended - len(confirmed)
    assert confirmed == [str(number + 1) for number in range(len(confirmed))]


def test_a_token_tells_its_time() -> None:
    """The clusterTime in a resume token is found, and another layout is not guessed at."""
    data = "826B000512000000042B022C0100296E5A1004"
    assert token_time(data) == Timestamp(0x6B000512, 4)
    assert token_time("93AB") is None
    assert position_of_token({"_data": "??"}, place(3)).time == place(3).time
