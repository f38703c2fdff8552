"""Files of other forms: JSON arrays, printed records, data frames with an index."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.errors import SchemaError
from vecbridge.sources import elements
from vecbridge.sources.choosing import Selection
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.parquet import ParquetSource

RECORDS = [{"id": f"r{n}", "vector": [1.0, float(n)], "deep": {"a": ["],[", n]}} for n in range(5)]

FORMS = {
    "array": json.dumps(RECORDS),
    "pretty array": json.dumps(RECORDS, indent=2),
    "array of lines": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "records over lines": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "broken after a brace": "\n".join(
        json.dumps(record, indent=None).replace("{", "{\n", 1) for record in RECORDS
    ),
    "lines": "\n".join(map(json.dumps, RECORDS)),
}


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_and_records_over_several_lines_are_recognised(
    tmp_path, read, monkeypatch, form, encoding, chunk
):
    monkeypatch.setattr(elements, "_CHUNK", chunk)
    (tmp_path / "a.jsonl").write_text("\n" + FORMS[form] if encoding == "utf-8" else FORMS[form], encoding)
    reading = read(JsonlSource(tmp_path / "a.jsonl"))
    assert reading.letters == []
    assert [row | {"deep": json.loads(row["deep"])} for row in reading.rows] == RECORDS


def test_a_bad_element_is_a_dead_letter_with_its_number(tmp_path, read):
    values = [
        *map(json.dumps, RECORDS[:2]),
        "5",
        '{"id": "x", "id": "y"}',
        '{"id": "z"}',
        json.dumps(RECORDS[2]),
    ]
    (tmp_path / "a.json").write_text("[" + ",\n".join(values) + "]")
    reading = read(JsonlSource(tmp_path / "a.json"))
    assert reading.ids == ["r0", "r1", "r2"]
    assert "not a JSON object" in reading.errors["3"]
    assert "twice" in reading.errors["4"]
    assert "not a list of numbers" in reading.errors["5"]


TORN = {"in a record": -9, "after a comma": -len(json.dumps(RECORDS[4])) - 2, "before the end": -1}


@pytest.mark.parametrize("place", TORN)
def test_an_array_that_breaks_off_gives_what_is_before_and_says_where(tmp_path, read, place):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS)[: TORN[place]])
    reading = read(JsonlSource(tmp_path / "a.json"))
    kept = 5 if place == "before the end" else 4
    assert reading.ids == [record["id"] for record in RECORDS[:kept]]
    [(number, error)] = reading.errors.items()
    assert (number, "from here on" in error) == (str(kept + 1), True)


def test_a_missing_comma_and_what_follows_an_array_are_said(tmp_path, read):
    first, second = map(json.dumps, RECORDS[:2])
    for text, kept in ((f"[{first} {second}]", 1), (f"[{first}] {second}", 1)):
        (tmp_path / "a.json").write_text(text)
        reading = read(JsonlSource(tmp_path / "a.json"))
        assert (len(reading.rows), len(reading.letters)) == (kept, 1)


def test_a_first_line_that_is_a_list_costs_no_other_line(tmp_path, read):
    (tmp_path / "a.jsonl").write_text("\n".join(["[1, 2]", *map(json.dumps, RECORDS)]))
    reading = read(JsonlSource(tmp_path / "a.jsonl"))
    assert (len(reading.ids), list(reading.errors)) == (5, ["1"])


@pytest.mark.parametrize(
    "bad",
    [['{"id": "x",'], ["{broken}", "[]"], ['{"id": "x', "y"], ["{", '{"id": "x"}'], ["nothing", '"id": 1']],
    ids=str,
)
def test_bad_first_lines_cost_no_other_line(tmp_path, read, bad):
    (tmp_path / "a.jsonl").write_text("\n".join([*bad, *map(json.dumps, RECORDS)]))
    reading = read(JsonlSource(tmp_path / "a.jsonl"))
    assert (len(reading.ids), list(reading.errors)) == (5, [str(n + 1) for n in range(len(bad))])


# ----------------------------------------------------------------------------------------------- pandas


@pytest.fixture
def frame(tmp_path):
    def write(index=None, columns=None, rows=3, **options):
        found = pd.DataFrame({"vector": [[1.0, 2.0]] * rows} | (columns or {}), index=index)
        found.to_parquet(tmp_path / "f.parquet")
        return ParquetSource(tmp_path / "f.parquet", **options)

    return write


NAMED = {
    "text": pd.Index(["x", "y", "z"], name="sku"),
    "int": pd.Index([7, 5, 9], name="sku"),
    "text without a name": pd.Index(["x", "y", "z"]),
    "range": pd.RangeIndex(10, 16, 2, name="sku"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_an_index_that_identifies_the_rows_is_the_id(frame, read, kind):
    index = NAMED[kind]
    found = frame(index)
    reading = read(found)
    assert reading.ids == index.tolist()
    assert reading.rows[0] == {"id": index[0], "vector": [1.0, 2.0]}
    assert any("ids are pandas' index" in note for note in found.schema().notes)
    assert read(frame(index), batch_rows=2).ids == index.tolist()


OTHERS = {
    "default": None,
    "slice of another frame": pd.RangeIndex(5, 8),
    "what filtering left": pd.Index([4, 9, 2]),
    "a name twice": pd.Index(["x", "x", "y"], name="sku"),
    "floats": pd.Index([0.5, 1.5, 2.5], name="sku"),
    "two levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["p", "q"]),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_indexes_are_none_and_ids_are_row_numbers(frame, read, kind):
    found = frame(OTHERS[kind])
    reading = read(found)
    assert reading.ids == [0, 1, 2]
    assert any("row numbers, 0 to 2" in note for note in found.schema().notes)
    kept = {"a name twice": {"sku"}, "floats": {"sku"}, "two levels": {"p", "q"}}.get(kind, set())
    assert set(found.schema().fields) == kept
    assert list(found.schema().dropped) == (["__index_level_0__"] if kind == "what filtering left" else [])


def test_a_column_of_ids_comes_before_an_index_and_an_index_can_be_named(frame, read):
    columns = {"id": ["a", "b", "c"]}
    found = frame(pd.Index(["x", "y", "z"]), columns)
    assert read(found).rows[0] == {"id": "a", "vector": [1.0, 2.0]}
    assert list(found.schema().dropped) == ["__index_level_0__"]
    named = frame(pd.Index(["x", "y", "z"]), columns, id_column="__index_level_0__")
    assert read(named).rows[0] == {"id": "x", "vector": [1.0, 2.0], "id_2": "a"}
    ranged = frame(pd.RangeIndex(3, name="row"), columns, id_column="row")
    assert read(ranged).ids == [0, 1, 2]
    dropped = frame(pd.Index(["x", "y", "z"], name="sku"), columns, selection=Selection(drop=["id", "sku"]))
    assert read(dropped).ids == [0, 1, 2]


@pytest.mark.parametrize(
    "values", [[1.0, None, 2.0], [True, False, True], [b"a", b"b", b"c"], [[1], [2], [3]]], ids=str
)
def test_values_that_are_no_ids_are_refused_by_column_and_row(frame, values):
    with pytest.raises(
        SchemaError, match=r"f\.parquet: column 'id' is .*ids are whole numbers or text: row 0 has"
    ):
        frame(columns={"id": values}).schema()


@pytest.mark.parametrize("metadata", [b"no JSON", b"[]", b'{"index_columns": 5}', b'{"columns": [{}]}'])
def test_metadata_that_cannot_be_understood_are_no_index(tmp_path, read, metadata):
    table = pa.table({"vector": [[1.0, 2.0]]}).replace_schema_metadata({b"pandas": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(ParquetSource(tmp_path / "a.parquet")).ids == [0]
