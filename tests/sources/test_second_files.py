"""Files that go into a collection that exists: its types hold, and what does not fit are dead letters."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.inference import SourceSchema, merged
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.parquet import ParquetSource

TYPES = {
    "flag": "bool", "n": "int64", "x": "float64", "s": "string", "at": "timestamp", "tags": "list<string>",
    "whole": "list<int64>", "real": "list<float64>", "deep": "json",
}  # fmt: skip
SPEC = CollectionSpec.single("c", dim=2, fields=TYPES)
VECTOR = [1.0, 2.0]


@pytest.fixture
def jsonl(tmp_path):
    def write(*rows, **options):
        lines = [row if isinstance(row, str) else json.dumps({"vector": VECTOR} | row) for row in rows]
        (tmp_path / "b.jsonl").write_text("\n".join(lines), "utf-8")
        return JsonlSource(tmp_path / "b.jsonl", **options)

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(columns, **options):
        rows = len(next(iter(columns.values())))
        table = {"id": [f"r{row}" for row in range(rows)], "vector": [VECTOR] * rows} | columns
        pq.write_table(pa.table(table), tmp_path / "b.parquet")
        return ParquetSource(tmp_path / "b.parquet", **options)

    return write


def test_null_fits_every_type_in_json_lines(jsonl, read):
    found = jsonl({"id": "a"} | dict.fromkeys(TYPES), {"id": "b"} | dict.fromkeys(TYPES))
    assert found.schema(SPEC).fields == TYPES
    reading = read(found, SPEC)
    assert (reading.ids, reading.letters) == (["a", "b"], [])
    assert {row[name] for row in reading.rows for name in TYPES} == {None}


@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.float64(), pa.int32(), pa.bool_()], ids=str)
def test_null_fits_every_type_in_parquet_whatever_the_column_is_called_there(parquet, read, kind):
    found = parquet({name: pa.nulls(2, kind) for name in TYPES})
    assert found.schema(SPEC).fields == TYPES
    reading = read(found, SPEC)
    assert (reading.ids, reading.letters) == (["r0", "r1"], [])
    assert {row[name] for row in reading.rows for name in TYPES} == {None}


@pytest.mark.parametrize("make", ["jsonl", "parquet"])
def test_null_columns_that_the_collection_lacks_are_left_out_by_name(request, read, make):
    write = request.getfixturevalue(make)
    found = write({"id": "r0", "new": None}) if make == "jsonl" else write({"new": pa.nulls(1)})
    schema = found.schema(SPEC)
    assert (dict(schema.fields), list(schema.dropped)) == ({}, ["new"])
    assert read(found, SPEC).ids == ["r0"]
    assert found.schema().fields == {"new": "string"}  # a new collection gets it


EXACT = [
    ("x", pa.array([3, None]), [3.0, None]),
    ("n", pa.array([3.0, None]), [3, None]),  # pandas' integers beside a missing one
    ("real", pa.array([[1, 2], []]), [[1.0, 2.0], []]),
    ("whole", pa.array([[1.0, 2.0], None]), [[1, 2], None]),
    ("tags", pa.array([[], None], pa.list_(pa.null())), [[], None]),
    (
        "s",
        pa.array([datetime(2020, 1, 2, tzinfo=UTC), None], pa.timestamp("ms", "UTC")),
        ["2020-01-02 00:00:00.000Z", None],
    ),
]


@pytest.mark.parametrize(("name", "column", "values"), EXACT, ids=[each[0] for each in EXACT])
def test_exact_values_of_parquet_fit(parquet, read, name, column, values):
    found = parquet({name: column})
    assert found.schema(SPEC).fields == {name: TYPES[name]}
    reading = read(found, SPEC)
    assert reading.letters == []
    assert [row[name] for row in reading.rows] == values
    assert [type(row[name]) for row in reading.rows] == [type(value) for value in values]


def test_exact_values_of_json_lines_fit(jsonl, read):
    reading = read(jsonl({"id": "a", "x": 3, "n": 3.0, "real": [1, 0.5], "whole": [1.0, 2]}), SPEC)
    [row] = reading.rows
    assert (row["x"], row["n"], row["real"], row["whole"]) == (3.0, 3, [1.0, 0.5], [1, 2])
    assert type(row["n"]) is int


ANYTHING = {
    "bool": (pa.array([True, None]), "true"),
    "int": (pa.array([2**53 + 1, None]), "9007199254740993"),
    "float": (pa.array([0.5, None]), "0.5"),
    "text": (pa.array(["a b", None]), '"a b"'),
    "digits": (pa.array(["0123", "12"]), '"0123"'),
    "list": (pa.array([["x"], None]), '["x"]'),
    "struct": (pa.array([{"a": 1}, None]), '{"a":1}'),
    "json text": (pa.array(['{"a": 1}', None]), '{"a":1}'),
}


@pytest.mark.parametrize("kind", ANYTHING)
def test_anything_fits_json(parquet, read, kind):
    column, value = ANYTHING[kind]
    reading = read(parquet({"deep": column}), SPEC)
    assert reading.letters == []
    assert reading.rows[0]["deep"] == value
    assert reading.rows[1]["deep"] == (None if column[1].as_py() is None else '"12"')


MISFITS = [
    ("x", pa.array([2**53 + 1, 1])),
    ("n", pa.array([0.5, 1.0])),
    ("n", pa.array([2.0**63, 1.0])),
    ("n", pa.array([2**63, 1], pa.uint64())),
    ("whole", pa.array([[0.5], [1.0]])),
    ("real", pa.array([[2**53 + 1], [1]])),
    ("at", pa.array(["soon", "2020-01-02T00:00:00Z"])),
]


@pytest.mark.parametrize(("name", "column"), MISFITS, ids=[f"{name} {column[0]}" for name, column in MISFITS])
def test_a_value_that_does_not_fit_costs_its_row_alone(parquet, read, tmp_path, name, column):
    reading = read(parquet({name: column}), SPEC)
    assert reading.ids == ["r1"]
    [letter] = reading.letters
    assert letter.source == f"{tmp_path / 'b.parquet'}:0"  # the file and the row
    assert name in letter.error
    assert letter.record[name] == column[0].as_py()


def test_the_types_of_several_new_files_ignore_those_that_hold_nulls():
    def file(type, untyped=False):
        return SourceSchema("string", {"vector": 2}, {"n": type}, untyped=frozenset(["n"] if untyped else []))

    nothing = file("string", untyped=True)
    assert merged([nothing, file("int64")]).fields == {"n": "int64"}
    assert merged([file("timestamp"), nothing, file("timestamp")]).fields == {"n": "timestamp"}
    assert merged([nothing, file("int64"), file("float64")]).fields == {"n": "float64"}
    assert merged([nothing, nothing]).fields == {"n": "string"}


def test_a_mended_dead_letter_has_the_names_of_the_collection_whatever_refused_it(jsonl, read, tmp_path):
    options = {"id_column": "sku", "vectors": {"clip": "vector"}}
    rows = [
        {"sku": "a", "clip": [1, 2], "n": 1},
        {"sku": "b", "clip": [1], "n": 2},  # refused by the source
        {"sku": "c", "clip": [0, 0], "n": 3},  # refused by the check of the batch
        {"sku": 4, "clip": [1, 2], "n": 4},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = CollectionSpec.single("c", dim=2, fields={"n": "int64"})
    letters = read(JsonlSource(tmp_path / "a.jsonl", **options), spec).letters
    assert [set(letter.record) for letter in letters] == [{"id", "vector", "n"}] * 3
    mended = [
        DeadLetter(letter.id, letter.source, letter.error, letter.record | {"id": f"m{n}", "vector": [3, 4]})
        for n, letter in enumerate(letters)
    ]
    for given in (options, {}):  # with the options of the first run, and without
        found = jsonl(*(letter.to_json() for letter in mended), **given)
        assert found.schema(spec).spec("c") == spec
        reading = read(found, spec)
        assert (sorted(row["n"] for row in reading.rows), reading.letters) == ([2, 3, 4], [])


def test_timestamps_of_dead_letters_keep_their_type_in_a_new_collection(jsonl, read):
    at = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    record = {"id": "a", "vector": VECTOR, "at": at, "note": "2020", "s": "2020-01-02T03:04:05Z"}
    letters = [
        DeadLetter("a", "x:1", "e", record).to_json(),
        DeadLetter("b", "x:2", "e", record | {"id": "b", "at": None}).to_json(),
    ]
    found = jsonl(*letters)
    assert found.schema().fields == {"at": "timestamp", "note": "string", "s": "string"}
    assert [row["at"] for row in read(found).rows] == [at, None]
    plain = jsonl({"id": "a", "at": "2020-01-02T03:04:05.000678Z"}, letters[0])
    assert plain.schema().fields["at"] == "string"  # of lines that are none, nobody said it


def test_columns_get_the_same_names_in_every_run(jsonl):
    keys = ["a b", "a-b", "a.b", "a_b", "ä b"]
    found = jsonl({"id": "r"} | dict.fromkeys(keys, 1))
    assert dict(found.schema().columns) == {
        "a b": "a_b", "a-b": "a_b_2", "a.b": "a_b_3", "a_b": "a_b_4", "ä b": "f_b"
    }  # fmt: skip
    spec = CollectionSpec.single("c", dim=2, fields={"a_b": "int64"})
    assert found.schema(spec).columns["a b"] == "a_b_2"  # the collection's own field comes first
