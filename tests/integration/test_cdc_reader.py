"""Reading collections in portions, whatever they hold and whatever kind they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from core.documents import document_key
from core.events import ChangeEvent, Event, Op, SnapshotCompleted
from core.mongo import connect
from data_cdc.keeping.offset import Offset, SnapshotTask
from data_cdc.keeping.position import Position
from data_cdc.keeping.state import Checkpoint, StateStore
from data_cdc.source.reader import Portion, next_portion
from tests.twin_harness import settings_of

Database = Any
# More than any of these reads has; a read that goes round in circles has more.
MOST_PORTIONS = 50


@pytest.fixture
def database(environment: Mapping[str, str]) -> Iterator[Database]:
    """The database as data_cdc sees it."""
    settings = settings_of(environment)
    with connect(settings.mongo) as client:
        yield client[settings.mongo.database]


def task(database: Database, *collections: str, keys: tuple[str, ...] | None = None) -> Any:
    now = database.client.admin.command("ping")["operationTime"]
    return SnapshotTask(id="s", why="test", collections=collections, not_before=now, keys=keys)


def read(database: Database, begun: SnapshotTask) -> list[Portion]:
    """All portions, each from where a checkpoint of the one before leads."""
    store = StateStore(database.client[f"{database.name}_state"])
    store.load()
    portions, position = list[Portion](), Position(Timestamp(1, 1))
    current: SnapshotTask | None = begun
    while current is not None:
        assert len(portions) < MOST_PORTIONS
        portions.append(next_portion(database, current))
        current = portions[-1].task
        if current is not None:
            offset = Offset(position=position, snapshots=(current,))
            store.save(Checkpoint(offset, begun.collections))
            kept = store.load()
            assert kept is not None
            assert kept.offset == offset
            current = kept.offset.running
    return portions


def told(portions: list[Portion]) -> list[Event]:
    return [event for portion in portions for event, _ in portion.steps]


def keys(portions: list[Portion], op: Op = Op.READ) -> list[str]:
    events = told(portions)
    return [one.key for one in events if isinstance(one, ChangeEvent) and one.op is op]


def markers(portions: list[Portion]) -> list[tuple[str, ...]]:
    return [one.collections for one in told(portions) if isinstance(one, SnapshotCompleted)]


def text_id(text: bytes, more: bytes = b"") -> RawBSONDocument:
    """A document whose `_id` is `text`, UTF-8 or not, with the elements `more`."""
    elements = b"\x02_id\0" + struct.pack("<i", len(text) + 1) + text + b"\0" + more + b"\0"
    return RawBSONDocument(struct.pack("<i", len(elements) + 4) + elements)


# A binary of subtype 2 holds its length once more; MongoDB does not look at it.
BAD = b"\x05a\0" + struct.pack("<i", 5) + b"\x02" + struct.pack("<i", 99) + b"x"


def test_no_document_is_skipped_behind_an_id_that_is_no_utf8(database: Database) -> None:
    """The last `_id` of a chunk is kept byte for byte, in the checkpoint as well."""
    database.posts.insert_many([{"_id": f"a{n:04}"} for n in range(499)])
    database.posts.insert_one(text_id(b"b\x80"))
    database.posts.insert_many([{"_id": f"b中{n}"} for n in range(100)])
    portions = read(database, task(database, "posts"))
    assert len(keys(portions)) == 600
    assert keys(portions)[-1] == '"b中99"'
    assert markers(portions) == [("posts",)]


def test_a_read_ends_behind_an_id_that_sorts_after_its_replacement(database: Database) -> None:
    """U+FFFD sorts before what it stands for: the same chunk would be read for ever."""
    database.posts.insert_many([{"_id": f"\ufffc{n:04}"} for n in range(499)])
    database.posts.insert_one(text_id(b"\xff\xff"))
    database.posts.insert_one({"_id": ObjectId()})
    assert len(keys(read(database, task(database, "posts")))) == 501


def test_an_undecodable_document_is_named_and_the_others_are_read(database: Database) -> None:
    """Its `_id` is told where that can be read, wherever in a chunk it stands."""
    database.posts.insert_many([{"_id": f"a{n:04}"} for n in range(498)])
    database.posts.insert_many([text_id(b"b", BAD), text_id(b"c", BAD), {"_id": "d"}])
    portions = read(database, task(database, "posts"))
    assert len(keys(portions)) == 499
    refused = [one for portion in portions for one in portion.undecodable]
    assert [(one.collection, one.key, one.reason) for one in refused] == [
        ("posts", '"b"', "undecodable"),
        ("posts", '"c"', "undecodable"),
    ]
    assert len({one.id for one in refused}) == 2
    assert markers(portions) == [("posts",)]
    asked = read(database, task(database, "posts", keys=('"b"', '"d"', '"e"')))
    assert (keys(asked), keys(asked, Op.DELETE)) == (['"d"'], ['"e"'])
    assert [one.key for portion in asked for one in portion.undecodable] == ['"b"']


def test_an_undecodable_id_has_a_name_all_the_same(database: Database) -> None:
    """It is told in the bytes that it has, and the read goes on behind it."""
    elements = BAD.replace(b"\x05a\0", b"\x05_id\0", 1) + b"\0"
    database.posts.insert_one(RawBSONDocument(struct.pack("<i", len(elements) + 4) + elements))
    database.posts.insert_one({"_id": ObjectId()})
    portions = read(database, task(database, "posts"))
    assert len(keys(portions)) == 1
    [refused] = [one for portion in portions for one in portion.undecodable]
    assert refused.key.startswith("bson:")


IDENTIFIERS = [
    MinKey(),
    None,
    -1,
    0.5,
    Int64(2**40),
    Decimal128("1.5"),
    "",
    "é",
    {"a": {"b": 1}},
    DBRef("c", 1),
    b"\x00",
    ObjectId(),
    True,
    Timestamp(1, 1),
    MaxKey(),
]


@pytest.mark.parametrize("options", [{}, {"collation": {"locale": "en", "numericOrdering": True}}])
def test_each_event_tells_where_to_go_on_behind_it(
    database: Database, options: Mapping[str, Any]
) -> None:
    """From the task behind any event on, exactly the documents after it are read."""
    database.create_collection("posts", **options)
    database.posts.insert_many([{"_id": identifier} for identifier in IDENTIFIERS])
    [portion, *_] = whole = read(database, task(database, "posts"))
    everything = keys(whole)
    assert sorted(everything) == sorted(map(document_key, IDENTIFIERS))
    for number, (_, behind) in enumerate(portion.steps, 1):
        assert behind is not None
        rest = read(database, behind)
        assert keys(rest) == everything[number:]
        assert markers(rest) == [("posts",)]
        assert [one.task.rows for one in rest if one.task][-1:] in ([len(everything)], [])


def test_a_place_that_an_earlier_version_kept_is_understood(database: Database) -> None:
    """Checkpoints held the last `_id` itself."""
    database.posts.insert_many([{"_id": n} for n in range(3)])
    begun = task(database, "posts").read(2, None, {"_id": 1})
    assert keys(read(database, begun)) == ['{"$numberInt":"2"}']


def test_keys_may_be_written_in_any_way(database: Database) -> None:
    """A key with spaces names the document that is there, which is not told as gone."""
    there = ObjectId()
    database.posts.insert_one({"_id": there})
    asked = (f'{{"$oid": "{there}"}}', '{"$numberInt": "1"}')
    portions = read(database, task(database, "posts", keys=asked))
    assert keys(portions) == [f'{{"$oid":"{there}"}}']
    assert keys(portions, Op.DELETE) == ['{"$numberInt":"1"}']


def test_documents_that_do_not_fit_one_reply_are_not_gone(database: Database) -> None:
    """The server cuts a reply at 16 MB; what was cut off is read with the next."""
    database.posts.insert_many([{"_id": n, "content": "x" * 3_000_000} for n in range(12)])
    asked = tuple(document_key(n) for n in range(14))
    portions = read(database, task(database, "posts", keys=asked))
    assert sorted(keys(portions)) == sorted(asked[:12])
    assert keys(portions, Op.DELETE) == list(asked[12:])


def test_each_key_tells_which_keys_are_left(database: Database) -> None:
    """Also in between; what equals a key without being written so is told beside it."""
    database.posts.insert_many([{"_id": n} for n in range(0, 1200, 2)])
    asked = tuple(document_key(Int64(n) if n == 0 else n) for n in range(1200))
    portions = read(database, task(database, "posts", keys=asked))
    assert len(keys(portions)) == 600
    assert len(keys(portions, Op.DELETE)) == 601
    assert not markers(portions)
    event, behind = portions[1].steps[250]
    assert isinstance(event, ChangeEvent)
    assert behind is not None
    rest = told(read(database, behind))
    assert [one.key for one in rest if isinstance(one, ChangeEvent)] == list(
        asked[asked.index(event.key) + 1 :]
    )


def test_a_collection_that_cannot_be_read_is_left_out(database: Database) -> None:
    """A view and a capped collection are named with MongoDB's reason, and are not in the marker."""
    database.articles.insert_one({"_id": "a"})
    database.repositories.insert_one({"_id": "r"})
    database.command("create", "view", viewOn="articles", pipeline=[])
    database.create_collection("capped", capped=True, size=100_000)
    database.create_collection("series", timeseries={"timeField": "at"})
    names = ("articles", "view", "capped", "series", "repositories")
    portions = read(database, task(database, *names))
    refused = {one.refused: one.reason for one in portions if one.refused}
    assert list(refused) == ["view", "capped", "series"]
    assert "capped" in refused["capped"]
    assert keys(portions) == ['"a"', '"r"']
    assert markers(portions) == [("articles", "repositories")]


def test_where_nothing_can_be_read_there_is_no_marker(database: Database) -> None:
    """Nor where documents alone were asked for."""
    database.create_collection("capped", capped=True, size=100_000)
    for begun in (task(database, "capped"), task(database, "capped", keys=('"a"',))):
        portions = read(database, begun)
        assert portions[0].refused == "capped"
        assert not told(portions)


@pytest.mark.parametrize("code", [246, 11602, 13])
def test_a_refusal_that_may_end_is_an_error(database: Database, code: int) -> None:
    """Nothing is left out because of a moment's weakness, or of a right that can be granted."""
    database.posts.with_options(write_concern=WriteConcern("majority")).insert_one({"_id": "a"})
    begun = task(database, "posts")
    told_to_fail = {
        "failCommands": ["find"],
        "errorCode": code,
        "namespace": f"{database.name}.posts",
    }
    database.client.admin.command(
        "configureFailPoint", "failCommand", mode={"times": 1}, data=told_to_fail
    )
    with pytest.raises(OperationFailure):
        next_portion(database, begun)
    assert keys(read(database, begun)) == ['"a"']
