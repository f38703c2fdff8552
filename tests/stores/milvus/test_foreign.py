"""Collections that other programs made: opened, read and searched as they are, and never altered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import common_pb2, schema_pb2

from tests.stores.milvus.helpers import client_of, contents, fresh, random_vectors, scanned
from vecbridge.driver import Identity
from vecbridge.errors import NotFoundError, SchemaError, UnsupportedError
from vecbridge.filters import Filter, field
from vecbridge.indexes import HNSW, SCANN, Auto, IndexParams, IVFFlat
from vecbridge.query import Query
from vecbridge.records import batch
from vecbridge.schema import CollectionSpec, Field, Metric, VectorField
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus.foreign import introspected
from vecbridge.stores.milvus.layout import Keys, Layout
from vecbridge.stores.milvus.wire import Answer
from vecbridge.testing.inside import forget_last_look

COUNT = 40
VECTORS = random_vectors(COUNT, seed=6)
SCALARS: dict[str, DataType] = {
    "flag": DataType.BOOL,
    "tiny": DataType.INT8,
    "short": DataType.INT16,
    "medium": DataType.INT32,
    "long": DataType.INT64,
    "single": DataType.FLOAT,
    "double": DataType.DOUBLE,
}
ELEMENTS: dict[str, DataType] = {
    "bytes": DataType.INT8,
    "words": DataType.INT32,
    "sizes": DataType.INT64,
    "parts": DataType.FLOAT,
    "ratios": DataType.DOUBLE,
    "marks": DataType.BOOL,
}


@contextmanager
def foreign(
    store: Store,
    add_fields: Callable[[Any], None],
    rows: list[dict[str, Any]],
    *,
    index: tuple[str, str, dict[str, int]] = ("AUTOINDEX", "L2", {}),
    **options: Any,
) -> Iterator[tuple[str, MilvusClient]]:
    """A collection made by Milvus's own client."""
    name = fresh("Foreign")
    client = client_of(store)
    schema = client.create_schema(**options)
    add_fields(schema)
    kind, metric, params = index
    indexes = client.prepare_index_params()
    for each in schema.fields:
        if each.dtype == DataType.FLOAT_VECTOR:
            indexes.add_index(each.name, index_type=kind, metric_type=metric, params=params)
        elif each.dtype == DataType.BINARY_VECTOR:
            indexes.add_index(each.name, index_type="BIN_FLAT", metric_type="JACCARD")
    client.create_collection(name, schema=schema, index_params=indexes)
    try:
        client.insert(name, rows)
        yield name, client
    finally:
        client.drop_collection(name)
        client.close()


def keyed(schema: Any) -> None:
    """The least that a collection needs."""
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)


def every_type(schema: Any) -> None:
    """A text key, and a scalar field of each type."""
    schema.add_field("url", DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)
    for name, kind in SCALARS.items():
        schema.add_field(name, kind)
    schema.add_field("title", DataType.VARCHAR, max_length=200)
    schema.add_field("facts", DataType.JSON)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=8, max_length=50)
    for name, kind in ELEMENTS.items():
        schema.add_field(name, DataType.ARRAY, element_type=kind, max_capacity=8)


def typed_row(number: int) -> dict[str, Any]:
    return {
        "url": f"u{number:03d}",
        "embedding": VECTORS[number],
        "flag": number % 2 == 0,
        "tiny": number - 20,
        "short": -800 * number,
        "medium": number * 10**6,
        "long": 2**60 + number,
        "single": number / 4,
        "double": number / 3,
        "title": f'the "{number}" \\ of\n{number}',
        "facts": {"b": number, "a": [1, None]},
        "tags": [f"t{number % 4}", "all"],
        "bytes": [-number],
        "words": [number, -(2**31)],
        "sizes": [-(2**53) - number, -(2**63), 7],
        "parts": [number / 4, -0.5],
        "ratios": [-number / 3, 5e-324],
        "marks": [True],
        "More": f"m{number}",
        "nested": {"deep": [number]},
    }


def described(client: MilvusClient, name: str) -> str:
    """Everything that the server says of a collection, but for the time of its last answer."""
    told = client.describe_collection(name)
    indexes = [client.describe_index(name, each) for each in client.list_indexes(name)]
    return json.dumps([told, indexes], default=str, sort_keys=True)


def rows_of(client: MilvusClient, name: str) -> list[str]:
    found = client.query(
        name, filter='url != ""', output_fields=["*"], limit=1000, consistency_level="Strong"
    )
    return sorted(json.dumps(each, default=str, sort_keys=True) for each in found)


FILTERS: dict[str, tuple[Filter, Callable[[int], bool]]] = {
    "bool": (field("flag") == True, lambda n: n % 2 == 0),  # noqa: E712
    "bool-not": (field("flag") != True, lambda n: n % 2 == 1),  # noqa: E712
    "int8": (field("tiny") < -15, lambda n: n < 5),
    "int16": (field("short") <= -24_000, lambda n: n >= 30),
    "int32": (field("medium").isin([0, 3 * 10**6]), lambda n: n in (0, 3)),
    "int64": (field("long") > 2**60 + 36, lambda n: n > 36),
    "float": (field("single") == 2.5, lambda n: n == 10),
    "double": (field("double") >= 39 / 3, lambda n: n >= 39),
    "double-equal": (field("double") == 7 / 3, lambda n: n == 7),
    "text": (field("title") == 'the "7" \\ of\n7', lambda n: n == 7),
    "text-not-in": (
        ~field("title").isin([f'the "{n}" \\ of\n{n}' for n in range(2, COUNT)]), lambda n: n < 2
    ),
    "list": (field("tags").contains("t3"), lambda n: n % 4 == 3),
    "list-not": (~field("tags").contains("t3"), lambda n: n % 4 != 3),
    "int8s": (field("bytes").contains(-3), lambda n: n == 3),
    "int32s": (field("words").contains(-(2**31)), lambda n: True),
    "int64s": (field("sizes").contains(-(2**53) - 3), lambda n: n == 3),
    "int64s-least": (field("sizes").contains(-(2**63)) & (field("tiny") < -18), lambda n: n < 2),
    "int64s-not": (~field("sizes").contains(-(2**53) - 3), lambda n: n != 3),
    "floats": (field("parts").contains(2.25), lambda n: n == 9),
    "floats-between": (field("parts").contains(2.25 + 2**-40), lambda n: False),
    "doubles": (field("ratios").contains(-1 / 3), lambda n: n == 1),
    "empty": (field("ratios").is_empty(), lambda n: False),
    "not-empty": (~field("sizes").is_empty(), lambda n: True),
    "null": (field("title").is_null(), lambda n: False),
    "not-null": (~field("title").is_null(), lambda n: True),
    "json-null": (field("facts").is_null(), lambda n: False),
    "json-not-null": (~field("facts").is_null(), lambda n: True),
    "both": ((field("flag") == False) & (field("tiny") > 10) | (field("short") == 0),  # noqa: E712
             lambda n: (n % 2 == 1 and n > 30) or n == 0),
}  # fmt: skip


def test_a_collection_of_every_type_is_read_searched_and_filtered_and_left_as_it_was(
    store: Store,
) -> None:
    rows = [typed_row(number) for number in range(COUNT)]
    with foreign(store, every_type, rows, enable_dynamic_field=True) as (name, client):
        before, held = described(client, name), rows_of(client, name)
        photos = store.open(name)
        spec = photos.spec
        assert (spec.name, spec.id_type, spec.namespaced) == (name, "string", False)
        assert [(each.name, each.dim, each.metric) for each in spec.vectors] == [("embedding", 8, Metric.L2)]
        assert {each.name: each.type for each in spec.fields} == {
            "flag": "bool", "tiny": "int64", "short": "int64", "medium": "int64", "long": "int64",
            "single": "float64", "double": "float64", "title": "string", "facts": "json",
            "tags": "list<string>", "bytes": "list<int64>", "words": "list<int64>", "sizes": "list<int64>",
            "parts": "list<float64>", "ratios": "list<float64>", "extra": "json",
        }  # fmt: skip
        assert [(each.kind, each.subject, each.blocking) for each in photos.losses] == [
            ("field:marks", "marks", False)
        ]
        found = contents(photos)
        assert found.keys() == {f"u{number:03d}" for number in range(COUNT)}
        for number in range(COUNT):
            row = typed_row(number)
            record = found[row.pop("url")]
            assert np.array_equal(np.float32(record["embedding"]), row.pop("embedding"))
            assert record["extra"] == f'{{"More":"m{number}","nested":{{"deep":[{number}]}}}}'
            assert record["facts"] == f'{{"a":[1,null],"b":{number}}}'
            for other in ("marks", "facts", "More", "nested"):
                row.pop(other)
            assert {key: record[key] for key in row} == row
        for what, (condition, keeps) in FILTERS.items():
            wanted = [f"u{number:03d}" for number in range(COUNT) if keeps(number)]
            assert scanned(photos, filter=condition) == wanted, what
            assert photos.count(condition) == len(wanted), what
            [hits] = photos.search(Query(VECTORS[0], k=COUNT, filter=condition))
            assert sorted(hits.ids) == wanted, what
        require_reads(photos, [f"u{number:03d}" for number in range(COUNT)])
        with pytest.raises(UnsupportedError, match="marks"):
            photos.upsert(photos.fetch(["u001"]))
        assert described(client, name) == before, "reading altered the source"
        assert rows_of(client, name) == held


def require_reads(photos: Collection, ids: list[Any]) -> None:
    """Count, fetch, scan with a cursor, and search agree about what there is."""
    assert photos.count() == photos.status().rows == len(ids)
    assert photos.fetch([ids[3], ids[1]], include=[]).column("id").to_pylist() == [ids[3], ids[1]]
    first, *_ = photos.scan(include=[], batch_rows=7)
    rest = scanned(photos, cursor=first.cursor)
    assert [*first.batch.column("id").to_pylist(), *rest] == sorted(ids)
    photos.flush()
    answers = photos.search(Query(VECTORS[:5], k=1))
    assert [list(each.ids) for each in answers] == [[key] for key in ids[:5]]


def test_a_collection_without_losses_is_written_to_as_well(genuine: Store) -> None:
    def fields(schema: Any) -> None:
        every_type(schema)
        schema.fields.pop()  # the list of booleans

    rows = [{key: value for key, value in typed_row(n).items() if key != "marks"} for n in range(COUNT)]
    with foreign(genuine, fields, rows, enable_dynamic_field=True) as (name, client):
        photos = genuine.open(name)
        assert photos.losses == ()
        kept = photos.fetch(["u005", "u006"])
        columns: dict[str, Any] = {key: kept.column(key).to_pylist() for key in kept.schema.names}
        columns |= {"id": ["new", "u006"], "long": [-(2**63), 2**63 - 1], "tags": [['"', "\\"], []]}
        columns |= {
            "sizes": [[], [-(2**63), 2**63 - 1]],
            "ratios": [[], [-1e300, 0.1]],
            "bytes": [[], [-128]],
        }
        columns |= {"extra": ['{"More":"other"}', None], "title": ["", "\n"], "flag": [False, True]}
        photos.upsert(batch(photos.spec, **columns))
        assert photos.count() == COUNT + 1
        one, two = photos.fetch(["new", "u006"]).to_pylist()
        for name_, expected in columns.items():
            if name_ not in ("id", "embedding"):
                assert [one[name_], two[name_]] == expected, name_
        [seen] = client.query(name, filter='url == "new"', output_fields=["*"], consistency_level="Strong")
        assert (seen["More"], seen["long"], seen["tags"]) == ("other", -(2**63), ['"', "\\"])
        assert scanned(photos, filter=field("sizes").is_empty() & field("tags").contains('"')) == ["new"]
        assert scanned(photos, filter=field("ratios").contains(-1e300)) == ["u006"]
        assert photos.delete(["new"]) == 1
        assert photos.count() == COUNT


def test_times_with_a_zone_and_nullable_lists_are_read_filtered_and_written(lite: Store) -> None:
    def fields(schema: Any) -> None:
        keyed(schema)
        schema.add_field("taken", DataType.TIMESTAMPTZ, nullable=True)
        schema.add_field(
            "sizes", DataType.ARRAY, element_type=DataType.INT64, max_capacity=8, nullable=True
        )  # fmt: skip

    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(2020, 5, 17, 10, 0, 0, 1, tzinfo=UTC), None]
    sizes: list[Any] = [[], [-1], None]
    rows = [
        {"key": n, "embedding": VECTORS[n], "taken": time and time.isoformat(), "sizes": size}
        for n, (time, size) in enumerate(zip(times, sizes, strict=True))
    ]
    with foreign(lite, fields, rows) as (name, _):
        photos = lite.open(name)
        assert photos.spec.fields == (Field("taken", "timestamp"), Field("sizes", "list<int64>"))
        photos.upsert(
            batch(photos.spec, id=[3], embedding=VECTORS[:1], taken=[datetime.max.replace(tzinfo=UTC)])
        )
        taken, size = field("taken"), field("sizes")
        assert [each["taken"] for each in contents(photos).values()] == [
            *times,
            datetime.max.replace(tzinfo=UTC),
        ]
        assert [each["sizes"] for each in contents(photos).values()] == [*sizes, None]
        for condition, expected in {
            taken == times[1]: [1],
            taken != times[1]: [0, 3],
            taken < times[1]: [0],
            taken <= times[1]: [0, 1],
            ~taken.isin([times[0]]): [1, 3],
            taken.isin([times[0], times[1]]): [0, 1],
            taken.is_null(): [2],
            size.is_empty(): [0],
            ~size.is_empty(): [1],
            size.is_null(): [2, 3],
            ~size.contains(-1): [0],
        }.items():
            assert scanned(photos, filter=condition) == expected, condition


def test_what_milvus_lite_would_merge_into_the_old_row_is_not_written(lite: Store) -> None:
    rows = [{"key": n, "embedding": VECTORS[n], "more": n} for n in range(COUNT)]
    with foreign(lite, keyed, rows, enable_dynamic_field=True) as (name, _):
        photos = lite.open(name)
        with pytest.raises(UnsupportedError, match="dynamic field"):
            photos.upsert(batch(photos.spec, id=[1], embedding=VECTORS[:1], extra=[None]))
        assert contents(photos)[1]["extra"] == '{"more":1}'
    with foreign(lite, keyed, rows[:0]) as (name, _):
        photos = lite.open(name)
        photos.upsert(batch(photos.spec, id=[1], embedding=VECTORS[:1]))
        assert scanned(photos) == [1]


def test_every_vector_that_is_not_read_is_named() -> None:
    kinds = schema_pb2.DataType
    pairs = [common_pb2.KeyValuePair(key="dim", value="16")]
    fields = [
        schema_pb2.FieldSchema(name="key", data_type=kinds.Int64, is_primary_key=True),
        schema_pb2.FieldSchema(name="dense", data_type=kinds.FloatVector, type_params=pairs),
        schema_pb2.FieldSchema(name="odd", data_type=kinds.FloatVector, type_params=pairs),
        schema_pb2.FieldSchema(name="bits", data_type=kinds.BinaryVector, type_params=pairs),
        schema_pb2.FieldSchema(name="half", data_type=kinds.Float16Vector, type_params=pairs),
        schema_pb2.FieldSchema(name="words", data_type=kinds.SparseFloatVector),
    ]
    described = introspected(
        schema_pb2.CollectionSchema(name="Odd", fields=fields),
        {"dense": {"index_type": "FLAT", "metric_type": "IP"}, "odd": {"metric_type": "MAX_SIM"}},
        Identity("1"),
        merges_upserts=False,
    )
    assert [vector.name for vector in described.spec.vectors] == ["dense"]
    kinds = [gap.kind for gap in described.losses]
    assert kinds == ["vector:odd", "vector:bits", "vector:half", "sparse"]
    assert "bits" in described.read_only


def test_keys_that_the_server_makes_are_read_and_cannot_be_written(store: Store) -> None:
    def fields(schema: Any) -> None:
        schema.add_field("key", DataType.INT64, is_primary=True, auto_id=True)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)
        schema.add_field("id", DataType.INT64)

    rows = [{"embedding": VECTORS[number], "id": number} for number in range(COUNT)]
    with foreign(store, fields, rows, auto_id=True) as (name, _):
        photos = store.open(name)
        assert photos.spec.id_type == "int64"
        assert photos.spec.column_names == ("id", "embedding", "field_id")
        ids = scanned(photos)
        assert len(set(ids)) == COUNT
        assert sorted(each["field_id"] for each in contents(photos).values()) == list(range(COUNT))
        assert scanned(photos, filter=field("field_id") == 3) == [ids[3]]
        [hits] = photos.search(Query(VECTORS[4], k=1, include=["field_id"]))
        assert hits[0].record == {"id": hits.ids[0], "field_id": 4}
        with pytest.raises(UnsupportedError, match="auto_id"):
            photos.upsert(photos.fetch(ids[:1]))
        assert photos.count() == COUNT


INDEXES: list[tuple[tuple[str, str, dict[str, int]], IndexParams, Metric]] = [
    (("SCANN", "L2", {"nlist": 4}), SCANN(nlist=4), Metric.L2),
    (("IVF_FLAT", "IP", {"nlist": 4}), IVFFlat(nlist=4), Metric.DOT),
    (("HNSW", "COSINE", {"M": 8, "efConstruction": 64}), HNSW(m=8, ef_construction=64), Metric.COSINE),
    (("AUTOINDEX", "COSINE", {}), Auto(), Metric.COSINE),
]


@pytest.mark.parametrize(("index", "shown", "metric"), INDEXES, ids=[each[0][0] for each in INDEXES])
def test_an_index_of_another_program_is_shown_as_it_is_and_searched(
    genuine: Store, index: tuple[str, str, dict[str, int]], shown: IndexParams, metric: Metric
) -> None:
    rows = [{"key": number - 5, "embedding": VECTORS[number]} for number in range(COUNT)]
    with foreign(genuine, keyed, rows, index=index) as (name, client):
        before = described(client, name)
        photos = genuine.open(name)
        assert photos.spec.vector.metric == metric
        assert photos.spec.vector.index == shown
        assert photos.losses == ()
        photos.flush()
        [hits] = photos.search(Query(VECTORS[7], k=COUNT, include=["embedding"]))
        scores = hits.scores if metric.higher_is_better else -hits.scores
        assert set(hits.ids.tolist()) == set(range(-5, COUNT - 5))
        assert np.all(np.diff(scores) <= 1e-5)
        if metric is not Metric.DOT:
            assert hits.ids[0] == 2
        assert scanned(photos, batch_rows=9) == list(range(-5, COUNT - 5))
        assert described(client, name) == before


@pytest.mark.parametrize("kind", ["IVF_FLAT", "HNSW", "AUTOINDEX"])
def test_on_milvus_lite_an_index_of_another_program_is_searched(lite: Store, kind: str) -> None:
    params = {"IVF_FLAT": {"nlist": 4}, "HNSW": {"M": 8, "efConstruction": 64}}.get(kind, {})
    rows = [{"key": number, "embedding": VECTORS[number]} for number in range(COUNT)]
    with foreign(lite, keyed, rows, index=(kind, "L2", params)) as (name, _):
        photos = lite.open(name)
        require_reads(photos, list(range(COUNT)))


def test_a_partition_key_and_partitions_do_not_hide_rows(genuine: Store) -> None:
    def fields(schema: Any) -> None:
        keyed(schema)
        schema.add_field("tenant", DataType.VARCHAR, max_length=20, is_partition_key=True)

    rows = [{"key": n, "embedding": VECTORS[n], "tenant": f"t{n % 3}"} for n in range(COUNT)]
    with foreign(genuine, fields, rows) as (name, _):
        photos = genuine.open(name)
        require_reads(photos, list(range(COUNT)))
        assert scanned(photos, filter=field("tenant") == "t1") == list(range(1, COUNT, 3))
        photos.upsert(batch(photos.spec, id=[1], embedding=VECTORS[1:2], tenant=["t1"]))
        assert photos.count() == COUNT


def test_a_collection_of_binary_vectors_alone_is_refused_by_name(genuine: Store) -> None:
    def only(schema: Any) -> None:
        schema.add_field("key", DataType.INT64, is_primary=True)
        schema.add_field("bits", DataType.BINARY_VECTOR, dim=16)

    rows = [{"key": 1, "bits": b"ab"}]
    with foreign(genuine, only, rows) as (name, _), pytest.raises(SchemaError, match="bits"):
        genuine.open(name)


def test_a_collection_that_is_not_loaded_is_loaded_and_one_without_index_says_what_it_lacks(
    genuine: Store,
) -> None:
    rows = [{"key": number, "embedding": VECTORS[number]} for number in range(COUNT)]
    with foreign(genuine, keyed, rows) as (name, client):
        client.release_collection(name)
        photos = genuine.open(name)
        require_reads(photos, list(range(COUNT)))
        client.release_collection(name)
        client.drop_index(name, client.list_indexes(name)[0])
        bare = genuine.open(name)
        assert bare.spec.vector.index == Auto()
        with pytest.raises(Exception, match="index"):
            bare.count()


def recreated(client: MilvusClient, name: str, dim: int) -> None:
    """Another collection in the place of one, made by Milvus's own client."""
    client.drop_collection(name)
    schema = client.create_schema()
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dim)
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type="AUTOINDEX", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes)


def test_a_foreign_collection_that_was_replaced_by_one_of_the_same_shape_is_noticed(genuine: Store) -> None:
    with foreign(genuine, keyed, [{"key": 1, "embedding": VECTORS[1]}]) as (name, client):
        photos = genuine.open(name)
        assert photos.count() == 1
        recreated(client, name, 8)
        for call in (photos.count, lambda: scanned(photos), lambda: photos.delete([1])):
            forget_last_look(photos)
            with pytest.raises(NotFoundError, match="replaced"):
                call()
        assert genuine.open(name).count() == 0


def test_on_milvus_lite_a_foreign_collection_that_was_replaced_by_one_of_another_shape_is_noticed(
    lite: Store,
) -> None:
    with foreign(lite, keyed, [{"key": 1, "embedding": VECTORS[1]}]) as (name, client):
        photos = lite.open(name)
        assert photos.count() == 1
        recreated(client, name, 4)
        forget_last_look(photos)
        with pytest.raises(NotFoundError, match="replaced"):
            photos.count()


def test_a_foreign_name_that_is_unknown_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.open("No_Such_Collection")


@pytest.mark.parametrize("dense", [True, False], ids=["placeholders", "left out"])
def test_null_vectors_are_told_apart_whether_a_server_sends_placeholders_or_leaves_them_out(
    dense: bool,
) -> None:
    valid = [False, True, False, True]
    rows = [VECTORS[n] if there else np.zeros(8, np.float32) for n, there in enumerate(valid)]
    kept = [row for row, there in zip(rows, valid, strict=True) if dense or there]
    vectors = schema_pb2.FieldData(field_name="embedding", valid_data=valid)
    vectors.vectors.float_vector.data.extend(np.concatenate(kept).tolist())
    keys = schema_pb2.FieldData(field_name="key")
    keys.scalars.long_data.data.extend(range(4))
    spec = CollectionSpec.foreign("Foreign", (VectorField("embedding", 8),), (), "int64")
    layout = Layout("key", "int64", "int64", False, {})
    found, unfit = Answer([keys, vectors], "key").fitting(spec, Keys(layout, ""), ("embedding",))
    assert found.to_pydict() == {"id": [1, 3], "embedding": [VECTORS[n].tolist() for n in (1, 3)]}
    assert {key: reason.kind for key, reason in unfit.items()} == {0: "row:no_vector", 2: "row:no_vector"}
