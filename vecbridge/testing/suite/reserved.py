"""The reserved fields: columns as any other for the store, and seen by nobody who does not ask."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import pytest

from vecbridge import reserved
from vecbridge.errors import SchemaError
from vecbridge.filters import field
from vecbridge.names import DIGEST, RESERVED, SOURCE
from vecbridge.registry import connect
from vecbridge.store import Collection, Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import ids_of, points, query, read
from vecbridge.testing.maker import Maker, undeclared

SOURCES = {
    "a": "/photos//2019/a.jpg",
    "b": "/photos//2019/o'b\\\"é 1.jpg",
    "c": "/photos 2//c.jpg",
    "d": None,
}


def rows() -> list[dict[str, object]]:
    """Four rows, of which the last says nothing of its source."""
    return [
        {"id": id, "vector": vector, "title": id.upper(), SOURCE: source, DIGEST: source and f"5 1 {id}"}
        for (id, source), vector in zip(SOURCES.items(), points(4).tolist(), strict=True)
    ]


def filled(make: Maker) -> Collection:
    """A collection with the reserved fields, and the rows."""
    spec = reserved.tracking(make.spec(fields={"title": "string"}))
    photos = make.create(spec)
    assert photos.upsert(rows()).written == 4
    photos.flush()
    return photos


class TestReservedFields:
    """``_vb_source`` and ``_vb_digest``."""

    def test_nobody_sees_them_who_does_not_ask(self, store: Store, make: Maker) -> None:
        photos = filled(make)
        for collection in (photos, store.open(photos.spec.name)):
            assert collection.spec.column_names == ("id", "vector", "title")
            assert collection.stored_spec.column_names == ("id", "vector", "title", *RESERVED)
            assert {tuple(row) for row in read(collection).values()} == {("id", "vector", "title")}
            assert collection.fetch(["a"]).schema.names == ["id", "vector", "title"]
            [hits] = collection.search(query(points(1), k=1, include="all"))
            assert hits.records is not None
            assert hits.records.schema.names == ["id", "vector", "title"]
            found = {id: row[SOURCE] for id, row in read(collection, [SOURCE]).items()}
            assert found == SOURCES

    def test_they_are_there_in_another_connection(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker
    ) -> None:
        name = filled(make).spec.name
        store.close()
        with connect(store_url, **store_case.options) as again, again.open(name) as photos:
            assert reserved.is_tracking(photos.stored_spec)
            [row] = photos.fetch(["b"], include=RESERVED).to_pylist()
            assert row == {"id": "b", SOURCE: SOURCES["b"], DIGEST: "5 1 b"}

    def test_filters_reach_them(self, store: Store, make: Maker) -> None:
        photos = filled(make)
        assert ids_of(photos, field(SOURCE).is_null()) == {"d"}
        assert ids_of(photos, field(SOURCE).isin([SOURCES["a"], SOURCES["b"]])) == {"a", "b"}
        below = (field(SOURCE) >= "/photos/") & (field(SOURCE) < "/photos0")
        if "string" not in store.capabilities.ordered_types:
            undeclared("the order of texts", lambda: ids_of(photos, below))
        assert ids_of(photos, below) == {"a", "b"}

    def test_a_row_written_without_them_has_none_and_an_update_keeps_them(self, make: Maker) -> None:
        photos = filled(make)
        photos.upsert([{"id": "a", "vector": [1.0, 0.0, 0.0, 0.0], "title": "new"}])
        photos.update([{"id": "b", "title": "new"}])
        photos.update([{"id": "c", DIGEST: "6 2 c"}])
        photos.flush()
        found = {row["id"]: row for row in read(photos, ["title", *RESERVED]).values()}
        assert found["a"] == {"id": "a", "title": "new", SOURCE: None, DIGEST: None}
        assert found["b"] == {"id": "b", "title": "new", SOURCE: SOURCES["b"], DIGEST: "5 1 b"}
        assert found["c"] == {"id": "c", "title": "C", SOURCE: SOURCES["c"], DIGEST: "6 2 c"}

    def test_a_collection_gets_them_later_and_grows_on(self, store: Store, make: Maker) -> None:
        photos = make(fields={"title": "string"})
        photos.upsert([{"id": "old", "vector": [1.0, 0.0, 0.0, 0.0], "title": "old"}])
        if not store.capabilities.adds_fields:
            undeclared("adding fields", lambda: photos.add_fields(reserved.FIELDS))
        photos.add_fields(reserved.FIELDS)
        photos.add_fields({"year": "int64"})
        photos.upsert([{"id": "new", "vector": [0.0, 1.0, 0.0, 0.0], "year": 7, SOURCE: "/x//y"}])
        photos.flush()
        for collection in (photos, store.open(photos.spec.name)):
            assert collection.spec.column_names == ("id", "vector", "title", "year")
            found = read(collection, ["year", *RESERVED])
            assert found["old"] == {"id": "old", "year": None, SOURCE: None, DIGEST: None}
            assert found["new"] == {"id": "new", "year": 7, SOURCE: "/x//y", DIGEST: None}

    def test_a_spec_without_them_opens_the_collection_and_one_with_them_needs_them(
        self, store: Store, make: Maker
    ) -> None:
        photos = filled(make)
        assert store.create(photos.spec, if_exists="open").stored_spec == photos.stored_spec
        plain = make(fields={"title": "string"})
        with pytest.raises(SchemaError, match=SOURCE):
            store.create(reserved.tracking(plain.spec), if_exists="open")
