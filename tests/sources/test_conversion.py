"""No value becomes another in silence: it is exact, or json, or left out by name."""

import base64
import datetime
import decimal
import json
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.parquet import ParquetSource

BYTES = b"\x00\xffb'"
MARK = {"$binary": base64.b64encode(BYTES).decode()}
MOMENT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
UUID = uuid.UUID(int=5)
WORDS = pa.dictionary(pa.int8(), pa.string())


@pytest.fixture
def source(tmp_path):
    def write(**columns):
        rows = len(next(iter(columns.values())))
        table = {"id": [f"r{row}" for row in range(rows)], "vector": [[1.0, 2.0]] * rows} | columns
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
        return ParquetSource(tmp_path / "a.parquet")

    return write


NESTED = {
    "struct": (pa.array([{"a": BYTES}]), {"a": MARK}),
    "list": (pa.array([[BYTES, None]]), [MARK, None]),
    "map": (pa.array([[("k", BYTES)]], pa.map_(pa.string(), pa.binary())), [["k", MARK]]),
    "fixed": (pa.array([{"a": BYTES}], pa.struct([("a", pa.binary(4))])), {"a": MARK}),
    "large": (pa.array([{"a": [BYTES]}], pa.struct([("a", pa.list_(pa.large_binary()))])), {"a": [MARK]}),
    "time": (pa.array([{"a": MOMENT}]), {"a": "2020-01-02T03:04:05.000000Z"}),
    "nanoseconds": (
        pa.array([[1]], pa.list_(pa.timestamp("ns", "UTC"))), ["1970-01-01 00:00:00.000000001Z"]
    ),
    "date": (pa.array([{"a": MOMENT.date()}]), {"a": "2020-01-02"}),
    "time of day": (pa.array([{"a": 1}], pa.struct([("a", pa.time64("ns"))])), {"a": "00:00:00.000000001"}),
    "duration": (pa.array([{"a": 1}], pa.struct([("a", pa.duration("ns"))])), {"a": 1}),
    "decimal": (pa.array([{"a": decimal.Decimal("1.10")}]), {"a": "1.10"}),
    "uint64": (pa.array([{"a": 2**64 - 1}], pa.struct([("a", pa.uint64())])), {"a": 2**64 - 1}),
    "dictionary": (pa.array([{"a": "x"}], pa.struct([("a", WORDS)])), {"a": "x"}),
    "half": (pa.array([{"a": np.float16(0.5)}], pa.struct([("a", pa.float16())])), {"a": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("kind", NESTED)
def test_values_inside_others_become_exact_json(source, read, kind):
    column, value = NESTED[kind]
    found = source(deep=column)
    assert found.schema().fields == {"deep": "json"}
    reading = read(found)
    assert reading.letters == []
    assert json.loads(reading.rows[0]["deep"]) == value
    assert "b'" not in reading.rows[0]["deep"]
    noted = any("$binary" in note for note in found.schema().notes)
    assert noted == (kind in ("struct", "list", "map", "fixed", "large"))


@pytest.mark.parametrize("type", [pa.binary(), pa.large_binary(), pa.binary(4), pa.binary_view()], ids=str)
def test_a_column_of_bytes_is_left_out_by_name_or_goes_into_a_json_field(source, read, type):
    found = source(blob=pa.array([BYTES, None], type))
    assert found.schema().fields == {}
    assert "$binary" in found.schema().dropped["blob"]
    spec = CollectionSpec.single("c", dim=2, fields={"blob": "json"})
    assert found.schema(spec).dropped == {}
    reading = read(found, spec)
    assert [row["blob"] and json.loads(row["blob"]) for row in reading.rows] == [MARK, None]


def test_bytes_come_back_from_dead_letters_as_they_were(source, read, tmp_path):
    spec = CollectionSpec.single("c", dim=2, fields={"deep": "json"})
    columns = {"vector": [[0.0, 0.0], [1.0], [1.0, 2.0]], "deep": [{"a": BYTES}] * 3}
    reading = read(source(**columns), spec)
    assert [json.loads(letter.to_json())["record"]["deep"] for letter in reading.letters] == [{"a": MARK}] * 2
    letters = [
        DeadLetter(each.id, each.source, each.error, each.record | {"vector": [1.0, 2.0]})
        for each in reading.letters
    ]
    (tmp_path / "l.jsonl").write_text("\n".join(letter.to_json() for letter in letters))
    back = read(JsonlSource(tmp_path / "l.jsonl"), spec)
    assert {row["deep"] for row in back.rows} == {reading.rows[0]["deep"]}


FLAT = {
    "decimal": (pa.array([decimal.Decimal("12345678901234567890.10")]), "string", "12345678901234567890.10"),
    "date": (pa.array([MOMENT.date()]), "string", "2020-01-02"),
    "time": (pa.array([1], pa.time64("ns")), "string", "00:00:00.000000001"),
    "dictionary": (pa.array([7], pa.int64()).dictionary_encode(), "int64", 7),
    "half": (pa.array([np.float16(0.1)]), "float64", float(np.float16(0.1))),
    "single": (pa.array([0.1], pa.float32()), "float64", float(np.float32(0.1))),
    "bool": (pa.array([True]), "bool", True),
    "uuid": (pa.array([UUID], pa.uuid()), "string", str(UUID)),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), "bool", True),
    "json": (pa.array(['{"b": 1}'], pa.json_()), "json", '{"b":1}'),
    "duration": (pa.array([1500], pa.duration("ms")), "int64", 1500),
}


@pytest.mark.parametrize("kind", FLAT)
def test_values_of_a_column_are_exact(source, read, kind):
    column, type, value = FLAT[kind]
    found = source(x=column)
    assert found.schema().fields == {"x": type}
    reading = read(found)
    assert reading.letters == []
    assert reading.rows[0]["x"] == value
    assert [note for note in found.schema().notes if "'x'" in note] == (
        ["durations in column 'x' become whole numbers of ms"] if kind == "duration" else []
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_dead_letters(source, read, value):
    reading = read(source(deep=pa.array([{"a": value}, {"a": 0.5}])))
    assert reading.ids == ["r1"]
    assert "deep" in reading.errors["0"]


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "[9223372036854775808]", '{"a": 18446744073709551616}']
)
def test_large_integers_of_json_lines_keep_every_digit(tmp_path, read, text):
    (tmp_path / "a.jsonl").write_text(f'{{"id": "a", "vector": [1, 2], "x": {text}}}')
    reading = read(JsonlSource(tmp_path / "a.jsonl"))
    assert reading.rows[0]["x"] == text.replace(" ", "")


def test_booleans_beside_numbers_stay_what_they_are(tmp_path, read):
    lines = [{"id": key, "vector": [1, 2], "x": value} for key, value in (("a", True), ("b", 1), ("c", 1.0))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [row["x"] for row in read(JsonlSource(tmp_path / "a.jsonl")).rows] == ["true", "1", "1.0"]


def test_digits_are_not_numbers_where_text_goes_into_a_json_field(source, read):
    spec = CollectionSpec.single("c", dim=2, fields={"deep": "json"})
    assert [row["deep"] for row in read(source(deep=["08001", "28001"]), spec).rows] == ['"08001"', '"28001"']
    assert [row["deep"] for row in read(source(deep=["28001", "[1]"]), spec).rows] == ["28001", "[1]"]
