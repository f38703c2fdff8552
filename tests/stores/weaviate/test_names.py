"""Names both ways: collections, fields, namespaces, ids; and the objects as other programs see them."""

from __future__ import annotations

import uuid

import pytest

from tests.stores.weaviate.helpers import fresh, made, rest, rows, scanned
from vecbridge.errors import UnsupportedError
from vecbridge.filters import field
from vecbridge.schema import CollectionSpec, Field, VectorField
from vecbridge.store import Store
from vecbridge.stores.weaviate.layout import UUID_NAMESPACE, class_name

ODD = ("Year", "vectors", "additional", "Id_", "class", "tenant", "and", "a" * 100, "X_", "uuid", "iD2")


def test_a_class_has_the_name_with_a_capital_and_comes_back_without(store: Store) -> None:
    name = fresh("photos")
    with made(store, CollectionSpec.single(name, dim=2)):
        classes = rest(store, "GET", "/v1/schema")["classes"]
        assert f"P{name[1:]}" in [each["class"] for each in classes]
        assert name in store.collections()
        assert store.open(name).spec.name == name
        assert store.open(f"P{name[1:]}").spec.name == name


def test_odd_field_names_are_kept_filtered_and_given_back(store: Store) -> None:
    spec = CollectionSpec.single(fresh("odd"), dim=2, fields=dict.fromkeys(ODD, "int64"))
    with made(store, spec) as collection:
        values = {name: [number, None] for number, name in enumerate(ODD)}
        collection.upsert(rows(spec, ["a", "b"], **values))
        assert store.open(spec.name).spec == spec
        [a, b] = collection.fetch(["a", "b"]).to_pylist()
        for number, name in enumerate(ODD):
            assert (a[name], b[name]) == (number, None)
            assert collection.count(field(name) == number) == collection.count(field(name).is_null()) == 1


def test_vector_names_may_be_any_field_name(store: Store) -> None:
    names = ("Image", "text_", "X9", "default")
    vectors = tuple(VectorField(name, 2 + number) for number, name in enumerate(names))
    spec = CollectionSpec(fresh("several"), vectors, (Field("year", "int64"),))
    with made(store, spec) as collection:
        columns = {each.name: [[1.0] * each.dim] for each in vectors}
        batch = rows(spec, ["a"], **columns)
        collection.upsert(batch)
        assert collection.fetch(["a"]).equals(batch)


def test_namespaces_of_underscores_stay_apart_from_the_default_one(store: Store) -> None:
    names = ["", "-", "_", "__", "_a", "a_", "_" * 63]
    spec = CollectionSpec.single(fresh("tenants"), dim=2, namespaced=True)
    with made(store, spec):
        for name in names:
            opened = store.open(spec.name, namespace=name)
            opened.upsert(rows(spec, [f"of {name}"]))
        assert store.namespaces(spec.name) == sorted(names)
        for name in names:
            assert scanned(store.open(spec.name, namespace=name)) == [f"of {name}"]
        with pytest.raises(UnsupportedError, match="64 underscores"):
            store.open(spec.name, namespace="_" * 64)


@pytest.mark.parametrize("key", ["a", "é", 7, -(2**63)])
def test_an_object_has_the_uuid5_of_its_id_which_stands_beside_it(store: Store, key: str | int) -> None:
    id_type = "string" if isinstance(key, str) else "int64"
    spec = CollectionSpec.single(fresh("ids"), dim=2, id_type=id_type)  # type: ignore[arg-type]
    with made(store, spec) as collection:
        collection.upsert(rows(spec, [key]))
        [found] = rest(store, "GET", f"/v1/objects?class={class_name(spec.name)}")["objects"]
        assert found["id"] == str(uuid.uuid5(UUID_NAMESPACE, str(key)))
        assert found["properties"] == {"_vb_id": str(key)}


def test_a_filter_keeps_its_meaning_over_many_pages(store: Store) -> None:
    spec = CollectionSpec.single(fresh("pages"), dim=2, fields={"year": "int64"})
    with made(store, spec) as collection:
        keys = [str(number) for number in range(12_000)]
        collection.upsert(rows(spec, keys, year=[number % 12 for number in range(12_000)]))
        for condition, wanted in (
            (field("year") < 11, 11_000),  # more than one answer holds
            (field("year") == 3, 1_000),
            (field("year") > 11, 0),
        ):
            found = scanned(collection, filter=condition)
            assert len(found) == len(set(found)) == collection.count(condition) == wanted
        pages = list(collection.scan(include=[], filter=field("year") < 11, batch_rows=3_000))
        rest = scanned(collection, filter=field("year") < 11, cursor=pages[3].cursor)
        assert len(rest) == sum(page.batch.num_rows for page in pages[4:])
        parts = [
            scanned(collection, filter=field("year") < 11, cursor=start) for start in collection.split(5)
        ]
        assert sorted(key for part in parts for key in part) == sorted(
            scanned(collection, filter=field("year") < 11)
        )
        assert collection.delete(filter=field("year") < 11) == 11_000
        assert collection.count() == 1_000
