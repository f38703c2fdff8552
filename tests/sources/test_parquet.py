"""Records from Parquet files."""

import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.records import batch, stamp
from vecbridge.schema import CollectionSpec, EmbedderIdentity
from vecbridge.sources.parquet import ParquetSource

VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.fixture
def source(tmp_path):
    def write(columns, *, options=None, **keywords):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / "a.parquet", **(options or {}))
        return ParquetSource(tmp_path / "a.parquet", **keywords)

    return write


def test_every_type_has_its_field(source, read):
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, 678)
    found = source(
        {
            "id": ["a", "b", "c"],
            "vector": VECTORS,
            "small": pa.array([1, None, 3], pa.int8()),
            "big": pa.array([1, None, 2**63 - 1], pa.uint64()),
            "single": pa.array([0.5, None, 1.5], pa.float32()),
            "half": pa.array(np.array([0.5, 1, 1.5], np.float16)),
            "flag": [True, None, False],
            "word": pa.array(["x", None, ""]).dictionary_encode(),
            "large": pa.array(["x", None, ""], pa.large_string()),
            "tags": pa.array([["t"], None, []], pa.large_list(pa.string())),
            "when": pa.array([moment, None, moment]),
            "price": pa.array([decimal.Decimal("0.10"), None, decimal.Decimal("2.00")]),
            "deep": [{"b": 1, "a": [1, None]}, None, {"b": 2, "a": []}],
            "numbers": [[1, 2], None, []],
            "nothing": pa.nulls(3),
            "blob": [b"\x00", None, b""],
        }
    )
    schema = found.schema()
    assert schema.fields == {
        "small": "int64", "big": "int64", "single": "float64", "half": "float64", "flag": "bool",
        "word": "string", "large": "string", "tags": "list<string>", "when": "string", "price": "string",
        "deep": "json", "numbers": "json", "nothing": "string",
    }  # fmt: skip
    assert list(schema.dropped) == ["blob"]
    reading = read(found)
    assert reading.letters == []
    assert reading.rows[0] == {
        "id": "a", "vector": [1.0, 2.0], "small": 1, "big": 1, "single": 0.5, "half": 0.5, "flag": True,
        "word": "x", "large": "x", "tags": ["t"], "when": "2020-01-02 03:04:05.000678", "price": "0.10",
        "deep": '{"a":[1,null],"b":1}', "numbers": "[1,2]", "nothing": None,
    }  # fmt: skip
    assert {value for key, value in reading.rows[1].items() if key not in ("id", "vector", "half")} == {None}
    assert (reading.rows[2]["tags"], reading.rows[2]["word"], reading.rows[2]["big"]) == ([], "", 2**63 - 1)


@pytest.mark.parametrize(
    "type",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.float16()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 2),
    ],
    ids=str,
)
def test_vectors_of_every_layout_are_read(source, read, type):
    vectors = pa.array([np.array(each, np.float16) for each in VECTORS], type)
    reading = read(source({"id": ["a", "b", "c"], "embedding": vectors}))
    assert [row["vector"] for row in reading.rows] == VECTORS


def test_a_bad_row_is_one_dead_letter_with_its_number_and_costs_no_other_row(source, read):
    vectors = [
        [1, 2],
        [1, 2, 3],
        None,
        [np.nan, 1],
        [0, 0],
        [1, None],
        [1e39, 1],
        [1, 2],
        [1, 2],
        [1, 2],
        [3, 4],
    ]
    ids = ["a", *"bcdefg", None, "", "x" * 513, "z"]
    numbers = [1.0] * 10 + [2.0]
    table = {"id": ids, "vector": pa.array(vectors, pa.list_(pa.float64())), "n": numbers}
    spec = CollectionSpec.single("c", dim=2, fields={"n": "float64"})
    reading = read(source(table), spec, batch_rows=4)
    assert reading.ids == ["a", "z"]
    assert sorted(map(int, reading.errors)) == list(range(1, 10))
    assert "3 dimensions" in reading.errors["1"]
    assert "null" in reading.errors["2"]
    for letter in reading.letters:
        assert json.loads(letter.to_json())["record"]["n"] == 1.0


def test_values_beyond_the_types_are_dead_letters(source, read):
    table = {"id": ["a", "b"], "vector": VECTORS[:2], "n": pa.array([2**63, 5], pa.uint64())}
    reading = read(source(table))
    assert reading.ids == ["b"]
    assert "int64" in reading.errors["0"]
    spec = CollectionSpec.single("c", dim=2, fields={"n": "float64"})
    table["n"] = pa.array([2**53 + 1, 5])
    assert read(source(table), spec).ids == ["b"]


def test_null_elements_in_lists_of_strings_are_dead_letters(source, read):
    reading = read(source({"id": ["a", "b"], "vector": VECTORS[:2], "tags": [["x", None], ["y"]]}))
    assert reading.ids == ["b"]


def test_a_snapshot_s_own_columns_and_model_come_back(source, read, tmp_path):
    identity = EmbedderIdentity("m", "r", 2, "p")
    spec = CollectionSpec.single("c", dim=2, fields={"n": "int64"}, embedder=identity)
    written = stamp(batch(spec, id=["a"], vector=[[1, 2]], n=[5]), identity)
    found = source(pa.Table.from_batches([written]))
    assert found.schema().spec("c") == spec
    assert read(found).batches[0].column("n").equals(written.column("n"))


def test_integer_ids_and_other_columns_keep_their_names(source, read):
    found = source(
        {"uuid": pa.array([1, 2, 3], pa.uint32()), "emb": VECTORS, "id_": [1, 2, 3], "a.b": [1, 2, 3]}
    )
    assert found.schema().id_type == "int64"
    assert found.schema().columns == {"uuid": "id", "emb": "vector", "a.b": "a_b"}
    assert read(found).rows[0] == {"id": 1, "vector": [1, 2], "id_": 1, "a_b": 1}


def test_columns_that_the_collection_does_not_have_are_never_read(source, read):
    spec = CollectionSpec.single("c", dim=2)
    assert read(source({"id": ["a"], "vector": VECTORS[:1], "n": [1]}), spec).rows == [
        {"id": "a", "vector": [1, 2]}
    ]


def test_ids_of_another_type_than_the_collection_s_are_refused(source, read):
    with pytest.raises(SchemaError, match="ids are int64"):
        read(source({"id": [1], "vector": VECTORS[:1]}), CollectionSpec.single("c", dim=2))


def test_rows_come_in_batches_across_row_groups(source, read):
    count = 1000
    table = {"id": pa.array(range(count)), "vector": [[1.0, float(i)] for i in range(count)]}
    reading = read(source(table, options={"row_group_size": 300}), batch_rows=128)
    assert reading.ids == list(range(count))
    assert max(batch.num_rows for batch in reading.batches) == 128


def test_a_damaged_page_ends_the_file_with_a_dead_letter_after_the_good_rows(tmp_path, read):
    path = tmp_path / "a.parquet"
    random = np.random.default_rng(0)
    table = pa.table(
        {"id": [f"{i:06}" for i in range(4000)], "vector": list(random.random((4000, 8), np.float32))}
    )
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[len(data) * 5 // 8 : len(data) * 5 // 8 + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    reading = read(ParquetSource(path), batch_rows=500)
    assert 0 < len(reading.ids) < 4000
    [letter] = reading.letters
    assert letter.source == f"{path}:{len(reading.ids)}"
    assert "from here on" in letter.error


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"id,vector\na,1\n", None], ids=["empty", "magic", "csv", "absent"]
)
def test_what_is_no_parquet_file_is_refused(tmp_path, content):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a Parquet file"):
        ParquetSource(path)


@pytest.mark.parametrize(
    "columns", [{"id": ["a"]}, {"n": [1]}, {"id": ["a"], "p": VECTORS[:1], "q": VECTORS[:1]}]
)
def test_a_file_without_a_single_vector_is_refused(source, columns):
    with pytest.raises(SchemaError):
        source(columns).schema()


def test_an_empty_table_has_no_rows(source, read):
    table = pa.table({"id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32(), 2))})
    assert read(source(table)).batches == []


ZONES = {"a": "UTC", "b": "Europe/Madrid", "c": "-07:00"}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_with_a_time_zone_are_timestamps_of_any_unit(source, read, unit):
    moment = datetime.datetime(1969, 12, 31, 23, 59, 58, tzinfo=datetime.UTC)
    columns = {name: pa.array([moment, None], pa.timestamp(unit, zone)) for name, zone in ZONES.items()}
    found = source({"id": ["x", "y"], "vector": VECTORS[:2], **columns})
    assert found.schema().fields == dict.fromkeys(ZONES, "timestamp")
    reading = read(found)
    assert reading.rows[0] == {"id": "x", "vector": VECTORS[0], **dict.fromkeys(ZONES, moment)}
    assert reading.rows[1] == {"id": "y", "vector": VECTORS[1], **dict.fromkeys(ZONES)}


def nanoseconds(*values, zone="Europe/Madrid"):
    return {
        "id": list("abcdef"[: len(values)]),
        "vector": [[1.0, 2.0]] * len(values),
        "taken": pa.array(values, pa.timestamp("ns", zone)),
    }


def test_times_finer_than_microseconds_are_dead_letters_naming_the_row(source, read):
    reading = read(source(nanoseconds(1_500, 2_000, -1, None)))
    assert reading.ids == ["b", "d"]
    assert reading.errors == dict.fromkeys(("0", "2"), "field 'taken' is finer than microseconds")
    records = [json.loads(letter.to_json())["record"]["taken"] for letter in reading.letters]
    assert records == ["1970-01-01 00:00:00.000001500Z", "1969-12-31 23:59:59.999999999Z"]


def test_times_are_cut_to_the_microsecond_when_asked(source, read):
    reading = read(source(nanoseconds(1_500, 2_000, -1, None), truncate_times=True))
    epoch, step = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(microseconds=1)
    assert [row["taken"] for row in reading.rows] == [epoch + step, epoch + 2 * step, epoch - step, None]
    assert reading.letters == []


def test_times_outside_of_the_years_that_there_are_become_dead_letters(source, read):
    table = nanoseconds(1, 1, 1) | {"taken": pa.array([2**62, -(2**62), 0], pa.timestamp("us", "UTC"))}
    reading = read(source(table))
    assert reading.ids == ["c"]
    assert "years 1 to 9999" in reading.errors["0"]
    for letter in reading.letters:
        json.loads(letter.to_json())


def test_a_dead_letter_holds_times_as_iso_text(source, read):
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    table = {
        "id": ["a", "b", "c"],
        "vector": [[0.0, 0.0], [1.0], [0.0, 0.0]],
        "taken": pa.array([moment] * 3, pa.timestamp("s", "Europe/Madrid")),
        "deep": [{"x": moment}] * 3,
    }
    spec = CollectionSpec.single("c", dim=2, fields={"taken": "timestamp", "deep": "json"})
    letters = read(source(table), spec).letters
    assert len(letters) == 3
    for letter in letters:
        record = json.loads(letter.to_json())["record"]
        assert record["taken"] == "2020-01-02T03:04:05.000000Z"
        assert record["deep"] == {"x": "2020-01-02T03:04:05.000000Z"}


def test_times_of_a_collection_made_with_text_stay_text(source, read):
    spec = CollectionSpec.single("c", dim=2, fields={"taken": "string"})
    found = source(nanoseconds(1_000, 1_500, zone="UTC"))
    assert found.schema(spec).fields == {"taken": "string"}
    assert [row["taken"] for row in read(found, spec).rows] == [
        "1970-01-01 00:00:00.000001000Z",
        "1970-01-01 00:00:00.000001500Z",
    ]


def test_a_time_without_a_zone_is_text_and_refused_for_a_timestamp(source):
    found = source(nanoseconds(1, zone=None))
    assert found.schema().fields == {"taken": "string"}
    spec = CollectionSpec.single("c", dim=2, fields={"taken": "timestamp"})
    with pytest.raises(SchemaError, match=r"'taken' has no time zone.*assume_timezone"):
        found.schema(spec)


def test_text_is_read_as_the_collection_s_timestamps_and_json(source, read):
    spec = CollectionSpec.single("c", dim=2, fields={"taken": "timestamp", "deep": "json"})
    texts = {"taken": ["2020-01-02T03:04:05+01:00", "soon"], "deep": ['{"a": 1}', None]}
    found = source({"id": ["a", "b"], "vector": VECTORS[:2]} | texts)
    assert found.schema(spec).fields == {"taken": "timestamp", "deep": "json"}
    reading = read(found, spec)
    moment = datetime.datetime(2020, 1, 2, 2, 4, 5, tzinfo=datetime.UTC)
    assert reading.rows == [{"id": "a", "vector": VECTORS[0], "taken": moment, "deep": '{"a":1}'}]
    assert "'soon'" in reading.errors["1"]


LISTS = {
    "small": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
    "fixed": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
    "big": pa.array([[2**63], None, [2**63 - 1]], pa.large_list(pa.uint64())),
    "half": pa.array([np.array([0.5], np.float16), None, []], pa.list_(pa.float16())),
    "wide": pa.array([[1e300, -0.0], None, []], pa.large_list(pa.float64())),
}


def test_lists_of_numbers_are_fields_beside_a_vector_that_was_named(source, read):
    table = {"id": ["a", "b", "c"], "vector": VECTORS} | LISTS
    ints, floats = dict.fromkeys(["small", "fixed", "big"], "list<int64>"), ["half", "wide"]
    found = source(table, vectors={"vector": "vector"})
    assert found.schema().fields == ints | dict.fromkeys(floats, "list<float64>")
    reading = read(found)
    assert [row["id"] for row in reading.rows] == ["b", "c"]
    assert [reading.rows[0][name] for name in LISTS] == [None] * 5
    assert [reading.rows[1][name] for name in LISTS] == [[], [3, 4], [2**63 - 1], [], []]
    assert list(reading.errors) == ["0"]
    assert set(source(table).schema().fields.values()) == {"json"}


def test_lists_of_numbers_take_the_type_of_the_collection(source, read):
    types = {"small": "list<float64>", "fixed": "json", "wide": "list<float64>"}
    spec = CollectionSpec.single("c", dim=2, fields=types)
    table = {"id": ["a", "b", "c"], "vector": VECTORS} | {name: LISTS[name] for name in types}
    found = source(table)
    assert found.schema(spec).fields == types
    assert read(found, spec).rows[0] == {
        "id": "a", "vector": VECTORS[0], "small": [1.0, 2.0], "fixed": "[1,2]", "wide": [1e300, 0.0]
    }  # fmt: skip


@pytest.mark.parametrize(("type", "read_as"), [("list<int64>",) * 2, ("list<string>", "list<float64>")])
def test_lists_of_another_type_than_the_collection_s_are_never_rounded(source, read, type, read_as):
    spec = CollectionSpec.single("c", dim=2, fields={"x": type})
    found = source({"id": ["a"], "vector": VECTORS[:1], "x": pa.array([[0.5]], pa.list_(pa.float64()))})
    assert found.schema(spec).fields == {"x": read_as}
    reading = read(found, spec)
    assert (reading.ids, list(reading.errors)) == ([], ["0"])


@pytest.mark.parametrize("bad", [[None], [np.nan], [np.inf]], ids=str)
def test_bad_elements_are_dead_letters_with_their_row(source, read, bad):
    table = {"id": ["a", "b"], "vector": VECTORS[:2], "x": pa.array([[1.0], bad], pa.list_(pa.float64()))}
    reading = read(source(table, vectors={"vector": "vector"}))
    assert (reading.ids, list(reading.errors)) == (["a"], ["1"])
