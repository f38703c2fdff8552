"""Fields that are added to a collection that has rows: nothing is lost, whoever else adds or writes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymilvus import DataType

from tests.stores.milvus.helpers import (
    client_of,
    contents,
    fresh,
    lite_url,
    made,
    milvus_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.deadlines import Deadline
from vecbridge.errors import CorruptStoreError, NotFoundError, SchemaError, UnavailableError, UnsupportedError
from vecbridge.filters import Filter, field
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import stored
from vecbridge.testing import driver_of

ADDED: dict[str, FieldType] = {
    "flag": "bool",
    "count": "int64",
    "price": "float64",
    "title": "string",
    "taken": "timestamp",
    "tags": "list<string>",
    "sizes": "list<int64>",
    "ratios": "list<float64>",
    "facts": "json",
}
VALUES: dict[str, Any] = {
    "flag": False,
    "count": 2**53 + 1,
    "price": 0.1,
    "title": "",
    "taken": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "tags": ["sea"],
    "sizes": [-(2**63), 2**63 - 1],
    "ratios": [5e-324, -1e300],
    "facts": '{"a":1}',
}
HOLDS: dict[str, Filter] = {
    "flag": field("flag") == False,  # noqa: E712
    "count": field("count") > 2**53,
    "price": field("price") == 0.1,
    "title": field("title") == "",
    "taken": field("taken") == VALUES["taken"],
    "tags": field("tags").contains("sea"),
    "sizes": field("sizes").contains(-(2**63)),
    "ratios": field("ratios").contains(-1e300),
    "facts": ~field("facts").is_null(),
}
ELSEWHERE = """
import json, sys
import vecbridge as vb
url, name = sys.argv[1:]
with vb.connect(url) as store:
    photos = store.open(name)
    photos.add_fields({"theirs": "int64"})
    batch = vb.batch(photos.spec, id=["there"], vector=[[0.0] * 8], old=[5], ours=[6], theirs=[7])
    photos.upsert(batch)
    json.dump(photos.fetch(["a", "there"], include=["old", "ours", "theirs"]).to_pylist(), sys.stdout)
"""


def filled(photos: Collection) -> None:
    photos.upsert(rows(photos.spec, ["a", "b"], old=[1, None]))


def soon() -> Deadline:
    return Deadline.after(30)


def grown(spec: CollectionSpec, name: str, type: FieldType) -> CollectionSpec:
    larger = spec.grown([Field(name, type)])
    assert larger is not None
    return larger


def test_a_field_of_each_type_is_null_in_the_rows_that_are_there_and_kept_in_later_ones(store: Store) -> None:
    spec = small(fresh("added"), fields={"old": "int64"})
    with made(store, spec) as photos:
        filled(photos)
        for name, type in ADDED.items():
            photos.add_fields({name: type})
        assert photos.spec == store.open(spec.name).spec == spec.grown(map(Field, ADDED, ADDED.values()))
        for record in contents(photos).values():
            assert {record[name] for name in ADDED} == {None}
        photos.upsert(rows(photos.spec, ["c"], old=[3], **{name: [value] for name, value in VALUES.items()}))
        assert {name: contents(photos)["c"][name] for name in ADDED} == VALUES
        photos.flush()
        for name in ADDED:
            assert scanned(photos, filter=field(name).is_null()) == ["a", "b"], name
            assert scanned(photos, filter=HOLDS[name]) == ["c"], name
            assert scanned(photos, filter=~HOLDS[name] & ~field(name).is_null()) == [], name
            assert scanned(photos, filter=field(name).is_null() & (field("old") == 1)) == ["a"], name
            [hits] = photos.search(Query([0.0] * 8, k=3, filter=HOLDS[name], include=[name]))
            assert hits[0].record == {"id": "c", name: {"a": 1} if name == "facts" else VALUES[name]}
        assert scanned(photos, filter=field("old").is_null()) == ["b"]
        assert photos.delete(filter=HOLDS["taken"] | (field("old") == 1)) == 2
        assert scanned(photos) == ["b"]


def test_a_handle_of_before_reads_on_and_does_not_write(store: Store) -> None:
    spec = small(fresh("before"), fields={"old": "int64"}, namespaced=True)
    with made(store, spec, namespace="eu") as before:
        filled(before)
        photos = store.open(spec.name, namespace="us")
        photos.add_fields({"new": "string"})
        photos.upsert(rows(photos.spec, ["c"], old=[3], new=["c"]))
        with pytest.raises(SchemaError, match="open it again"):
            before.upsert(rows(spec, ["a"], old=[9]))
        here = store.open(spec.name, namespace="eu")
        here.upsert(rows(here.spec, ["d"], old=[4], new=["d"]))
        here.flush()
        assert contents(before).keys() == {"a", "b", "d"}
        assert "new" not in contents(before)["d"]
        [hits] = before.search(Query(random_vectors(1)[0], k=9, include="all"))
        assert set(hits.ids) == {"a", "b", "d"}
        assert before.delete(["d"]) == 1
        assert {key: each["new"] for key, each in contents(here).items()} == {"a": None, "b": None}
        assert photos.fetch(["c"], include=["new"]).to_pylist() == [{"id": "c", "new": "c"}]
        before.add_fields({"new": "string"})  # there already, so that the handle knows it now
        before.upsert(rows(before.spec, ["a"], old=[9], new=["x"]))
        assert contents(here)["a"]["new"] == "x"


def test_another_process_adds_and_writes(genuine: Store) -> None:
    spec = small(fresh("process"), fields={"old": "int64"})
    with made(genuine, spec) as photos:
        filled(photos)
        photos.add_fields({"ours": "int64"})
        command = [sys.executable, "-c", ELSEWHERE, str(genuine.url), spec.name]
        seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert seen == [
            {"id": "a", "old": 1, "ours": None, "theirs": None},
            {"id": "there", "old": 5, "ours": 6, "theirs": 7},
        ]
        with pytest.raises(SchemaError, match="open it again"):
            photos.upsert(rows(photos.spec, ["there"], old=[0], ours=[0]))
        assert contents(genuine.open(spec.name))["there"]["theirs"] == 7


def test_on_milvus_lite_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    spec = small("restarted", fields={"old": "int64"})
    with milvus_store(lite_url(tmp_path)) as store:
        photos = store.create(spec)
        filled(photos)
        photos.add_fields({"new": "list<int64>"})
        photos.upsert(rows(photos.spec, ["c"], new=[[-1]]))
        larger = photos.spec
    with milvus_store(lite_url(tmp_path)) as store:
        photos = store.open(spec.name)
        assert photos.spec == larger
        assert {key: each["new"] for key, each in contents(photos).items()} == {
            "a": None,
            "b": None,
            "c": [-1],
        }
        assert scanned(photos, filter=field("new").is_null()) == ["a", "b"]


@pytest.mark.parametrize("reached", [False, True])
def test_a_call_that_was_cut_off_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    spec = small(fresh("cut"), fields={"old": "int64"})
    with made(store, spec) as photos:
        filled(photos)
        connection = driver_of(store).connection
        call = connection.call

        def cut(rpc: str, *arguments: Any, **options: Any) -> Any:
            answer = call(rpc, *arguments, **options) if rpc != "AlterCollection" or reached else None
            if rpc == "AlterCollection":
                raise UnavailableError("the line went dead")
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(connection, "call", cut)
            with pytest.raises(UnavailableError):
                photos.add_fields({"one": "int64", "two": "string"})
        if reached:
            with pytest.raises(SchemaError, match="open it again"):
                photos.upsert(rows(spec, ["a"]))
        photos.add_fields({"one": "int64", "two": "string"})
        assert [each.name for each in photos.spec.fields] == ["old", "one", "two"]
        assert store.open(spec.name).spec == photos.spec
        assert contents(photos)["a"]["old"] == 1


def test_a_description_that_is_out_of_date_adds_nothing(store: Store) -> None:
    spec = small(fresh("stale"), fields={"old": "int64"})
    driver = driver_of(store)
    with made(store, spec) as photos:
        found = driver.describe(spec.name, soon())
        assert found.identity.schema == 1
        photos.add_fields({"new": "string"})
        assert driver.add_fields(found, grown(spec, "late", "int64"), soon()) is None
        now = driver.describe(spec.name, soon())
        assert now.spec == photos.spec
        assert now.identity.schema == driver_of(photos).identity(soon()).schema == 2
        store.create(spec, if_exists="replace")
        assert driver.add_fields(now, grown(now.spec, "late", "int64"), soon()) is None
        assert driver.describe(spec.name, soon()).spec == spec
    with pytest.raises(NotFoundError):
        driver.add_fields(now, grown(now.spec, "late", "int64"), soon())


def at_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch, *calls: Callable[[], None]) -> None:
    """Runs calls of which none sends its change before all have looked at the collection."""
    connection, barrier = driver_of(store).connection, threading.Barrier(len(calls), timeout=30)
    call = connection.call
    waited = threading.local()

    def together(rpc: str, *arguments: Any, **options: Any) -> Any:
        if rpc == "AlterCollection" and not hasattr(waited, "done"):
            waited.done = True
            barrier.wait()
        return call(rpc, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(connection, "call", together)
        threads = [threading.Thread(target=each) for each in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)


def test_threads_that_add_at_the_same_time_lose_nothing(store: Store) -> None:
    spec = small(fresh("threads"), fields={"old": "int64"})
    names = [f"new{number}" for number in range(6)]
    with made(store, spec) as photos:
        filled(photos)
        handles = [store.open(spec.name) for _ in names]
        with ThreadPoolExecutor(len(names)) as threads:
            list(threads.map(lambda handle, name: handle.add_fields({name: "int64"}), handles, names))
        assert {each.name for each in store.open(spec.name).spec.fields} == {"old", *names}
        assert scanned(photos, filter=field("old").is_null()) == ["b"]


def test_two_clients_who_add_at_the_same_time_lose_nothing(
    genuine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(fresh("both"), fields={"old": "int64"})
    with made(genuine, spec) as photos:
        other = genuine.open(spec.name)
        at_the_same_time(
            genuine, monkeypatch,
            lambda: photos.add_fields({"here": "int64"}), lambda: other.add_fields({"there": "string"}),
        )  # fmt: skip
        assert {each.name for each in genuine.open(spec.name).spec.fields} == {"old", "here", "there"}


def test_of_two_clients_who_add_one_name_with_two_types_at_the_same_time_one_is_told(
    genuine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(fresh("clash"))
    outcomes: dict[str, Any] = {}
    with made(genuine, spec) as photos:

        def add(handle: Collection, name: str, type: FieldType) -> None:
            try:
                outcomes[type] = handle.add_fields({name: type})
            except SchemaError as exc:
                outcomes[type] = exc

        other = genuine.open(spec.name)
        at_the_same_time(
            genuine, monkeypatch,
            lambda: add(photos, "new", "int64"), lambda: add(other, "New", "string"),
        )  # fmt: skip
        [kept] = genuine.open(spec.name).spec.fields
        assert outcomes.keys() == {"int64", "string"}
        assert outcomes[kept.type] is None
        assert sum(isinstance(each, SchemaError) for each in outcomes.values()) == 1


def test_a_field_meant_for_a_collection_that_was_replaced_does_not_reach_the_other(store: Store) -> None:
    spec = small(fresh("meant"))
    with made(store, spec) as photos:
        properties = stored.of_added("another-token", [Field("new", "int64")], 0)
        call = driver_of(store).connection.call
        call("AlterCollection", soon(), collection_name=spec.name, properties=properties)
        assert store.open(spec.name).spec == spec
        photos.upsert(rows(spec, ["a"]))


def test_a_property_that_cannot_be_read_is_named(store: Store) -> None:
    spec = small(fresh("broken"))
    with made(store, spec) as photos:
        token = driver_of(photos).identity(soon()).value
        properties = {f"vecbridge.field.{token}.new.int64": "?"}
        call = driver_of(store).connection.call
        call("AlterCollection", soon(), collection_name=spec.name, properties=properties)
        with pytest.raises(CorruptStoreError, match=spec.name):
            store.open(spec.name)
        properties = {next(iter(properties)): "[0, 0]"}
        call("AlterCollection", soon(), collection_name=spec.name, properties=properties)
        assert store.open(spec.name).spec == grown(spec, "new", "int64")


def test_nothing_is_added_to_a_collection_of_another_program(store: Store) -> None:
    name, client = fresh("theirs"), client_of(store)
    schema = client.create_schema()
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes)
    try:
        with pytest.raises(UnsupportedError, match="copy it"):
            store.open(name).add_fields({"new": "int64"})
    finally:
        client.drop_collection(name)
        client.close()
