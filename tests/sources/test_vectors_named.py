"""Which columns are vectors: a name that was given is believed, a guess may be unsure."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbridge.errors import SchemaError
from vecbridge.schema import CollectionSpec, VectorField
from vecbridge.sources.choosing import Selection
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.parquet import ParquetSource

NAMED = {"clip": "vector"}


@pytest.fixture
def write(tmp_path):
    """Writes the same rows as either kind of file."""

    def write(kind, rows, type=None, **options):
        if kind == "jsonl":
            path = tmp_path / "a.jsonl"
            path.write_text("\n".join(map(json.dumps, rows)))
            return JsonlSource(path, **options)
        columns = {
            key: [row.get(key) for row in rows] for key in dict.fromkeys(k for row in rows for k in row)
        }
        arrays = {key: pa.array(column, type if key == "clip" else None) for key, column in columns.items()}
        pq.write_table(pa.table(arrays), tmp_path / "a.parquet", row_group_size=700)
        return ParquetSource(tmp_path / "a.parquet", **options)

    return write


def rows(*vectors, name="clip"):
    return [
        {"id": f"r{number}"} | ({} if each is None else {name: each}) for number, each in enumerate(vectors)
    ]


KINDS = pytest.mark.parametrize("kind", ["jsonl", "parquet"])


@KINDS
@pytest.mark.parametrize(
    "type",
    [pa.list_(pa.int8()), pa.list_(pa.uint64()), pa.list_(pa.int32(), 2), pa.large_list(pa.int64())],
    ids=str,
)
def test_vectors_of_integers_are_vectors(write, read, kind, type):
    found = write(kind, rows([1, 2], [3, 4]), type, vectors=NAMED)
    assert found.schema().vectors == {"vector": 2}
    assert [row["vector"] for row in read(found).rows] == [[1.0, 2.0], [3.0, 4.0]]


@KINDS
def test_a_column_that_begins_with_1000_nulls_is_a_vector_and_those_rows_are_dead_letters(write, read, kind):
    found = write(kind, rows(*[None] * 1500, [1.0, 2.0], [3.0, 4.0]), pa.list_(pa.float32()), vectors=NAMED)
    assert found.schema().vectors == {"vector": 2}
    reading = read(found)
    assert reading.ids == ["r1500", "r1501"]
    assert len(reading.letters) == 1500
    assert all("'vector' is null" in letter.error for letter in reading.letters)


@KINDS
@pytest.mark.parametrize("share", [2, 4, 50])
def test_a_column_that_most_rows_lack_is_a_vector_if_it_is_named_or_has_a_usual_name(
    write, read, kind, share
):
    vectors = [[1.0, 2.0] if number % share == share - 1 else None for number in range(100)]
    for options, name in (({"vectors": NAMED}, "clip"), ({}, "embedding")):
        found = write(kind, rows(*vectors, name=name), **options)
        assert found.schema().vectors == {"vector": 2}
        reading = read(found)
        assert (len(reading.ids), len(reading.letters)) == (100 // share, 100 - 100 // share)


@KINDS
def test_the_length_is_the_collection_s_where_any_row_has_it(write, read, kind):
    found = write(kind, rows([1.0], [2.0], [1.0, 2.0]), vectors=NAMED)
    spec = CollectionSpec.single("c", dim=2)
    assert found.schema().vectors == {"vector": 1}
    assert found.schema(spec).vectors == {"vector": 2}
    reading = read(found, spec)
    assert (reading.ids, sorted(len(letter.record["vector"]) for letter in reading.letters)) == (
        ["r2"],
        [1, 1],
    )


FOUND = {
    "absent": ([None, None], "column 'clip'"),
    "text": (["[1, 2]", "x"], "text ('[1, 2]')"),
    "numbers": ([5, 6], "a number (5)"),
    "objects": ([{"values": 1}, None], "an object"),
}


@KINDS
@pytest.mark.parametrize("case", FOUND)
def test_the_message_says_what_was_found_and_denies_nothing(write, kind, case):
    values, says = FOUND[case]
    found = write(kind, [row | {"other": 1} for row in rows(*values)], vectors=NAMED)
    with pytest.raises(SchemaError) as refused:
        found.schema()
    text = str(refused.value)
    assert says in text
    denied = "no column 'clip'" in text or "no line has a column 'clip'" in text
    assert denied == (case == "absent")
    if case != "absent":
        assert ("a.jsonl:1 has" if kind == "jsonl" else "row 0 has") in text


def test_a_column_of_nulls_is_there(write):
    found = write("parquet", [*rows([1.0]), {"id": "x"}], vectors={"late": "vector"})
    with pytest.raises(SchemaError, match="no column 'late'"):
        found.schema()
    with pytest.raises(SchemaError, match=r"column 'clip' .* is null in every row"):
        write("parquet", [{"id": "a", "clip": None}], pa.list_(pa.float32()), vectors=NAMED).schema()
    with pytest.raises(SchemaError, match="column 'clip' is null in every line"):
        write("jsonl", [{"id": "a", "clip": None}], vectors=NAMED).schema()


@KINDS
def test_a_guess_that_is_unsure_lists_the_candidates_with_their_rows(write, kind):
    two = [{"id": f"r{n}", "p": [0.5, 1.5], "q": [0.5] * 3 if n % 4 == 0 else None} for n in range(8)]
    assert write(kind, two).schema().vectors == {"vector": 2}  # p, which most rows have
    for row in two:
        row["q"] = [0.5] * 3
    with pytest.raises(
        SchemaError, match=r"p \(2 numbers in 8 of 8 rows\), q \(3 numbers in 8 of 8 rows\).*vectors="
    ):
        write(kind, two).schema()


@KINDS
def test_the_only_vector_of_a_collection_takes_the_column_whatever_its_name(write, read, kind):
    spec = CollectionSpec("c", (VectorField("body", 2),))
    for options, name in (({"vectors": NAMED}, "clip"), ({}, "emb")):
        found = write(kind, rows([1.0, 2.0], name=name), **options)
        assert found.schema(spec).vectors == {"body": 2}
        assert read(found, spec).rows == [{"id": "r0", "body": [1.0, 2.0]}]


SECOND = {"caption_emb": [0.5, 1.5], "embedding2": [1, 2], "features": [0.5] * 16}


@KINDS
@pytest.mark.parametrize("name", SECOND)
def test_a_second_vector_column_is_left_out_by_name_with_the_way_to_take_it(write, read, kind, name):
    records = [{"id": f"r{n}", "vector": [1.0, 2.0], name: SECOND[name]} for n in range(3)]
    found = write(kind, records)
    schema = found.schema()
    assert name not in schema.fields
    assert f"--vector vector --vector {name}" in schema.dropped[name]
    assert read(found).rows[0] == {"id": "r0", "vector": [1.0, 2.0]}
    both = write(kind, records, vectors={"vector": "vector", name: "second"})
    assert both.schema().vectors == {"vector": 2, "second": len(SECOND[name])}
    assert read(both).rows[0]["second"] == SECOND[name]
    kept = write(kind, records, selection=Selection(fields=[name]), vectors={"vector": "vector"})
    assert kept.schema().fields == {name: "list<int64>" if name == "embedding2" else "list<float64>"}
    assert read(kept).rows[0][name] == SECOND[name]


@KINDS
def test_short_lists_that_become_json_are_said(write, kind):
    found = write(kind, [{"id": "a", "vector": [1.0, 2.0], "box": [1, 2, 3, 4]}])
    assert found.schema().fields == {"box": "json"}
    [note] = [note for note in found.schema().notes if "'box'" in note]
    assert "--vector" in note
