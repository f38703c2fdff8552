"""Typed columns on milvus-lite: values are exact, filters keep their meaning, older collections work on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from tests.stores.milvus.helpers import contents, fresh, lite_url, made, milvus_store, rows, scanned, small
from vecbridge.driver import Deadline, RequestLimits
from vecbridge.errors import ConfigError, InvalidRecordError, UnsupportedError
from vecbridge.filters import Filter, field
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import dialects, layout, typed
from vecbridge.stores.milvus.encoding import MilvusEncoder
from vecbridge.stores.milvus.readiness import _described
from vecbridge.testing import driver_of

FIELDS: dict[str, FieldType] = {
    "flag": "bool",
    "count": "int64",
    "price": "float64",
    "title": "string",
    "taken": "timestamp",
    "tags": "list<string>",
    "sizes": "list<int64>",
    "ratios": "list<float64>",
    "facts": "json",
    "in": "int64",  # a word of Milvus's expressions
}
EARLY, LATE = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
VALUES: dict[str, dict[str, Any]] = {
    "low": {
        "flag": False, "count": -(2**63), "price": -1.7976931348623157e308, "title": "", "taken": EARLY,
        "tags": [], "sizes": [], "ratios": [], "facts": "null", "in": 0,
    },
    "high": {
        "flag": True, "count": 2**63 - 1, "price": 5e-324, "title": "ä\"\\\n\U0001f30a\x00", "taken": LATE,
        "tags": ["", "ü\"'\\"], "sizes": [-(2**63), 2**63 - 1], "ratios": [0.1, 5e-324],
        "facts": '{"a":[1,null]}', "in": 2**53 + 1,
    },
    "none": dict.fromkeys(FIELDS),
    "one": {
        "flag": True, "count": 1, "price": 1.0, "title": "1", "taken": EARLY + timedelta(microseconds=1),
        "tags": ["1"], "sizes": [1], "ratios": [1.0], "facts": "1", "in": 1,
    },
}  # fmt: skip
MATCHES: list[tuple[Filter, set[str]]] = [
    (field("flag") == True, {"high", "one"}),  # noqa: E712
    (field("flag") != True, {"low"}),  # noqa: E712
    (field("flag").isin([False, None]), {"low", "none"}),
    (field("count") == -(2**63), {"low"}),
    (field("count") != -(2**63), {"high", "one"}),
    (field("count") > 2**63 - 2, {"high"}),
    (~(field("count") > 1), {"low", "one"}),
    (field("count").isin([-(2**63), 1]), {"low", "one"}),
    (~field("count").isin([1]), {"low", "high"}),
    (field("count").differs(1), {"low", "high", "none"}),
    (field("in") > 2**53, {"high"}),
    (field("in") == 1, {"one"}),
    (field("price") == 5e-324, {"high"}),
    (field("price") <= 1, {"low", "high", "one"}),
    (field("title") == "", {"low"}),
    (field("title") > "1", {"high"}),
    (~(field("title") == "1"), {"low", "high"}),
    (field("taken") < datetime(1970, 1, 1, tzinfo=UTC), {"low", "one"}),
    (field("taken") == LATE, {"high"}),
    (field("taken").isin([EARLY, LATE]), {"low", "high"}),
    (field("tags").contains(""), {"high"}),
    (~field("tags").contains(""), {"low", "one"}),
    (field("tags").is_empty(), {"low"}),
    (~field("tags").is_empty(), {"high", "one"}),
    (field("sizes").contains(-(2**63)), {"high"}),
    (field("sizes").contains(1), {"one"}),
    (field("ratios").contains(0.1), {"high"}),
    (field("ratios").contains(1.0), {"one"}),
    *[(field(name).is_null(), {"none"}) for name in FIELDS],
    *[(~field(name).is_null(), {"low", "high", "one"}) for name in FIELDS],
]
OLD = """
import sys
import vecbridge as vb
url, name = sys.argv[1:]
with vb.connect(url, columns="dynamic") as store:
    fields = {"n": "int64", "tags": "list<string>"}
    spec = vb.CollectionSpec.single(name, dim=8, metric="l2", index=vb.Flat(), fields=fields)
    photos = store.create(spec)
    photos.upsert(vb.batch(spec, id=["a", "b"], vector=[[0.0] * 8] * 2, n=[1, None], tags=[["x"], []]))
"""


def spec_of(**changes: Any) -> CollectionSpec:
    return small(
        fresh("typed"), fields=[Field(name, type, indexed=True) for name, type in FIELDS.items()], **changes
    )


def fill(photos: Collection) -> None:
    columns = {name: [values[name] for values in VALUES.values()] for name in FIELDS}
    photos.upsert(rows(photos.spec, list(VALUES), **columns))


def schema_of(store: Store, name: str) -> dict[str, Any]:
    """The fields of a collection as Milvus has them."""
    answer = driver_of(store).connection.call("DescribeCollection", Deadline.after(30), collection_name=name)
    assert answer.schema.enable_dynamic_field
    return {field.name: field for field in answer.schema.fields}


@pytest.fixture(params=["memory", "file"])
def filled(lite: Store, request: pytest.FixtureRequest) -> Iterator[Collection]:
    """Rows with the extremes of each type, as they were written and in a file with its scalar indexes."""
    with made(lite, spec_of()) as photos:
        fill(photos)
        if request.param == "file":
            table = driver_of(photos)._table
            for rpc in ("Flush", "ReleaseCollection"):
                table.call(rpc, Deadline.after(30))
            table.unloaded()
        yield photos


def test_values_and_filters_of_each_type_are_exact(lite: Store, filled: Collection) -> None:
    assert {
        key: {name: record[name] for name in FIELDS} for key, record in contents(filled).items()
    } == VALUES
    assert filled.fetch(["none", "low"]).drop_columns(["vector"]).to_pylist() == [
        {"id": key, **VALUES[key]} for key in ("none", "low")
    ]
    for condition, expected in MATCHES:
        assert set(scanned(filled, filter=condition)) == expected, condition
        assert filled.count(condition) == len(expected), condition
        [hits] = filled.search(Query([0.0] * 8, k=9, filter=condition, include=["count", "tags", "title"]))
        assert set(hits.ids) == expected, condition
        for record in hits.records.to_pylist():
            values = VALUES[record.pop("id")]
            assert record == {name: values[name] for name in record}


def test_every_column_but_json_is_typed_nullable_and_indexed_where_milvus_can(
    lite: Store, filled: Collection
) -> None:
    fields = schema_of(lite, filled.spec.name)
    assert set(fields) == {"id", "vector", "x_in", *FIELDS} - {"facts", "in"}
    assert all(fields[name].nullable for name in set(fields) - {"id", "vector"})
    assert fields["taken"].data_type == schema_pb2.DataType.Int64
    database = driver_of(lite).connection._database
    indexed = set(database.get_collection(filled.spec.name).list_indexes())
    assert indexed == {"vector", "flag", "count", "price", "title", "taken", "x_in"}


def test_a_row_that_is_written_again_keeps_nothing_of_before(filled: Collection) -> None:
    filled.upsert(rows(filled.spec, ["high"]))
    assert {contents(filled)["high"][name] for name in FIELDS} == {None}
    assert set(scanned(filled, filter=field("count").is_null())) == {"high", "none"}


def test_a_column_of_nulls_alone_is_written(lite: Store) -> None:
    with made(lite, spec_of()) as photos:
        photos.upsert(rows(photos.spec, ["a"]))
        assert {contents(photos)["a"][name] for name in FIELDS} == {None}


def test_fields_added_to_typed_columns_are_dynamic_and_null_in_the_rows_that_are_there(lite: Store) -> None:
    with made(lite, small(fresh("grown"), fields={"n": "int64"})) as photos:
        photos.upsert(rows(photos.spec, ["a"], n=[1]))
        photos.add_fields({"later": "int64", "like": "string"})
        photos.upsert(rows(photos.spec, ["b"], n=[2], later=[-(2**63)], like=["x"]))
        assert {"later", "like", "x_like"}.isdisjoint(schema_of(lite, photos.spec.name))
        again = lite.open(photos.spec.name)
        values = {key: (row["n"], row["later"], row["like"]) for key, row in contents(again).items()}
        assert values == {"a": (1, None, None), "b": (2, -(2**63), "x")}
        assert scanned(again, filter=field("later").is_null() & (field("n") == 1)) == ["a"]
        assert scanned(again, filter=(field("like") == "x") & (field("n") > 1)) == ["b"]


def test_a_collection_with_dynamic_columns_works_on(tmp_path: Path) -> None:
    url = lite_url(tmp_path)
    subprocess.run([sys.executable, "-c", OLD, url, "older"], check=True, timeout=120)
    with milvus_store(url) as store:
        photos = store.open("older")
        assert set(schema_of(store, "older")) == {"id", "vector"}
        assert photos.fetch(["a", "b"], include=["n", "tags"]).to_pylist() == [
            {"id": "a", "n": 1, "tags": ["x"]},
            {"id": "b", "n": None, "tags": []},
        ]
        assert scanned(photos, filter=field("n").is_null()) == ["b"]
        assert scanned(photos, filter=field("tags").contains("x")) == ["a"]
        photos.upsert(rows(photos.spec, ["b", "c"], n=[2, 3], tags=[None, ["y"]]))
        photos.add_fields({"later": "bool"})
        photos.upsert(rows(photos.spec, ["d"], n=[4], later=[True]))
        assert scanned(photos, filter=field("n") >= 2) == ["b", "c", "d"]
        assert scanned(photos, filter=field("later") == True) == ["d"]  # noqa: E712
        assert store.create(photos.spec, if_exists="open").count() == 4


def test_the_stored_spec_is_the_same_in_both_forms(lite: Store, tmp_path: Path) -> None:
    spec = small("same", fields={"n": "int64", "facts": "json"})
    lite.create(spec)
    with milvus_store(f"milvus+lite://{tmp_path}/other.db?columns=dynamic") as dynamic:
        dynamic.create(spec)
        assert set(schema_of(dynamic, "same")) == {"id", "vector"}
        assert dynamic.open("same").spec == lite.open("same").spec == spec
    assert set(schema_of(lite, "same")) == {"id", "vector", "n"}


def test_more_fields_than_milvus_has_are_dynamic(lite: Store) -> None:
    names = [f"n{number}" for number in range(63)]
    for count, expected in ((62, set(names[:62])), (63, set())):
        with made(lite, small(fresh("wide"), fields=dict.fromkeys(names[:count], "int64"))) as photos:
            assert set(schema_of(lite, photos.spec.name)) == {"id", "vector"} | expected
            photos.upsert(rows(photos.spec, ["a"], n1=[5]))
            assert scanned(photos, filter=(field("n1") == 5) & field("n2").is_null()) == ["a"]


def test_a_list_too_long_for_a_server_is_refused_before_anything_is_sent() -> None:
    spec = small("lists", fields={"sizes": "list<int64>", "tags": "list<string>"})
    where = typed.planned(spec)
    encoder = MilvusEncoder(spec, where, layout.Keys(where, ""), dialects.SERVER)
    fitting = rows(spec, ["a", "b"], sizes=[[1] * 4_096, None], tags=[None, []])
    most = RequestLimits(1_000, 1 << 20)
    assert len(list(encoder.prepare(fitting, most))) == 1
    for columns in ({"sizes": [[1], [1] * 4_097]}, {"tags": [["x"], ["x"] * 4_097]}):
        with pytest.raises(InvalidRecordError, match="4,097 elements"):
            encoder.prepare(rows(spec, ["a", "b"], **columns), most)


def test_milvus_lite_keeps_lists_longer_than_a_server(lite: Store) -> None:
    with made(lite, small(fresh("long"), fields={"sizes": "list<int64>"})) as photos:
        photos.upsert(rows(photos.spec, ["a"], sizes=[list(range(5_000))]))
        assert photos.fetch(["a"])["sizes"].to_pylist() == [list(range(5_000))]


@pytest.mark.parametrize(
    ("version", "nullable"), [("2.3.5", False), ("v2.4.15", False), ("2.5.0", True), ("2.6.3-gpu", True)]
)
def test_a_server_has_typed_columns_from_2_5_on(version: str, nullable: bool) -> None:
    assert dialects.of_server(version).nullable_fields is nullable


def test_typed_columns_are_refused_on_an_older_server(server_url: str) -> None:
    with milvus_store(server_url, columns="typed") as store, pytest.raises(UnsupportedError, match="older"):
        store.collections()
    with milvus_store(f"{server_url}?columns=dynamic") as store:
        assert isinstance(store.collections(), list)


def test_an_unknown_form_of_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="columns"):
        milvus_store(f"{lite_url(tmp_path)}?columns=wide")


def test_what_a_server_would_be_asked_for() -> None:
    spec = small("photos", fields={"n": "int64", "title": "string", "tags": "list<string>", "facts": "json"})
    where = typed.planned(replace(spec, namespaced=True))
    fields = typed.field_schemas(where, dialects.SERVER)
    params = [{pair.key: json.loads(pair.value) for pair in each.type_params} for each in fields]
    assert [each.name for each in fields] == ["n", "title", "tags"]
    assert params == [{}, {"max_length": 65_535}, {"max_length": 65_535, "max_capacity": 4_096}]
    indexes = {name: typed.index_params(column, dialects.SERVER) for name, column in where.columns.items()}
    inverted = {"index_type": "INVERTED"}
    assert indexes == {"n": inverted, "title": inverted, "tags": inverted, "facts": None}


def test_a_scalar_index_is_no_index_of_a_vector() -> None:
    descriptions = [
        milvus_pb2.IndexDescription(
            field_name=name,
            params=[common_pb2.KeyValuePair(key=key, value=value) for key, value in pairs.items()],
        )
        for name, pairs in {
            "n": {"index_type": "INVERTED"},
            "vector": {"index_type": "FLAT", "metric_type": "L2"},
        }.items()
    ]
    assert set(_described(descriptions)) == {"vector"}
