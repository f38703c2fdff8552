"""Collections that another program made: opened under their own names, and never guessed about."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tests.stores.weaviate.helpers import foreign, fresh, scanned
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
        {"name": "when", "dataType": ["date"]},
        {"name": "ids", "dataType": ["uuid[]"]},
        {"name": "vector", "dataType": ["text"]},
    ]
    with foreign(store, described(properties=properties), ROWS[2:]) as name:
        collection = store.open(name)
        assert [each.kind for each in collection.losses] == ["field:when", "field:ids"]
        assert [each.name for each in collection.spec.fields] == ["field_vector"]
        with pytest.raises(UnsupportedError, match="when"):
            collection.upsert(records.batch(collection.spec, id=[KEYS[0]], vector=[[1, 1, 1]]))


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
