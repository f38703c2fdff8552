"""Adding fields to collections that hold records."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from typing import Any

import pytest

from vecbridge.errors import ConfigError, NotFoundError, SchemaError
from vecbridge.filters import field
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Collection, Store
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import FIELDS, assert_deleted, ids_of, points, put, query
from vecbridge.testing.elsewhere import run_elsewhere
from vecbridge.testing.inside import forget_last_look
from vecbridge.testing.maker import Maker, undeclared

VALUES: dict[str, Any] = {
    "flag": True, "year": 2**53 + 1, "price": 2.5, "title": "A", "taken": "2020-05-17T12:00:00Z", "tags": [],
    "sizes": [2**53 + 1], "ratios": [0.5], "extra": '{"a":1}',
}  # fmt: skip


class TestGrowing:
    """add_fields(), and create(grow=True)."""

    @pytest.fixture
    def photos(self, store: Store, make: Maker) -> Collection:
        """Two rows of one field."""
        collection = make(fields={"first": "string"})
        put(collection, id=["a", "b"], vector=points(2), first=["A", None])
        if not store.capabilities.adds_fields:
            undeclared("adding fields", lambda: collection.add_fields({"year": "int64"}))
        return collection

    def test_what_is_there_is_null_in_the_new_fields_and_what_comes_is_kept(
        self, store: Store, photos: Collection
    ) -> None:
        kept = store.capabilities.field_types
        fields = {name: type for name, type in FIELDS.items() if type in kept}
        photos.add_fields(fields)
        assert photos.spec.column_names == ("id", "vector", "first", *fields)
        new = {name: [VALUES[name]] for name in fields}
        put(photos, id=["c"], vector=points(1, seed=5), first=["C"], **new)
        for collection in (photos, store.open(photos.spec.name)):
            assert collection.spec == photos.spec
            old = collection.fetch(["a", "b"]).to_pylist()
            assert [row["first"] for row in old] == ["A", None]
            assert {row[name] for row in old for name in fields} == {None}
            [row] = collection.fetch(["c"]).to_pylist()
            assert (row["year"], row["sizes"], row["tags"]) == (2**53 + 1, [2**53 + 1], [])
            for name in fields:
                assert ids_of(collection, field(name).is_null()) == {"a", "b"}, name
                assert ids_of(collection, ~field(name).is_null()) == {"c"}, name
            assert collection.count(field("year") > 5) == 1
            assert ids_of(collection, (field("first") == "A") & field("year").is_null()) == {"a"}
            [hits] = collection.search(query(points(1), k=3, filter=field("year").differs(5)))
            assert set(hits.ids) == {"a", "b", "c"}

    def test_an_old_handle_reads_on_and_does_not_write(self, store: Store, photos: Collection) -> None:
        old = store.open(photos.spec.name)
        pages = old.scan(include="all", batch_rows=1)
        first = next(pages)
        photos.add_fields({"year": "int64"})
        assert {first.batch["id"][0].as_py(), *(page.batch["id"][0].as_py() for page in pages)} == {"a", "b"}
        assert ids_of(old) == {"a", "b"}
        assert old.fetch(["a"]).schema.names == ["id", "vector", "first"]
        [hits] = old.search(query(points(1), k=2, include="all"))
        assert len(hits) == 2
        for write in (
            lambda: put(old, id=["a"]),
            lambda: old.upsert([{"id": "a", "vector": [1.0] * 4}], on_conflict="skip"),
            lambda: old.update([{"id": "a", "first": "x"}]),
        ):
            forget_last_look(old)  # where writes rely on it for some seconds
            with pytest.raises(SchemaError, match=r"fields were added .* open it again"):
                write()
        assert photos.fetch(["a"]).to_pylist()[0]["first"] == "A"
        assert_deleted(old, old.delete(["a"]), 1)

    def test_adding_again_changes_nothing_and_another_type_is_refused(
        self, store: Store, photos: Collection
    ) -> None:
        other = store.open(photos.spec.name)
        photos.add_fields({"year": "int64"})
        photos.add_fields([Field("year", "int64"), Field("title", "string")])
        other.add_fields({"title": "string"})
        assert other.spec == photos.spec
        assert [each.name for each in other.spec.fields] == ["first", "year", "title"]
        put(other, id=["c"], year=[1], title=["x"])
        for wrong in (
            {"year": "string"},
            {"Year": "int64"},
            {"vector": "int64"},
            {"no name": "int64"},
            {"x": "int"},
        ):
            with pytest.raises(SchemaError):
                photos.add_fields(wrong)
        assert store.open(photos.spec.name).spec == photos.spec

    def test_another_process_sees_the_fields_and_adds_some(
        self, store_case: StoreCase, store_url: str, store: Store, photos: Collection
    ) -> None:
        photos.add_fields({"year": "int64"})
        store.close()
        code = """
with vb.open(url, **options) as photos:
    photos.add_fields({"title": "string"})
    photos.upsert([{"id": "c", "vector": [1, 0, 0, 0], "year": 7, "title": "C"}])
    photos.flush()
"""
        done = run_elsewhere(code, store_case, url=f"{store_url}#{photos.spec.name}")
        assert done.returncode == 0, done.stderr
        with connect(store_url, **store_case.options) as again:
            mine = again.open(photos.spec.name)
            assert mine.spec.column_names == ("id", "vector", "first", "year", "title")
            found = mine.fetch(["b", "c"], include=["year", "title"]).to_pylist()
            assert found == [{"id": "b", "year": None, "title": None}, {"id": "c", "year": 7, "title": "C"}]

    def test_create_adds_what_is_missing_where_it_may_grow(self, store: Store, photos: Collection) -> None:
        def spec(**fields: Any) -> CollectionSpec:
            return CollectionSpec.single(photos.spec.name, dim=4, fields=fields)

        grown = store.create(spec(year="int64"), if_exists="open", grow=True)
        assert grown.spec.column_names == ("id", "vector", "first", "year")
        same = store.create(spec(first="string"), if_exists="open", grow=True)
        assert same.spec == grown.spec
        with pytest.raises(SchemaError, match="year"):
            store.create(spec(year="string"), if_exists="open", grow=True)
        with pytest.raises(SchemaError):
            store.create(spec(year="int64"), if_exists="open")
        with pytest.raises(ConfigError, match="grow"):
            store.create(spec(year="int64"), if_exists="replace", grow=True)
        assert ids_of(grown) == {"a", "b"}

    def test_a_collection_that_is_gone_does_not_grow(self, store: Store, photos: Collection) -> None:
        store.drop(photos.spec.name)
        with pytest.raises(NotFoundError):
            photos.add_fields({"year": "int64"})
        assert photos.spec.name not in store.collections()
