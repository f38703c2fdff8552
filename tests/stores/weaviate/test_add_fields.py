"""Fields that are added to a collection that has rows: all at once, once, and without a value lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import foreign, fresh, made, rest, rows, scanned, weaviate_store
from vecbridge.collection import Collection
from vecbridge.driver import Deadline, Described
from vecbridge.errors import (
    BackendError,
    CorruptStoreError,
    NotFoundError,
    SchemaError,
    UnavailableError,
    UnsupportedError,
)
from vecbridge.filters import TYPE_OPERATORS, Filter, field
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.store import Store
from vecbridge.stores.weaviate import repairing
from vecbridge.stores.weaviate.connection import Connection
from vecbridge.stores.weaviate.layout import class_name
from vecbridge.testing import driver_of

VALUES: dict[FieldType, list[Any]] = {
    "bool": [True, False],
    "int64": [2**63 - 1, 0],
    "float64": [5e-324, 0.0],
    "string": [" ", ""],
    "timestamp": [datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)],
    "list<string>": [["!", " "], []],
    "list<int64>": [[2**53 + 1, -(2**63)], []],
    "list<float64>": [[0.1, 5e-324], []],
    "json": ['{"a":1}', "null"],
}
EVERY = {f"{type[:2]}_{place}": type for place, type in enumerate(VALUES)}


def later() -> Deadline:
    return Deadline.after(60)


def found(store: Store, name: str) -> Described:
    described: Described | None = driver_of(store).describe(name, later())
    assert described is not None
    return described


def wider(spec: CollectionSpec, **fields: FieldType) -> CollectionSpec:
    added = tuple(Field(name, type) for name, type in fields.items())
    return replace(spec, fields=(*spec.fields, *added))


def add(store: Store, before: Described, **fields: FieldType) -> Described | None:
    described: Described | None = driver_of(store).add_fields(before, wider(before.spec, **fields), later())
    return described


def kept(collection: Collection, condition: Filter) -> set[Any]:
    """What a filter keeps, on which a search, a scan and a count agree."""
    [hits] = collection.search(Query([1.0, 1.0], k=100, filter=condition))
    assert set(hits.ids) == set(scanned(collection, filter=condition))
    assert collection.count(condition) == len(hits)
    return set(hits.ids)


def interrupted(monkeypatch: pytest.MonkeyPatch, *, after: int, stored: bool) -> Callable[[], None]:
    """Has a connection break in the request that adds one more property than that; undone by a call."""
    asked = Connection.rest
    sent: list[str] = []

    def broken(self: Connection, method: str, path: str, *more: Any) -> Any:
        if not path.endswith("/properties"):
            return asked(self, method, path, *more)
        sent.append(path)
        if len(sent) > after:
            if stored:
                asked(self, method, path, *more)
            raise UnavailableError("the connection broke")
        return asked(self, method, path, *more)

    monkeypatch.setattr(Connection, "rest", broken)
    return lambda: monkeypatch.setattr(Connection, "rest", asked)


def test_there_are_values_of_every_type() -> None:
    assert set(VALUES) == set(get_args(FieldType))


@pytest.mark.parametrize("type", VALUES)
def test_old_rows_are_null_in_a_new_field_and_new_rows_have_it(store: Store, type: FieldType) -> None:
    spec = CollectionSpec.single(fresh("added"), dim=2, fields={"year": "int64"})
    with made(store, spec) as before:
        before.upsert(rows(spec, ["a", "b"], year=[1, None]))
        described = add(store, found(store, spec.name), value=type)
        assert described is not None
        assert described.spec == wider(spec, value=type) == found(store, spec.name).spec
        assert described.identity == found(store, spec.name).identity
        assert described.identity.schema == found(store, spec.name).identity.schema == 2
        collection = store.open(spec.name)
        some, none = VALUES[type]
        collection.upsert(rows(collection.spec, ["c", "d", "e"], year=[1, 2, 1], value=[some, none, None]))
        fetched = {row["id"]: row for row in collection.fetch(list("abcde")).to_pylist()}
        assert [fetched[key]["value"] for key in "abcde"] == [None, None, some, none, None]
        assert [fetched[key]["year"] for key in "abcde"] == [1, None, 1, 2, 1]
        value, year = field("value"), field("year")
        assert kept(collection, value.is_null()) == set("abe")
        assert kept(collection, ~value.is_null()) == set("cd")
        assert kept(collection, value.is_null() & (year == 1)) == set("ae")
        assert kept(collection, value.is_null() | (year == 2)) == set("abde")
        if "==" in TYPE_OPERATORS[type]:
            assert kept(collection, value == some) == {"c"}
            assert kept(collection, value != some) == {"d"}
            assert kept(collection, ~value.isin([none])) == {"c"}
            assert kept(collection, value.differs(some)) == set("abde")
        if "contains" in TYPE_OPERATORS[type]:
            assert kept(collection, value.contains(some[0])) == {"c"}
            assert kept(collection, ~value.contains(some[0])) == {"d"}
            assert kept(collection, value.is_empty()) == {"d"}
            assert kept(collection, ~value.is_empty()) == {"c"}
        collection.upsert(rows(collection.spec, ["a", "c"], year=[1, 1], value=[some, None]))
        assert kept(collection, value.is_null()) == set("bce")
        assert collection.delete(filter=value.is_null()) == 3
        assert set(scanned(collection)) == set("ad")


def test_fields_are_added_again_and_again_and_to_every_namespace(store: Store) -> None:
    spec = CollectionSpec.single(fresh("added"), dim=2, namespaced=True)
    with made(store, spec) as collection:
        collection.upsert(rows(spec, ["a"]))
        store.open(spec.name, namespace="eu").upsert(rows(spec, ["b"]))
        for name, type in EVERY.items():
            assert add(store, found(store, spec.name), **{name: type}) is not None
        assert add(store, found(store, spec.name), Last="json", other="json") is not None
        for namespace, key in (("", "a"), ("eu", "b"), ("us", None)):
            opened = store.open(spec.name, namespace=namespace)
            assert opened.spec == wider(spec, **EVERY, Last="json", other="json")
            first = {name: [VALUES[type][0]] for name, type in EVERY.items()}
            batch = rows(opened.spec, ["c"], **first, other=['"x"'])
            opened.upsert(batch)
            assert opened.fetch(["c"]).equals(batch)
            for name in (*EVERY, "other", "Last"):
                new = {"c"} if name == "Last" else set()
                assert kept(opened, field(name).is_null()) == ({key} if key else set()) | new


def test_a_handle_that_was_opened_before_reads_on_and_does_not_write(store: Store, server_url: str) -> None:
    spec = CollectionSpec.single(fresh("older"), dim=2, fields={"year": "int64"})
    with made(store, spec) as older, weaviate_store(server_url) as elsewhere:
        older.upsert(rows(spec, ["a"], year=[1]))
        assert add(elsewhere, found(elsewhere, spec.name), value="string") is not None
        newer = elsewhere.open(spec.name)
        newer.upsert(rows(newer.spec, ["b"], year=[2], value=["x"]))
        with pytest.raises(SchemaError, match="open it again"):
            older.upsert(rows(spec, ["b"], year=[3]))
        assert older.spec == spec
        assert scanned(older, filter=field("year") == 2) == ["b"]
        assert {row["id"]: row["year"] for row in older.fetch(["a", "b"]).to_pylist()} == {"a": 1, "b": 2}
        assert newer.fetch(["b"])["value"].to_pylist() == ["x"]
        again = store.open(spec.name)
        again.upsert(rows(again.spec, ["c"], value=["y"]))
        assert kept(newer, field("value") == "y") == {"c"}
        assert older.delete(["a"]) == 1


def test_a_repair_by_an_older_handle_writes_no_row_that_it_would_set_to_null(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CollectionSpec.single(fresh("older"), dim=2)
    with made(store, spec) as older:
        assert add(store, found(store, spec.name), value="string") is not None
        newer = store.open(spec.name)
        newer.upsert(rows(newer.spec, ["a"], value=["x"]))
        monkeypatch.setattr(repairing, "_missed_in_any_field", lambda *_: [0])
        with pytest.raises(SchemaError, match="open it again"):
            older.repair()
        assert newer.fetch(["a"])["value"].to_pylist() == ["x"]
        assert newer.repair() == 1
        assert newer.fetch(["a"])["value"].to_pylist() == ["x"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("stored", [False, True], ids=["not-sent", "sent"])
def test_a_call_that_was_cut_off_may_be_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int, stored: bool
) -> None:
    spec = CollectionSpec.single(fresh("cut"), dim=2, fields={"year": "int64"})
    with made(store, spec) as older:
        older.upsert(rows(spec, ["a"], year=[1]))
        before = found(store, spec.name)
        undo = interrupted(monkeypatch, after=after, stored=stored)
        with pytest.raises(UnavailableError):
            add(store, before, one="string", two="json")  # three properties, and the one that says so
        undo()
        if after == 3 and stored:
            assert found(store, spec.name).spec == wider(spec, one="string", two="json")
            assert add(store, before, one="string", two="json") is None
        else:
            assert found(store, spec.name).spec == spec
            older.upsert(rows(spec, ["b"], year=[2]))
            assert add(store, found(store, spec.name), one="string", two="json") is not None
        collection = store.open(spec.name)
        assert collection.spec == wider(spec, one="string", two="json")
        collection.upsert(rows(collection.spec, ["c"], one=["x"], two=["1"]))
        assert kept(collection, field("one").is_null()) == set(scanned(collection)) - {"c"}
        assert kept(collection, ~field("two").is_null()) == {"c"}


def test_what_a_call_left_behind_does_not_keep_its_name_for_a_field_of_the_same_property(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CollectionSpec.single(fresh("cut"), dim=2)
    with made(store, spec):
        before = found(store, spec.name)
        undo = interrupted(monkeypatch, after=1, stored=False)
        with pytest.raises(UnavailableError):
            add(store, before, value="string")
        undo()
        with pytest.raises(UnsupportedError, match="another type"):
            add(store, before, value="bool")
        assert found(store, spec.name).spec == spec
        assert add(store, before, value="int64") is not None
        collection = store.open(spec.name)
        collection.upsert(rows(collection.spec, ["a"], value=[7]))
        assert kept(collection, field("value") == 7) == {"a"}


def test_of_two_that_add_to_the_same_fields_one_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CollectionSpec.single(fresh("stale"), dim=2)
    with made(store, spec):
        before = found(store, spec.name)
        asked = Connection.rest

        def overtaken(self: Connection, method: str, path: str, *more: Any) -> Any:
            if path.endswith("/properties"):
                monkeypatch.setattr(Connection, "rest", asked)
                assert add(store, before, theirs="int64", both="string") is not None
            return asked(self, method, path, *more)

        monkeypatch.setattr(Connection, "rest", overtaken)
        assert add(store, before, mine="string", both="string") is None
        assert add(store, before, mine="string") is None
        now = found(store, spec.name)
        assert now.spec == wider(spec, theirs="int64", both="string")
        assert add(store, now, mine="string") is not None
        collection = store.open(spec.name)
        assert collection.spec == wider(spec, theirs="int64", both="string", mine="string")
        batch = rows(collection.spec, ["a"], theirs=[1], both=["b"], mine=["c"])
        collection.upsert(batch)
        assert collection.fetch(["a"]).equals(batch)


def test_a_collection_that_is_gone_replaced_or_foreign_takes_no_fields(store: Store) -> None:
    spec = CollectionSpec.single(fresh("gone"), dim=2)
    with made(store, spec):
        before = found(store, spec.name)
        store.create(spec, if_exists="replace")
        assert add(store, before, value="string") is None
        assert found(store, spec.name).spec == spec
    with pytest.raises(NotFoundError, match="dropped"):
        add(store, before, value="string")
    row = {"id": "00000000-0000-0000-0000-000000000001", "vector": [1.0, 2.0]}
    with foreign(store, {"class": fresh("Other"), "vectorizer": "none"}, [row]) as name:
        other = found(store, name)
        assert other.identity.schema == 0
        new = CollectionSpec.foreign(name, other.spec.vectors, (Field("value", "string"),), "string")
        with pytest.raises(UnsupportedError, match="did not make it"):
            driver_of(store).add_fields(other, new, later())
        assert found(store, name).spec == other.spec


def test_a_class_that_is_dropped_before_its_property_is_added_is_not_found(store: Store) -> None:
    spec = CollectionSpec.single(fresh("gone"), dim=2)
    store.create(spec)
    before = found(store, spec.name)
    driver = driver_of(store)
    described = driver.connection.described(class_name(spec.name), later())
    store.drop(spec.name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "described", lambda *_: described)
        with pytest.raises(NotFoundError):
            add(store, before, value="string")
    with pytest.raises(NotFoundError):
        store.open(spec.name)


@pytest.mark.parametrize("note", ["", "7", "[7]", '[{"name": "a"}]', '[{"name": "id", "type": "bool"}]', "["])
def test_a_note_of_added_fields_that_cannot_be_read_is_an_error(store: Store, note: str) -> None:
    spec = CollectionSpec.single(fresh("damaged"), dim=2)
    with made(store, spec):
        token = found(store, spec.name).identity.value
        prop = {"name": f"_vb_{token}_0", "dataType": ["boolean"], "description": note}
        rest(store, "POST", f"/v1/schema/{class_name(spec.name)}/properties", prop)
        with pytest.raises(CorruptStoreError, match="damaged"):
            store.open(spec.name)
        rest(store, "DELETE", f"/v1/schema/{class_name(spec.name)}")
        store.create(spec)


def test_names_that_are_too_long_are_refused_before_anything_is_sent(store: Store) -> None:
    for fields, fits in (
        ({"F" * 231: "int64", "j" * 223: "json"}, True),
        ({"f" * 232: "int64"}, False),
        ({"j" * 224: "json"}, False),
    ):
        spec = CollectionSpec.single(fresh("long"), dim=2, fields=fields)  # type: ignore[arg-type]
        if fits:
            with made(store, spec) as collection:
                batch = rows(spec, ["a"], **{"F" * 231: [1], "j" * 223: ["1"]})
                collection.upsert(batch)
                assert collection.fetch(["a"]).equals(batch)
            continue
        assert [gap.subject for gap in store.check(spec) if gap.blocking] == [*fields]
        with pytest.raises(UnsupportedError, match="too long"):
            store.create(spec)


@pytest.mark.usefixtures("executable")
def test_added_fields_survive_kill_9_of_the_server() -> None:
    spec = CollectionSpec.single(fresh("killed"), dim=2, fields={"year": "int64"})
    with server.own() as own:
        with weaviate_store(own.url) as store:
            store.create(spec).upsert(rows(spec, ["a"], year=[1]))
            assert add(store, found(store, spec.name), **EVERY) is not None
            collection = store.open(spec.name)
            first = {name: [VALUES[type][0]] for name, type in EVERY.items()}
            batch = rows(collection.spec, ["b"], year=[2], **first)
            collection.upsert(batch)
        own.kill()
        own.start()
        with weaviate_store(own.url) as store:
            collection = store.open(spec.name)
            assert collection.spec == wider(spec, **EVERY)
            assert collection.fetch(["b"]).equals(batch)
            collection.repair()  # the kill may have cost the graph its last rows
            for name in EVERY:
                assert kept(collection, field(name).is_null()) == {"a"}
                assert kept(collection, ~field(name).is_null()) == {"b"}


def test_the_stored_form_is_what_the_docstring_of_schema_says(store: Store) -> None:
    spec = CollectionSpec.single(fresh("form"), dim=2, fields={"a": "bool"})
    with made(store, spec):
        assert add(store, found(store, spec.name), c="timestamp") is not None
        described = rest(store, "GET", f"/v1/schema/{class_name(spec.name)}")
        properties = {prop["name"]: prop for prop in described["properties"]}
        token = found(store, spec.name).identity.value
        assert list(properties) == ["_vb_id", "a", "c", f"_vb_{token}_1"]
        assert json.loads(properties[f"_vb_{token}_1"]["description"]) == [{"name": "c", "type": "timestamp"}]
        with pytest.raises(BackendError, match="already in use"):
            rest(store, "POST", f"/v1/schema/{class_name(spec.name)}/properties", properties["c"])
