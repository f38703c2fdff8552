"""Collections that another program made: opened under their own names, and never guessed about."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.stores.weaviate.helpers import foreign, fresh, rest, scanned
from vecbridge import records
from vecbridge.errors import (
    CollectionExistsError,
    InvalidRecordError,
    NotFoundError,
    SchemaError,
    UnsupportedError,
)
from vecbridge.filters import field
from vecbridge.indexes import HNSW, Flat, Other
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.store import Store

KEYS = [str(uuid.UUID(int=number << 64)) for number in (1, 2, 3)]


def described(**more: Any) -> dict[str, Any]:
    """A class with one unnamed vector, as most were made before there were named ones."""
    return {
        "class": fresh("Book"),
        "vectorizer": "none",
        "vectorIndexConfig": {"distance": "l2-squared", "skipDefaultQuantization": True},
        "invertedIndexConfig": {"indexNullState": True},
        "properties": [
            {"name": "title", "dataType": ["text"], "tokenization": "field"},
            {"name": "body", "dataType": ["text"], "tokenization": "word"},
            {"name": "pages", "dataType": ["int"]},
            {"name": "price", "dataType": ["number"]},
            {"name": "sold", "dataType": ["boolean"]},
            {"name": "tags", "dataType": ["text[]"], "tokenization": "field"},
        ],
    } | more


ROWS = [
    {
        "id": KEYS[0],
        "vector": [1.0, 0.0, 0.0],
        "properties": {
            "title": " Emma ", "body": "a b", "pages": 400, "price": 2.5, "sold": True, "tags": ["x", "y"]
        },
    },
    {"id": KEYS[1], "vector": [0.0, 1.0, 0.0], "properties": {"title": "Persuasion", "pages": 200}},
    {"id": KEYS[2], "vector": [0.0, 0.0, 1.0], "properties": {}},
]  # fmt: skip


def test_a_foreign_class_opens_under_its_name_with_its_uuids_and_values(store: Store) -> None:
    with foreign(store, described(), ROWS) as name:
        assert name in store.collections()
        collection = store.open(name)
        spec = collection.spec
        assert (spec.name, spec.id_type, spec.namespaced) == (name, "string", False)
        assert (spec.vector.name, spec.vector.dim, spec.vector.metric) == ("vector", 3, Metric.L2)
        assert isinstance(spec.vector.index, HNSW)
        assert {each.name: each.type for each in spec.fields} == {
            "title": "string",
            "body": "string",
            "pages": "int64",
            "price": "float64",
            "sold": "bool",
            "tags": "list<string>",
        }
        assert collection.losses == ()
        assert scanned(collection) == KEYS
        [first, _, empty] = collection.fetch(KEYS).to_pylist()
        assert first == {"id": KEYS[0], "vector": [1, 0, 0], **ROWS[0]["properties"]}
        assert {empty[each.name] for each in spec.fields} == {None}
        [hits] = collection.search(Query([0, 0.9, 0], k=1, include=["pages"]))
        assert [hit.record for hit in hits] == [{"id": KEYS[1], "pages": 200}]
        assert collection.count(field("pages") >= 300) == 1
        assert collection.count(~field("pages").isin([400])) == 1
        assert collection.count(field("tags").contains("y")) == 1
        assert collection.count(field("title") == "Persuasion") == 1


def test_a_text_that_is_indexed_by_its_words_is_not_compared(store: Store) -> None:
    with foreign(store, described(), ROWS) as name, pytest.raises(UnsupportedError, match="tokenization"):
        store.open(name).count(field("body") == "a")


def test_null_is_not_asked_for_where_the_class_cannot_tell(store: Store) -> None:
    with foreign(store, described(invertedIndexConfig={}), ROWS) as name:
        collection = store.open(name)
        assert collection.count(field("pages") == 400) == 1
        for condition in (field("pages").is_null(), field("pages") != 400, ~field("tags").contains("x")):
            with pytest.raises(UnsupportedError, match="indexNullState"):
                collection.count(condition)


def test_a_foreign_class_is_written_to_under_uuids_alone(store: Store) -> None:
    with foreign(store, described(), ROWS) as name:
        collection = store.open(name)
        new = str(uuid.UUID(int=9))
        for bad in ("nine", new.upper().replace("0", "A"), f"{{{new}}}"):
            with pytest.raises(InvalidRecordError, match="UUID"):
                collection.upsert(records.batch(collection.spec, id=[bad], vector=[[1, 1, 1]]))
        with pytest.raises(InvalidRecordError, match=r"2\^53"):
            collection.upsert(records.batch(collection.spec, id=[new], vector=[[1, 1, 1]], pages=[2**53 + 1]))
        batch = records.batch(collection.spec, id=[new], vector=[[1, 1, 1]], pages=[7], tags=[["q"]])
        assert collection.upsert(batch).written == 1
        assert collection.fetch([new]).equals(batch)
        assert collection.fetch(["nine"]).num_rows == 0
        assert collection.delete(["nine", new]) == 1


def test_what_has_no_type_here_is_a_named_loss_and_makes_it_read_only(store: Store) -> None:
    properties = [
        {"name": "when", "dataType": ["date[]"]},
        {"name": "ids", "dataType": ["uuid[]"]},
        {"name": "vector", "dataType": ["text"]},
    ]
    with foreign(store, described(properties=properties), ROWS[2:]) as name:
        collection = store.open(name)
        assert [each.kind for each in collection.losses] == ["field:when", "field:ids"]
        assert [each.name for each in collection.spec.fields] == ["field_vector"]
        with pytest.raises(UnsupportedError, match="when"):
            collection.upsert(records.batch(collection.spec, id=[KEYS[0]], vector=[[1, 1, 1]]))


def test_dates_and_lists_of_numbers_are_read_filtered_and_written(store: Store) -> None:
    properties = [
        {"name": "when", "dataType": ["date"]},
        {"name": "sizes", "dataType": ["int[]"]},
        {"name": "prices", "dataType": ["number[]"]},
    ]
    values: list[dict[str, Any]] = [
        {"when": "2020-05-17T14:00:00.0000019+02:00", "sizes": [1, -(2**53)], "prices": [0.1, 5e-324]},
        {"when": "1969-12-31T23:59:59.999999Z", "sizes": [], "prices": [2]},
        {},
    ]
    rows = [row | {"properties": value} for row, value in zip(ROWS, values, strict=True)]
    with foreign(store, described(properties=properties), rows) as name:
        collection = store.open(name)
        assert {each.name: each.type for each in collection.spec.fields} == {
            "when": "timestamp",
            "sizes": "list<int64>",
            "prices": "list<float64>",
        }
        assert [each.kind for each in collection.losses] == ["field:when"]
        first, second, third = collection.fetch(KEYS, include=["when", "sizes", "prices"]).to_pylist()
        noon = datetime(2020, 5, 17, 12, 0, 0, 1, tzinfo=UTC)
        assert first == {"id": KEYS[0], "when": noon, "sizes": [1, -(2**53)], "prices": [0.1, 5e-324]}
        assert second == {
            "id": KEYS[1], "when": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "sizes": [],
            "prices": [2.0],
        }  # fmt: skip
        assert set(third.values()) == {KEYS[2], None}
        when, sizes, prices = field("when"), field("sizes"), field("prices")
        assert scanned(collection, filter=when > datetime(1970, 1, 1, tzinfo=UTC)) == KEYS[:1]
        assert scanned(collection, filter=when == second["when"]) == KEYS[1:2]
        assert scanned(collection, filter=when != second["when"]) == KEYS[:1]
        assert scanned(collection, filter=when.isin([second["when"]])) == KEYS[1:2]
        assert scanned(collection, filter=~when.isin([second["when"]])) == KEYS[:1]
        assert scanned(collection, filter=when.is_null()) == KEYS[2:]
        assert scanned(collection, filter=when == "2300-01-01T00:00:00Z") == []
        with pytest.raises(UnsupportedError, match="2261"):
            collection.count(when < "2300-01-01T00:00:00Z")
        assert scanned(collection, filter=sizes.contains(1)) == KEYS[:1]
        assert scanned(collection, filter=prices.contains(5e-324)) == KEYS[:1]
        assert scanned(collection, filter=~prices.contains(0.1)) == KEYS[1:2]
        assert scanned(collection, filter=~sizes.is_empty()) == KEYS[:1]
        with pytest.raises(UnsupportedError, match="empty"):
            collection.count(sizes.is_empty())
        new = str(uuid.UUID(int=9))
        with pytest.raises(InvalidRecordError, match=r"2\^53"):
            collection.upsert(
                records.batch(collection.spec, id=[new], vector=[[1, 1, 1]], sizes=[[1, 2**53 + 1]])
            )
        batch = records.batch(
            collection.spec, id=[new, KEYS[0]], vector=[[1, 1, 1], [2, 2, 2]], when=[noon, None],
            sizes=[[7], []], prices=[None, [0.5]],
        )  # fmt: skip
        assert collection.upsert(batch).written == 2
        assert collection.fetch([new, KEYS[0]]).equals(batch)
        assert scanned(collection, filter=when == noon) == [new]


def test_a_date_of_no_year_that_there_is_here_is_null(genuine_store: Store) -> None:
    properties = [{"name": "when", "dataType": ["date"]}]
    rows = [ROWS[0] | {"properties": {"when": "0000-12-31T00:00:00Z"}}]
    with foreign(genuine_store, described(properties=properties), rows) as name:
        assert genuine_store.open(name).fetch(KEYS)["when"].to_pylist() == [None]


def test_a_property_that_was_added_later_is_null_in_the_objects_before(store: Store) -> None:
    with foreign(store, described(), ROWS) as name:
        rest(store, "POST", f"/v1/schema/{name}/properties", {"name": "late", "dataType": ["int"]})
        collection = store.open(name)
        collection.upsert(records.batch(collection.spec, id=[KEYS[0]], vector=[[1, 1, 1]], late=[3]))
        assert scanned(collection, filter=field("late").is_null()) == KEYS[1:]
        assert scanned(collection, filter=~field("late").is_null()) == KEYS[:1]


def test_ids_are_compared_as_texts_also_with_what_is_no_uuid(store: Store) -> None:
    with foreign(store, described(), ROWS) as name:
        collection = store.open(name)
        key, one = field("id"), KEYS[0]
        assert scanned(collection, filter=key == one) == [one]
        assert scanned(collection, filter=key != one) == KEYS[1:]
        assert scanned(collection, filter=key.isin([one, "nine"])) == [one]
        assert scanned(collection, filter=~key.isin([one, "nine"])) == KEYS[1:]
        for other in ("nine", one.replace("-", ""), f"{{{one}}}", ""):
            assert scanned(collection, filter=key == other) == []
            assert scanned(collection, filter=key != other) == KEYS
            assert scanned(collection, filter=~key.isin([other]) & (field("pages") > 300)) == [one]
        with pytest.raises(UnsupportedError, match="on the id"):
            collection.count(key < one)


def test_named_vectors_indexes_and_metrics_are_read(store: Store) -> None:
    config = {
        "a": {
            "vectorizer": {"none": {}},
            "vectorIndexType": "flat",
            "vectorIndexConfig": {"distance": "dot"},
        },
        "b": {
            "vectorizer": {"none": {}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {
                "distance": "cosine",
                "ef": 77,
                "maxConnections": 9,
                "rq": {"enabled": True},
            },
        },
        "c": {
            "vectorizer": {"none": {}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "manhattan"},
        },
        "d": {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw", "vectorIndexConfig": {}},
    }
    made = described(vectorConfig=config)
    for each in ("vectorizer", "vectorIndexConfig"):
        del made[each]
    row = {"id": KEYS[0], "vectors": {"a": [1, 2], "b": [1, 2, 3], "c": [1]}, "properties": {}}
    with foreign(store, made, [row]) as name:
        collection = store.open(name)
        found = {each.name: (each.dim, each.metric, each.index) for each in collection.spec.vectors}
        assert found.keys() == {"a", "b"}
        assert found["a"][:2] == (2, Metric.DOT)
        assert isinstance(found["a"][2], Flat | Other)
        index = found["b"][2]
        assert isinstance(index, HNSW)
        assert (index.m, index.ef, index.quantizer) == (9, 77, "rq")
        assert [each.kind for each in collection.losses] == ["vector:c", "vector:d"]
        [hits] = collection.search(Query([1, 2], using="a"))
        np.testing.assert_allclose(hits.scores, [5])


def test_an_empty_foreign_class_does_not_say_how_long_its_vectors_are(store: Store) -> None:
    with foreign(store, described(), []) as name, pytest.raises(SchemaError, match="does not say how long"):
        store.open(name)


def test_tenants_of_a_foreign_class_are_its_namespaces(store: Store) -> None:
    tenants = {"enabled": True, "autoTenantCreation": True}
    rows = [row | {"tenant": tenant} for row, tenant in zip(ROWS, ("eu", "eu", "_"), strict=True)]
    with foreign(store, described(multiTenancyConfig=tenants), rows) as name:
        assert store.namespaces(name) == ["_", "eu"]
        assert store.open(name).count() == 0
        assert scanned(store.open(name, namespace="eu")) == KEYS[:2]
        assert scanned(store.open(name, namespace="_")) == KEYS[2:]


def test_a_name_that_a_foreign_class_has_taken_is_an_error_and_touches_nothing(store: Store) -> None:
    with foreign(store, described(), ROWS) as name:
        own = name[0].lower() + name[1:]
        spec = CollectionSpec.single(own, dim=3)
        with pytest.raises(CollectionExistsError):
            store.create(spec)
        with pytest.raises(NotFoundError, match=name):
            store.open(own)
        for if_exists in ("open", "replace"):
            with pytest.raises(CollectionExistsError):
                store.create(spec, if_exists=if_exists)  # type: ignore[arg-type]
        assert scanned(store.open(name)) == KEYS


def test_an_object_without_a_vector_is_named_and_ends_no_scan(store: Store) -> None:
    bare = [{"id": KEYS[0], "properties": {"pages": 1}}, *ROWS[1:]]
    with foreign(store, described(), bare) as name:
        collection = store.open(name)
        assert collection.spec.vector.dim == 3
        with pytest.raises(InvalidRecordError, match=f"{KEYS[0]}.*row:no_vector.*unfit="):
            list(collection.scan())
        named: dict[Any, Any] = {}
        pages = list(collection.scan(batch_rows=1, unfit=named.__setitem__))
        assert {key: reason.kind for key, reason in named.items()} == {KEYS[0]: "row:no_vector"}
        assert [key for page in pages for key in page.batch["id"].to_pylist()] == KEYS[1:]
        assert scanned(collection) == KEYS
        assert collection.count() == 3
        with pytest.raises(InvalidRecordError, match=KEYS[0]):
            collection.fetch(KEYS)
        assert collection.fetch(KEYS, include=["pages"])["pages"].to_pylist() == [1, 200, None]
        [hits] = collection.search(Query([1, 1, 1], k=3))
        assert sorted(hits.ids) == KEYS[1:]
        assert collection.distinct("pages") == [1, 200]
        assert collection.delete(filter=field("pages") == 1) == 1
        assert scanned(collection) == KEYS[1:]


def test_rows_behind_objects_without_a_vector_are_read_from_their_cursors(store: Store) -> None:
    keys = [str(uuid.UUID(int=number << 60)) for number in range(1, 9)]
    some: list[dict[str, Any]] = [
        {"id": key, "properties": {}} | ({"vector": [1.0, 2.0, 3.0]} if row in (3, 6) else {})
        for row, key in enumerate(keys)
    ]
    with foreign(store, described(), some) as name:
        collection = store.open(name)
        named: list[Any] = []
        found, cursor = [], None
        while True:
            pages = collection.scan(batch_rows=2, cursor=cursor, unfit=lambda key, _: named.append(key))
            if (page := next(pages, None)) is None:
                break
            found += page.batch["id"].to_pylist()
            cursor = page.cursor
        assert found == [keys[3], keys[6]]
        assert sorted(named) == sorted(set(keys) - set(found))


def test_an_object_without_one_of_its_named_vectors_is_named_where_that_is_read(store: Store) -> None:
    config = {
        name: {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw", "vectorIndexConfig": {}}
        for name in ("a", "b")
    }
    made = described(vectorConfig=config)
    for each in ("vectorizer", "vectorIndexConfig"):
        del made[each]
    some = [
        {"id": KEYS[0], "vectors": {"a": [1, 2]}, "properties": {}},
        {"id": KEYS[1], "vectors": {"a": [2, 1], "b": [1, 2, 3]}, "properties": {}},
    ]
    with foreign(store, made, some) as name:
        collection = store.open(name)
        assert {each.name: each.dim for each in collection.spec.vectors} == {"a": 2, "b": 3}
        named: dict[Any, Any] = {}
        pages = list(collection.scan(unfit=named.__setitem__))
        assert [key for page in pages for key in page.batch["id"].to_pylist()] == KEYS[1:2]
        assert {key: str(reason) for key, reason in named.items()} == {
            KEYS[0]: "row:no_vector: it has no vector 'b'"
        }
        assert collection.fetch(KEYS[:1], include=["a"])["a"].to_pylist() == [[1, 2]]
        with pytest.raises(InvalidRecordError, match=f"{KEYS[0]}.*'b'"):
            collection.search(Query([1, 2], using="a", include=["b"]))


def test_a_tenant_whose_vectors_have_another_length_is_named_row_by_row(store: Store) -> None:
    tenants = {"enabled": True, "autoTenantCreation": True}
    other = {"id": KEYS[1], "vector": [1.0, 2.0], "properties": {}, "tenant": "us"}
    with foreign(store, described(multiTenancyConfig=tenants), [ROWS[0] | {"tenant": "eu"}, other]) as name:
        named: dict[Any, Any] = {}
        assert [
            page.batch.num_rows for page in store.open(name, namespace="us").scan(unfit=named.__setitem__)
        ] == [0]
        assert {key: str(reason) for key, reason in named.items()} == {
            KEYS[1]: "row:no_vector: its vector 'vector' has 2 dimensions, not 3"
        }


def test_the_object_of_the_first_uuid_that_there_is_is_scanned(store: Store) -> None:
    first = {"id": str(uuid.UUID(int=0)), "vector": [1.0, 1.0, 1.0], "properties": {"pages": 3}}
    with foreign(store, described(), [*ROWS, first]) as name:
        collection = store.open(name)
        assert scanned(collection) == [first["id"], *KEYS]
        assert scanned(collection, batch_rows=1) == [first["id"], *KEYS]
        assert scanned(collection, limit=1) == [first["id"]]
        assert scanned(collection, limit=2) == [first["id"], KEYS[0]]
        assert scanned(collection, filter=field("pages") < 500) == [first["id"], *KEYS[:2]]
        starts = collection.split(3)
        assert sorted(key for start in starts for key in scanned(collection, cursor=start)) == [
            first["id"],
            *KEYS,
        ]
        page = next(collection.scan(batch_rows=1))
        assert scanned(collection, cursor=page.cursor) == KEYS
        assert collection.delete(filter=vb.everything) == 4
