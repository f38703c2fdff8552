"""What is written as JSON lines or Parquet is what is read, for any values."""

import json
from datetime import UTC, datetime
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vecbridge.bulk.deadletters import row_values
from vecbridge.capabilities import Capabilities
from vecbridge.records import batch, canonical_json
from vecbridge.schema import CollectionSpec, Field, FieldType, VectorField
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.parquet import ParquetSource
from vecbridge.testing.strategies import columns

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)  # -0.0 is 0.0
COLUMNS = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": FLOATS,
    "string": TEXT,
    "list<string>": st.lists(TEXT, max_size=3),
    "json": st.dictionaries(TEXT, st.none() | st.integers() | st.lists(TEXT, max_size=2), max_size=3),
}
ARROW = {
    "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string(),
    "list<string>": pa.list_(pa.string()),
}  # fmt: skip
VECTORS = st.lists(st.floats(0.125, 1000, width=32), min_size=3, max_size=3)


@st.composite
def tables(draw, types):
    chosen = draw(st.lists(st.sampled_from(types), max_size=4))
    count = draw(st.integers(1, 12))
    ids = draw(
        st.lists(TEXT.filter(lambda t: t and "\0" not in t), min_size=count, max_size=count, unique=True)
    )
    rows = [{"id": id, "vector": draw(VECTORS)} for id in ids]
    for number, type in enumerate(chosen):
        rows[0][f"f{number}"] = draw(COLUMNS[type])  # so that the type can be told
        for row in rows[1:]:
            row[f"f{number}"] = draw(st.none() | COLUMNS[type])
    return {f"f{number}": type for number, type in enumerate(chosen)}, rows


ANY_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def as_read(rows, types):
    return [
        {
            key: canonical_json(json.dumps(value))
            if types.get(key) == "json" and value is not None
            else value
            for key, value in row.items()
        }
        for row in rows
    ]


@ANY_FOLDER
@given(tables(sorted(COLUMNS)), st.integers(1, 5))
def test_json_lines_come_back_with_their_types(tmp_path, read, table, batch_rows):
    types, rows = table
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    source = JsonlSource(path)
    assert source.schema().fields == types
    reading = read(source, batch_rows=batch_rows)
    assert (reading.rows, reading.letters) == (as_read(rows, types), [])


@ANY_FOLDER
@given(tables(sorted(ARROW)), st.integers(1, 5))
def test_parquet_comes_back_with_its_types(tmp_path, read, table, batch_rows):
    types, rows = table
    schema = [
        ("id", pa.string()),
        ("vector", pa.list_(pa.float32())),
        *((name, ARROW[t]) for name, t in types.items()),
    ]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), tmp_path / "a.parquet")
    source = ParquetSource(tmp_path / "a.parquet")
    assert source.schema().fields == types
    reading = read(source, batch_rows=batch_rows)
    assert (reading.rows, reading.letters) == (rows, [])


ALL_TYPES = get_args(FieldType)
EXTREMES = {
    "bool": [True, False],
    "int64": [-(2**63), 2**63 - 1],
    "float64": [5e-324, -1.7976931348623157e308],
    "string": ["", "\u2028\0\U0010ffff"],
    "timestamp": [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
    "list<string>": [[], [""]],
    "list<int64>": [[], [-(2**63), 2**63 - 1]],
    "list<float64>": [[], [5e-324, 1.7976931348623157e308, 1.0]],
    "json": ["null", f'{{"a":[1.0,{2**70},"2020-01-01T00:00:00Z"]}}'],
}


def dead_letters(path, rows, spec):
    letters = [DeadLetter(None, None, "e", row_values(rows, row, spec)) for row in range(rows.num_rows)]
    path.write_text("\n".join(letter.to_json() for letter in letters), "utf-8")
    return JsonlSource(path)


@pytest.mark.parametrize("type", ALL_TYPES)
def test_dead_letters_come_back_with_every_extreme_and_null(tmp_path, read, type):
    spec = CollectionSpec.single("c", dim=1, fields={"f": type})
    rows = batch(spec, id=["a", "b", "c"], vector=[[1], [2], [3]], f=[*EXTREMES[type], None])
    source = dead_letters(tmp_path / "a.jsonl", rows, spec)
    assert source.schema(spec).spec("c") == spec
    reading = read(source, spec)
    assert (reading.batches, reading.letters) == ([rows], [])


@ANY_FOLDER
@given(st.data())
def test_dead_letters_of_any_record_come_back_into_their_collection(tmp_path, read, data):
    types = data.draw(st.lists(st.sampled_from(ALL_TYPES), max_size=4))
    fields = tuple(Field(f"f{number}", type) for number, type in enumerate(types))
    vectors = (VectorField("image", 2), VectorField("caption", 2))
    spec = CollectionSpec("c", vectors, fields, data.draw(st.sampled_from(["string", "int64"])))
    capabilities = Capabilities(backend="any", indexes=frozenset())
    rows = batch(spec, **data.draw(columns(spec, capabilities, max_rows=5)))
    if rows.num_rows:
        reading = read(dead_letters(tmp_path / "a.jsonl", rows, spec), spec)
        assert (reading.batches, reading.letters) == ([rows], [])


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\r", "\x0b"])
def test_line_separators_inside_a_text_do_not_cut_it(tmp_path, read, separator):
    row = {"id": f"a{separator}b", "vector": [1.0], "s": separator}
    (tmp_path / "a.jsonl").write_bytes(
        json.dumps(row, ensure_ascii=separator == "\r" or separator == "\x0b").encode()
    )
    assert read(JsonlSource(tmp_path / "a.jsonl")).rows == [row]
