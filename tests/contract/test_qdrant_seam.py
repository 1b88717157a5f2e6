"""What the pipeline and search rely on in Qdrant, held on the embedded server.

Where QDRANT_TEST_URL names a server, the same facts are held on it as well.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from local_stack.qdrant.running import RunningQdrant

SERVER = os.environ.get("QDRANT_TEST_URL")
COMPLETED = models.UpdateStatus.COMPLETED


@dataclass
class Qdrant:
    """A client, and names that no other test uses."""

    client: QdrantClient
    embedded: bool
    made: list[str] = field(default_factory=list)

    def name(self) -> str:
        """A name for a collection or alias, removed after the test."""
        self.made.append(f"contract_{uuid.uuid4().hex}")
        return self.made[-1]

    def documents(self) -> str:
        """A collection without vectors, as for cleaned documents."""
        name = self.name()
        self.client.create_collection(name, vectors_config={})
        self._index(name)
        return name

    def chunks(self) -> str:
        """A collection with the vector `text` and sparse `words`, as for chunks."""
        name = self.name()
        self.client.create_collection(
            name,
            vectors_config={"text": models.VectorParams(size=2, distance=models.Distance.COSINE)},
            sparse_vectors_config={"words": models.SparseVectorParams()},
            metadata={"model": "none"},
        )
        self._index(name)
        return name

    def _index(self, name: str) -> None:
        for key, kind in (("key", "keyword"), ("version", "integer")):
            self.client.create_payload_index(name, key, kind, wait=True)

    def clean(self) -> None:
        """Remove what the test made."""
        for name in self.made:
            self.client.delete_collection(name)


@pytest.fixture(scope="module", params=["embedded"] + (["server"] if SERVER else []))
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, bool]]:
    """Where a Qdrant listens, and whether it is the embedded one."""
    if request.param == "server":
        assert SERVER is not None
        yield SERVER, False
        return
    with RunningQdrant(tmp_path_factory.mktemp("qdrant") / "data") as running:
        yield running.url, True


@pytest.fixture
def qdrant(url: tuple[str, bool]) -> Iterator[Qdrant]:
    """A client of the Qdrant under test."""
    client = QdrantClient(url=url[0], timeout=20)
    found = Qdrant(client, embedded=url[1])
    try:
        yield found
    finally:
        found.clean()
        client.close()


def point(
    identity: int | str, *, vector: dict[str, object] | None = None, **payload: object
) -> models.PointStruct:
    """A point, without a vector unless one is given."""
    return models.PointStruct(id=identity, vector=vector or {}, payload=payload)  # type: ignore[arg-type]


def not_newer_than(version: float) -> models.Filter:
    """The guard: a stored point with a newer version is left as it is."""
    newer = models.FieldCondition(key="version", range=models.Range(gt=version))
    return models.Filter(must_not=[newer])


def where(key: str, value: str) -> models.Filter:
    """Points whose field `key` is `value`."""
    match = models.MatchValue(value=value)
    return models.Filter(must=[models.FieldCondition(key=key, match=match)])


def above(qdrant: Qdrant, name: str, key: str, bound: int) -> int:
    """How many points have a number above `bound` in their field `key`."""
    condition = models.FieldCondition(key=key, range=models.Range(gt=bound))
    return qdrant.client.count(name, models.Filter(must=[condition])).count


def payloads(qdrant: Qdrant, name: str) -> dict[object, dict[str, object]]:
    """Every stored point's payload by its id."""
    points, rest = qdrant.client.scroll(name, limit=1000, with_payload=True)
    assert rest is None
    return {one.id: one.payload or {} for one in points}


class TestGuardedWrites:
    """`update_filter` and `update_mode` of upserts."""

    def test_older_version_changes_nothing(self, qdrant: Qdrant) -> None:
        """A guarded upsert leaves a stored point with a newer version as it is."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, version=9, key="new")])
        answer = qdrant.client.upsert(
            name, [point(1, version=8, key="old")], update_filter=not_newer_than(8)
        )
        assert answer.status == COMPLETED
        assert payloads(qdrant, name) == {1: {"version": 9, "key": "new"}}

    def test_equal_and_newer_versions_replace_the_whole_point(self, qdrant: Qdrant) -> None:
        """A guarded upsert of an equal or newer version replaces all of the payload."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, version=5, left="over"), point(2, version=5)])
        again = [point(1, version=5, key="again"), point(2, version=5, key="again")]
        qdrant.client.upsert(name, again, update_filter=not_newer_than(5))
        qdrant.client.upsert(name, [point(2, version=6)], update_filter=not_newer_than(6))
        assert payloads(qdrant, name) == {1: {"version": 5, "key": "again"}, 2: {"version": 6}}

    def test_missing_id_is_inserted_whatever_the_guard(self, qdrant: Qdrant) -> None:
        """A guard that nothing matches does not keep a missing point from being inserted."""
        name = qdrant.documents()
        qdrant.client.upsert(
            name, [point(7, version=1)], update_filter=where("key", "matches nothing")
        )
        assert payloads(qdrant, name) == {7: {"version": 1}}

    def test_point_without_the_field_stays_writable(self, qdrant: Qdrant) -> None:
        """A stored point that has no version does not match `version > n`, so it is replaced."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, key="no version")])
        qdrant.client.upsert(name, [point(1, version=1)], update_filter=not_newer_than(1))
        assert payloads(qdrant, name) == {1: {"version": 1}}

    def test_guard_is_tested_once_before_a_batch(self, qdrant: Qdrant) -> None:
        """Of two versions of one id in one guarded upsert the last in the list is stored."""
        name = qdrant.documents()
        both = [point(1, version=9), point(1, version=5)]
        qdrant.client.upsert(name, both, update_filter=not_newer_than(9))
        assert payloads(qdrant, name) == {1: {"version": 5}}

    def test_ranges_are_float64(self, qdrant: Qdrant) -> None:
        """Bounds are float64: exact below 2**53, and above it wrong with and without an index."""
        name, large = qdrant.documents(), 7_400_000_000_000_000_001
        qdrant.client.upsert(name, [point(1, version=2**53 - 1)])
        assert above(qdrant, name, "version", 2**53 - 2) == 1
        assert above(qdrant, name, "version", 2**53 - 1) == 0
        qdrant.client.upsert(name, [point(1, version=large, no_index=large + 1)])
        assert above(qdrant, name, "version", large) == 1
        assert above(qdrant, name, "no_index", large) == 0

    def test_update_modes(self, qdrant: Qdrant) -> None:
        """insert_only leaves stored points, update_only leaves missing ones."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, key="stored")])
        inserts = [point(1, key="x"), point(2, key="inserted")]
        qdrant.client.upsert(name, inserts, update_mode=models.UpdateMode.INSERT_ONLY)
        updates = [point(1, key="updated"), point(3, key="x")]
        qdrant.client.upsert(name, updates, update_mode=models.UpdateMode.UPDATE_ONLY)
        assert payloads(qdrant, name) == {1: {"key": "updated"}, 2: {"key": "inserted"}}


class TestWrites:
    """The other writes."""

    def test_delete_by_filter_and_ids_together(self, qdrant: Qdrant) -> None:
        """A filter of has_id and a version deletes those points that match both."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(i, version=i) for i in (1, 2, 3)])
        old = models.FieldCondition(key="version", range=models.Range(lte=2))
        both = models.Filter(must=[models.HasIdCondition(has_id=[2, 3]), old])
        qdrant.client.delete(name, models.FilterSelector(filter=both))
        assert set(payloads(qdrant, name)) == {1, 3}

    def test_set_payload_by_filter_keeps_other_fields(self, qdrant: Qdrant) -> None:
        """set_payload by filter merges into each matching point's payload."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, key="a", version=1), point(2, key="b", version=1)])
        qdrant.client.set_payload(name, {"version": 2}, points=where("key", "a"))
        assert payloads(qdrant, name) == {
            1: {"key": "a", "version": 2},
            2: {"key": "b", "version": 1},
        }

    def test_overwrite_delete_and_clear_payload(self, qdrant: Qdrant) -> None:
        """overwrite replaces a payload, delete takes keys away, clear leaves nothing."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(i, key="a", version=i) for i in (1, 2, 3)])
        qdrant.client.overwrite_payload(name, {"only": 1}, points=[1])
        qdrant.client.delete_payload(name, ["version"], points=[2])
        qdrant.client.clear_payload(name, points_selector=[3])
        assert payloads(qdrant, name) == {1: {"only": 1}, 2: {"key": "a"}, 3: {}}

    def test_batch_is_done_in_order(self, qdrant: Qdrant) -> None:
        """The operations of a batch see what those before them wrote."""
        name = qdrant.documents()
        qdrant.client.batch_update_points(
            name,
            [
                models.UpsertOperation(upsert=models.PointsList(points=[point(1, key="a")])),
                models.SetPayloadOperation(
                    set_payload=models.SetPayload(payload={"version": 4}, filter=where("key", "a"))
                ),
                models.UpsertOperation(
                    upsert=models.PointsList(
                        points=[point(1, version=3), point(2, version=3)],
                        update_filter=not_newer_than(3),
                    )
                ),
                models.DeleteOperation(delete=models.PointIdsList(points=[2])),
            ],
        )
        assert payloads(qdrant, name) == {1: {"key": "a", "version": 4}}

    def test_every_spelling_of_a_uuid_is_one_point(self, qdrant: Qdrant) -> None:
        """A UUID with hyphens, without, in capitals or as URN is one id, given back in one form."""
        name, identity = qdrant.documents(), uuid.uuid4()
        spellings = [str(identity), identity.hex, str(identity).upper(), identity.urn]
        for spelling in spellings:
            qdrant.client.upsert(name, [point(spelling, key="same")])
        assert payloads(qdrant, name) == {str(identity): {"key": "same"}}
        assert len(qdrant.client.retrieve(name, spellings)) == 1

    def test_vectors_are_updated_and_deleted_alone(self, qdrant: Qdrant) -> None:
        """Vectors change without the payload, and a point can lose one."""
        name = qdrant.chunks()
        qdrant.client.upsert(name, [point(1, vector={"text": [1.0, 0.0]}, key="a")])
        qdrant.client.update_vectors(name, [models.PointVectors(id=1, vector={"text": [0.0, 3.0]})])
        (found,) = qdrant.client.retrieve(name, [1], with_vectors=True)
        assert (found.vector, found.payload) == ({"text": [0.0, 1.0]}, {"key": "a"})
        qdrant.client.delete_vectors(name, ["text"], points=[1])
        (found,) = qdrant.client.retrieve(name, [1], with_vectors=True)
        assert not found.vector


class TestReads:
    """Reads of points without a search."""

    def test_scroll_by_key_in_pages(self, qdrant: Qdrant) -> None:
        """Pages of a filtered scroll have each matching point once, in the order of ids."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(i, key="ab"[i % 2]) for i in range(50)])
        seen, offset = [], None
        while True:
            page, offset = qdrant.client.scroll(
                name, scroll_filter=where("key", "a"), limit=7, offset=offset
            )
            seen += [one.id for one in page]
            if offset is None:
                break
        assert seen == list(range(0, 50, 2))

    def test_scroll_in_the_order_of_a_field(self, qdrant: Qdrant) -> None:
        """An indexed number orders a scroll, in both directions."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(i, version=100 - i) for i in range(1, 5)])
        order = models.OrderBy(key="version", direction=models.Direction.DESC)
        page, _ = qdrant.client.scroll(name, limit=2, order_by=order)
        assert [one.id for one in page] == [1, 2]
        page, _ = qdrant.client.scroll(name, limit=2, order_by="version")
        assert [one.id for one in page] == [4, 3]

    @pytest.mark.parametrize("indexed", [False, True])
    def test_truth_values_match(self, qdrant: Qdrant, indexed: bool) -> None:
        """A truth value matches itself, is no integer, and its absence is empty."""
        name = qdrant.documents()
        if indexed:
            qdrant.client.create_payload_index(name, "gone", field_schema="bool", wait=True)
        points = [({"gone": True}, 1), ({"gone": False}, 2), ({}, 3), ({"gone": 1}, 4)]
        qdrant.client.upsert(
            name, [models.PointStruct(id=i, vector={}, payload=p) for p, i in points]
        )
        for value, expected in ((True, [1]), (False, [2]), (1, [4])):
            match = models.FieldCondition(key="gone", match=models.MatchValue(value=value))
            found, _ = qdrant.client.scroll(name, scroll_filter=models.Filter(must=[match]))
            assert [record.id for record in found] == expected

    def test_count_and_facet(self, qdrant: Qdrant) -> None:
        """count obeys its filter; facet counts the points of each value."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(i, key="ab"[i > 6]) for i in range(10)])
        assert qdrant.client.count(name).count == 10
        assert qdrant.client.count(name, where("key", "b")).count == 3
        hits = qdrant.client.facet(name, "key", exact=True).hits
        assert {hit.value: hit.count for hit in hits} == {"a": 7, "b": 3}

    def test_retrieve_leaves_out_what_is_missing(self, qdrant: Qdrant) -> None:
        """retrieve gives the stored points, with the payload fields asked for."""
        name = qdrant.documents()
        qdrant.client.upsert(name, [point(1, key="a", version=1)])
        found = qdrant.client.retrieve(name, [1, 2], with_payload=["version"])
        assert [(one.id, one.payload) for one in found] == [(1, {"version": 1})]


class TestSearch:
    """Queries by vector."""

    def fill(self, qdrant: Qdrant) -> str:
        """Four chunks of two documents."""
        name = qdrant.chunks()
        vectors = {1: [1.0, 0.0], 2: [0.8, 0.6], 3: [0.0, 1.0], 4: [-1.0, 0.0]}
        words = {i: models.SparseVector(indices=[i], values=[1.0]) for i in vectors}
        qdrant.client.upsert(
            name,
            [
                point(i, vector={"text": vector, "words": words[i]}, key="ab"[i > 2])
                for i, vector in vectors.items()
            ],
        )
        return name

    def test_named_vector_with_cosine(self, qdrant: Qdrant) -> None:
        """Hits come by falling cosine, whatever the length of the query."""
        hits = qdrant.client.query_points(
            self.fill(qdrant), [10.0, 0.0], using="text", limit=4
        ).points
        assert [hit.id for hit in hits] == [1, 2, 3, 4]
        assert [hit.score for hit in hits] == pytest.approx([1.0, 0.8, 0.0, -1.0], abs=1e-6)

    def test_filter_in_a_query(self, qdrant: Qdrant) -> None:
        """Only points that match the filter are hits."""
        hits = qdrant.client.query_points(
            self.fill(qdrant), [1.0, 0.0], using="text", query_filter=where("key", "b")
        ).points
        assert [hit.id for hit in hits] == [3, 4]

    def test_point_without_vector_is_counted_and_never_found(self, qdrant: Qdrant) -> None:
        """A point without the vector is stored and counted, and no hit of a search by it."""
        name = self.fill(qdrant)
        qdrant.client.upsert(name, [point(5, key="a")])
        assert qdrant.client.count(name).count == 5
        hits = qdrant.client.query_points(name, [1.0, 0.0], using="text", limit=9).points
        assert {hit.id for hit in hits} == {1, 2, 3, 4}

    def test_groups_by_document(self, qdrant: Qdrant) -> None:
        """Groups come by their best hit, each with its best hits."""
        groups = qdrant.client.query_points_groups(
            self.fill(qdrant),
            group_by="key",
            query=[0.0, 1.0],
            using="text",
            limit=2,
            group_size=1,
            with_payload=True,
        ).groups
        assert [(group.id, [hit.id for hit in group.hits]) for group in groups] == [
            ("b", [3]),
            ("a", [2]),
        ]

    def test_hybrid_by_reciprocal_rank(self, qdrant: Qdrant) -> None:
        """RRF scores a point by the sum of 1 / (k + rank) over the searches that found it."""
        dense = models.Prefetch(query=[1.0, 0.0], using="text", limit=2)
        sparse = models.SparseVector(indices=[2], values=[1.0])
        hits = qdrant.client.query_points(
            self.fill(qdrant),
            prefetch=[dense, models.Prefetch(query=sparse, using="words", limit=2)],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
        ).points
        assert [hit.id for hit in hits] == [2, 1]
        assert [hit.score for hit in hits] == pytest.approx([1 / 3 + 1 / 2, 1 / 2], abs=1e-4)

    def test_batch_of_queries(self, qdrant: Qdrant) -> None:
        """A batch gives the hits of each query in the order of the queries."""
        queries = [
            models.QueryRequest(query=vector, using="text", limit=1)
            for vector in ([0.0, 1.0], [-1.0, 0.0])
        ]
        answers = qdrant.client.query_batch_points(self.fill(qdrant), queries)
        assert [answer.points[0].id for answer in answers] == [3, 4]


class TestCollections:
    """Collections, aliases and what is told of them."""

    def test_alias_is_switched_in_one_request(self, qdrant: Qdrant) -> None:
        """One request deletes an alias and makes it anew; reads and writes go through it."""
        old, new, alias = qdrant.documents(), qdrant.documents(), qdrant.name()
        create = models.CreateAlias(collection_name=old, alias_name=alias)
        qdrant.client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
        qdrant.client.upsert(alias, [point(1, key="old")])
        create = models.CreateAlias(collection_name=new, alias_name=alias)
        qdrant.client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
                models.CreateAliasOperation(create_alias=create),
            ]
        )
        assert qdrant.client.count(alias).count == 0
        assert qdrant.client.count(old).count == 1
        (found,) = qdrant.client.get_collection_aliases(new).aliases
        assert (found.alias_name, found.collection_name) == (alias, new)
        assert found in qdrant.client.get_aliases().aliases

    def test_alias_is_renamed_and_goes_with_its_collection(self, qdrant: Qdrant) -> None:
        """A renamed alias stands for the same collection, and is gone when that is deleted."""
        name, before, after = qdrant.documents(), qdrant.name(), qdrant.name()
        create = models.CreateAlias(collection_name=name, alias_name=before)
        rename = models.RenameAlias(old_alias_name=before, new_alias_name=after)
        qdrant.client.update_collection_aliases(
            [
                models.CreateAliasOperation(create_alias=create),
                models.RenameAliasOperation(rename_alias=rename),
            ]
        )
        assert qdrant.client.collection_exists(after)
        assert not qdrant.client.collection_exists(before)
        qdrant.client.delete_collection(name)
        assert not qdrant.client.collection_exists(after)

    def test_description(self, qdrant: Qdrant) -> None:
        """A collection tells its vectors, its metadata and its payload indexes."""
        name = qdrant.chunks()
        qdrant.client.upsert(name, [point(1, key="a", version=1)])
        found = qdrant.client.get_collection(name)
        vectors = found.config.params.vectors
        assert isinstance(vectors, dict)
        assert (vectors["text"].size, vectors["text"].distance) == (2, models.Distance.COSINE)
        assert found.config.metadata == {"model": "none"}
        assert {key: index.data_type for key, index in found.payload_schema.items()} == {
            "key": models.PayloadSchemaType.KEYWORD,
            "version": models.PayloadSchemaType.INTEGER,
        }
        assert found.points_count == 1

    def test_metadata_is_merged_and_indexes_are_dropped(self, qdrant: Qdrant) -> None:
        """An update merges metadata; a deleted payload index is no longer listed."""
        name = qdrant.chunks()
        qdrant.client.update_collection(name, metadata={"pipeline": "2"})
        qdrant.client.delete_payload_index(name, "version")
        found = qdrant.client.get_collection(name)
        assert found.config.metadata == {"model": "none", "pipeline": "2"}
        assert set(found.payload_schema) == {"key"}

    def test_names_are_listed_and_gone_when_deleted(self, qdrant: Qdrant) -> None:
        """Collections are listed, exist, and do neither once deleted."""
        name = qdrant.documents()
        assert name in {one.name for one in qdrant.client.get_collections().collections}
        assert qdrant.client.delete_collection(name)
        assert not qdrant.client.collection_exists(name)


class TestErrors:
    """Errors come with the status that tells who has to act."""

    def status(self, error: pytest.ExceptionInfo[UnexpectedResponse]) -> tuple[int | None, str]:
        """The HTTP status and the sentence in Qdrant's frame."""
        return error.value.status_code, error.value.structured()["status"]["error"]

    def test_missing_collection(self, qdrant: Qdrant) -> None:
        """A collection that does not exist is 404 for reads and writes, and named."""
        name = qdrant.name()
        for call in (
            lambda: qdrant.client.count(name),
            lambda: qdrant.client.upsert(name, [point(1)]),
            lambda: qdrant.client.get_collection(name),
        ):
            with pytest.raises(UnexpectedResponse) as error:
                call()
            assert self.status(error) == (404, f"Not found: Collection `{name}` doesn't exist!")

    def test_wrong_vectors_change_nothing(self, qdrant: Qdrant) -> None:
        """A wrong size or name of a vector is 400, and no point of the request is written."""
        name = qdrant.chunks()
        for vector in ({"text": [1.0]}, {"other": [1.0, 0.0]}):
            with pytest.raises(UnexpectedResponse) as error:
                qdrant.client.upsert(name, [point(1), point(2, vector=vector)])
            assert self.status(error)[0] == 400
        assert qdrant.client.count(name).count == 0

    def test_wrong_id(self, qdrant: Qdrant) -> None:
        """An id that is neither an unsigned integer nor a UUID is 400."""
        with pytest.raises(UnexpectedResponse) as error:
            qdrant.client.upsert(qdrant.documents(), [point("no uuid")])
        assert self.status(error)[0] == 400

    def test_payload_of_a_missing_point(self, qdrant: Qdrant) -> None:
        """Setting the payload of a point that does not exist is 404."""
        with pytest.raises(UnexpectedResponse) as error:
            qdrant.client.set_payload(qdrant.documents(), {"key": "a"}, points=[4])
        assert self.status(error)[0] == 404

    def test_taken_name(self, qdrant: Qdrant) -> None:
        """Making a collection that exists is 409."""
        name = qdrant.documents()
        with pytest.raises(UnexpectedResponse) as error:
            qdrant.client.create_collection(name, vectors_config={})
        assert self.status(error)[0] == 409

    def test_wrong_alias_action_changes_no_alias(self, qdrant: Qdrant) -> None:
        """An alias of a missing collection is 404."""
        create = models.CreateAlias(collection_name=qdrant.name(), alias_name=qdrant.name())
        with pytest.raises(UnexpectedResponse) as error:
            qdrant.client.update_collection_aliases(
                [models.CreateAliasOperation(create_alias=create)]
            )
        assert self.status(error)[0] == 404

    def test_what_is_not_served_says_so(self, qdrant: Qdrant) -> None:
        """The embedded server answers 501 to routes and fields that it leaves out."""
        if not qdrant.embedded:
            pytest.skip("a server serves these")
        name = qdrant.chunks()
        for call in (
            lambda: qdrant.client.create_snapshot(name),
            lambda: qdrant.client.count(name, shard_key_selector="a"),
            lambda: qdrant.client.create_collection(qdrant.name(), shard_number=3),
        ):
            with pytest.raises(UnexpectedResponse) as error:
                call()
            assert self.status(error)[0] == 501
            assert self.status(error)[1].startswith("Not served: ")
