"""Namespaces: identity is (namespace, id)."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

import pytest

import vecbridge as vb
from vecbridge.errors import ConfigError, NotFoundError
from vecbridge.filters import field
from vecbridge.store import Store
from vecbridge.testing.checks import assert_deleted, ids_of, points, put, query, read
from vecbridge.testing.maker import Maker


class TestNamespaces:
    """One collection, several namespaces."""

    def test_the_same_id_is_another_row_in_another_namespace(self, store: Store, make: Maker) -> None:
        default = make(namespaced=True, fields={"year": "int64"})
        eu = store.open(default.spec.name, namespace="eu")
        assert (default.namespace, eu.namespace) == ("", "eu")
        put(default, id=["a", "b"], year=[1, 2])
        put(eu, id=["a", "c"], year=[10, 30])
        assert {key: row["year"] for key, row in read(default).items()} == {"a": 1, "b": 2}
        assert {key: row["year"] for key, row in read(eu).items()} == {"a": 10, "c": 30}
        assert eu.fetch(["a", "b"], include=["year"]).to_pydict() == {"id": ["a"], "year": [10]}
        assert (default.count(), eu.count(field("year") > 10), eu.status().rows) == (2, 1, 2)

    def test_a_search_stays_in_its_namespace(self, store: Store, make: Maker) -> None:
        default = make(namespaced=True, metric="l2")
        eu = store.open(default.spec.name, namespace="eu")
        near, far = points(1), points(1) + 5
        put(default, id=["near"], vector=near)
        put(eu, id=["far"], vector=far)
        [hits] = eu.search(query(near, k=10))
        assert list(hits.ids) == ["far"]

    def test_deleting_in_one_namespace_leaves_the_others(self, store: Store, make: Maker) -> None:
        default = make(namespaced=True, fields={"year": "int64"})
        eu = store.open(default.spec.name, namespace="eu")
        put(default, id=["a", "b"], year=[1, 1])
        put(eu, id=["a", "b"], year=[1, 1])
        eu.delete(["a"])
        default.delete(filter=field("year") == 1)
        eu.flush()
        default.flush()
        assert (ids_of(default), ids_of(eu)) == (set(), {"b"})

    @pytest.mark.parametrize("emptied", ["", "eu", "us"])
    def test_deleting_by_filter_in_any_namespace_leaves_the_others(
        self, store: Store, make: Maker, emptied: str
    ) -> None:
        spec = make(namespaced=True, fields={"year": "int64"}).spec
        handles = {name: store.open(spec.name, namespace=name) for name in ("", "eu", "us")}
        for handle in handles.values():
            put(handle, id=["a", "b", "c"], year=[1, 1, 2])
        here = handles[emptied]
        assert_deleted(here, here.delete(filter=field("year") == 1), 2)
        here.flush()
        left = {name: ids_of(handle) for name, handle in handles.items()}
        assert left == {name: {"c"} if name == emptied else {"a", "b", "c"} for name in handles}
        assert_deleted(here, here.delete(filter=vb.everything), 1)
        here.flush()
        assert {name: handle.count() for name, handle in handles.items()} == {
            name: 0 if name == emptied else 3 for name in handles
        }

    @pytest.mark.parametrize(("made_in", "taken_to"), [("", "eu"), ("eu", ""), ("eu", "us")])
    def test_a_cursor_of_another_namespace_is_refused(
        self, store: Store, make: Maker, made_in: str, taken_to: str
    ) -> None:
        spec = make(namespaced=True).spec
        here = store.open(spec.name, namespace=made_in)
        there = store.open(spec.name, namespace=taken_to)
        put(here, id=["a", "b", "c"])
        put(there, id=["a", "b", "c", "d"])
        cursor = next(iter(here.scan(include=[], batch_rows=1))).cursor
        with pytest.raises(ConfigError, match="cursor"):
            list(there.scan(cursor=cursor))
        assert sum(page.batch.num_rows for page in here.scan(include=[], cursor=cursor)) == 2

    def test_an_absent_namespace_reads_empty_and_the_first_write_makes_it(
        self, store: Store, make: Maker
    ) -> None:
        spec = make(namespaced=True).spec
        new = store.open(spec.name, namespace="new-1_A")
        assert (new.count(), ids_of(new), new.fetch(["a"]).num_rows) == (0, set(), 0)
        assert len(new.search(query(points(1)))[0]) == 0
        assert_deleted(new, new.delete(["a"]), 0)
        assert_deleted(new, new.delete(filter=vb.everything), 0)
        assert "new-1_A" not in store.namespaces(spec.name)
        put(new, id=["a"])
        assert "new-1_A" in store.namespaces(spec.name)
        assert ids_of(store.open(spec.name, namespace="new-1_A")) == {"a"}

    def test_namespaces_are_listed_sorted(self, store: Store, make: Maker) -> None:
        spec = make(namespaced=True).spec
        for name in ("b", "", "a", "Z"):
            put(store.open(spec.name, namespace=name), id=["x"])
        assert list(store.namespaces(spec.name)) == ["", "Z", "a", "b"]

    def test_dropping_one_namespace_leaves_the_others(self, store: Store, make: Maker) -> None:
        collection = make(namespaced=True)
        for name in ("", "a", "b"):
            put(store.open(collection.spec.name, namespace=name), id=["x"])
        store.drop(collection.spec.name, namespace="a")
        assert list(store.namespaces(collection.spec.name)) == ["", "b"]
        assert ids_of(store.open(collection.spec.name, namespace="a")) == set()
        assert ids_of(store.open(collection.spec.name, namespace="b")) == {"x"}
        store.drop(collection.spec.name)
        with pytest.raises(NotFoundError):
            store.open(collection.spec.name, namespace="b")

    def test_create_opens_the_namespace_that_it_is_given(self, store: Store, make: Maker) -> None:
        collection = make.create(make.spec(namespaced=True), namespace="eu")
        put(collection, id=["a"])
        assert collection.namespace == "eu"
        assert ids_of(store.open(collection.spec.name)) == set()
        again = store.create(collection.spec, if_exists="open", namespace="eu")
        assert ids_of(again) == {"a"}

    def test_a_collection_without_namespaces_has_the_default_one_alone(
        self, store: Store, make: Maker
    ) -> None:
        collection = make()
        assert list(store.namespaces(collection.spec.name)) == [""]
        assert store.open(collection.spec.name, namespace="").namespace == ""
        with pytest.raises(ConfigError):
            store.open(collection.spec.name, namespace="eu")
        with pytest.raises(ConfigError):
            store.drop(collection.spec.name, namespace="eu")
        unmade = make.spec()
        with pytest.raises(ConfigError):
            store.create(unmade, namespace="eu")
        assert unmade.name not in store.collections()

    @pytest.mark.parametrize("name", ["a b", "a/b", "ä", "x" * 65, "a.b", "eu\n"])
    def test_a_bad_name_is_refused(self, store: Store, make: Maker, name: str) -> None:
        spec = make(namespaced=True).spec
        with pytest.raises(ConfigError):
            store.open(spec.name, namespace=name)
