"""Records from JSON lines."""

import json
from datetime import UTC, datetime

import pytest

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec, Field, VectorField
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.jsonl import JsonlSource


@pytest.fixture
def source(tmp_path):
    def write(*lines, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text(
            "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines), "utf-8"
        )
        return JsonlSource(path, **options)

    return write


def row(id, **fields):
    return {"id": id, "vector": [1.0, 2.0], **fields}


def test_what_is_written_is_what_is_read_with_types_from_every_line(source, read):
    rows = [
        row("a", n=1, x=1, s="", tags=[], deep={"b": [1, None], "a": 2**70}, flag=True),
        row("b", n=None, x=0.5, s="ñ", tags=["t", ""], deep=None, flag=False),
        row("c"),
    ]
    found = source(*rows)
    schema = found.schema()
    assert (schema.id_type, schema.vectors) == ("string", {"vector": 2})
    assert schema.fields == {
        "n": "int64", "x": "float64", "s": "string", "tags": "list<string>", "deep": "json", "flag": "bool"
    }  # fmt: skip
    reading = read(found)
    assert reading.letters == []
    assert reading.rows[0] == rows[0] | {"x": 1.0, "deep": '{"a":1180591620717411303424,"b":[1,null]}'}
    assert reading.rows[1] == rows[1]
    assert reading.rows[2] == row("c", n=None, x=None, s=None, tags=None, deep=None, flag=None)


def test_a_bad_line_is_one_dead_letter_with_its_number_and_costs_no_other_line(source, read):
    bad = {
        "{broken": "not a record",
        "[1, 2]": "not a JSON object",
        '{"id": "x", "id": "y", "vector": [1, 2]}': "twice",
        '{"id": "x", "vector": [1, NaN]}': "NaN",
        '{"id": "x", "vector": [1, 1e999]}': "float64",
        '{"id": "x", "vector": [1, 1e39]}': "float32",
        f'{{"id": "x", "vector": [1, 1{"0" * 400}]}}': "float32",
        '{"id": "x", "vector": [1, 2, 3]}': "3 dimensions",
        '{"id": "x", "vector": [1, true]}': "not a list of numbers",
        '{"id": "x", "vector": [1, "2"]}': "not a list of numbers",
        '{"id": "x", "vector": [0, 0]}': "zero",
        '{"id": "x"}': "not a list of numbers",
        '{"vector": [1, 2]}': "the id is null or missing",
        '{"id": 7, "vector": [1, 2]}': "not a string",
        '{"id": "", "vector": [1, 2]}': "empty",
        '{"id": "\\ud800", "vector": [1, 2]}': "surrogate",
        "[" * 200_000: "not a record",
    }
    goods = [row(f"g{i}") for i in range(len(bad) * 2)]
    reading = read(source(*bad, *goods), batch_rows=5)
    assert reading.ids == [each["id"] for each in goods]
    assert len(reading.letters) == len(bad)
    for number, problem in enumerate(bad.values(), 1):
        assert problem in reading.errors[str(number)], number


def test_a_value_that_does_not_fit_the_collection_is_a_dead_letter_with_its_record(source, read):
    spec = CollectionSpec.single("c", dim=2, fields={"n": "int64", "tags": "list<string>"})
    rows = [
        row("a", n="1"),
        row("b", n=1.5),
        row("c", tags=["x", None]),
        row("d", tags="x"),
        row("e", m=1),
        row("f", n=3),
    ]
    reading = read(source(*rows), spec)
    assert reading.ids == ["f"]
    assert {letter.id for letter in reading.letters} == set("abcde")
    for letter in reading.letters:
        assert letter.record["id"] == letter.id
        json.loads(letter.to_json())


def test_an_id_that_comes_again_comes_in_a_later_batch(source, read):
    reading = read(source(row("a", n=1), row("b", n=2), row("a", n=3), row("a", n=4)))
    assert [batch.column("n").to_pylist() for batch in reading.batches] == [[1, 2], [3], [4]]
    assert reading.letters == []


def test_dead_letters_stand_for_their_record(source, read):
    letters = [
        DeadLetter("a", "x:1", "the server said no", row("a", n=1)).to_json(),
        DeadLetter("b", "b.jpg", "the file is empty").to_json(),
    ]
    reading = read(source(*letters, row("c", n=2)))
    assert reading.ids == ["a", "c"]
    assert "the file is empty" in reading.errors["2"]


@pytest.mark.parametrize("key", ["embedding", "emb", "values", "anything"])
def test_the_vector_is_found_by_name_or_as_the_only_one(source, read, key):
    reading = read(source({"_id": "a", key: [1, 2], "n": 1}))
    assert reading.rows == [{"id": "a", "vector": [1.0, 2.0], "n": 1}]


def test_several_vectors_are_named_and_other_number_lists_are_fields(source, read):
    lines = [{"key": "a", "img": [1, 2], "txt": [1, 2, 3], "box": [1, 2, 3, 4], "id": "old"}]
    with pytest.raises(SchemaError, match="vectors="):
        source(*lines, id_column="key").schema()
    found = source(*lines, id_column="key", vectors={"img": "image", "txt": "text"})
    assert found.schema().vectors == {"image": 2, "text": 3}
    assert read(found).rows == [
        {"id": "a", "image": [1, 2], "text": [1, 2, 3], "box": [1, 2, 3, 4], "id_2": "old"}
    ]


def test_integer_ids_are_int64_and_odd_ones_dead_letters(source, read):
    reading = read(source(row(1), row(-5), row(2**63), row(True), row("x"), row(1.0), row(3), row(4), row(5)))
    assert reading.ids == [1, -5, 3, 4, 5]
    assert sorted(reading.errors) == ["3", "4", "5", "6"]


def test_blank_lines_a_byte_order_mark_and_a_missing_last_line_end_are_fine(tmp_path, read):
    path = tmp_path / "a.jsonl"
    line = json.dumps(row("a")).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line.replace(b'"a"', b'"b"'))
    assert read(JsonlSource(path)).ids == ["a", "b"]


def test_a_line_beyond_the_limit_is_a_dead_letter_and_never_held(source, read):
    long = json.dumps(row("long", s="x" * 17 * 2**20))
    reading = read(source(row("a"), long, row("b")))
    assert reading.ids == ["a", "b"]
    assert "too long" in reading.errors["2"]


def test_batches_have_the_size_asked_for(source, read):
    reading = read(source(*(row(str(i)) for i in range(25))), batch_rows=10)
    assert [batch.num_rows for batch in reading.batches] == [10, 10, 5]


@pytest.mark.parametrize("lines", [[""], ["{}"], ['{"vector": [1]}'], ['{"id": "a"}'], ["nonsense"]])
def test_a_file_without_ids_or_vectors_is_refused(source, lines):
    with pytest.raises(SchemaError):
        source(*lines).schema()


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        JsonlSource(tmp_path / "no.jsonl").schema()


BOXES = [
    ({"box": [1, 2]}, "list<int64>"),
    ({"box": [1, 2.5]}, "list<float64>"),
    ({"box": [2**53 + 1, 0.5]}, "json"),
    ({"box": [2**63]}, "json"),
    ({"box": [1, None]}, "json"),
    ({"box": [True]}, "json"),
    ({"box": []}, "list<string>"),
]


@pytest.mark.parametrize(("fields", "type"), BOXES, ids=[str(fields["box"]) for fields, _ in BOXES])
def test_lists_of_numbers_are_fields_beside_a_vector_that_was_named(source, read, fields, type):
    found = source(row("a", **fields), row("b"), vectors={"vector": "vector"})
    assert found.schema().fields == {"box": type}
    value = fields["box"] if type != "json" else json.dumps(fields["box"], separators=(",", ":"))
    assert [each["box"] for each in read(found).rows] == [value, None]


def test_lists_of_numbers_widen_and_an_empty_one_is_any(source):
    found = source(row("a", x=[1], y=[], z=[]), row("b", x=[0.5], y=[7], z=3), vectors={"vector": "vector"})
    assert found.schema().fields == {"x": "list<float64>", "y": "list<int64>", "z": "json"}


def test_lists_of_numbers_are_json_beside_a_vector_that_was_guessed(source, read):
    found = source(row("a", box=[1, 2]))
    assert found.schema().fields == {"box": "json"}
    assert read(found).rows == [row("a", box="[1,2]")]


TYPED = CollectionSpec.single(
    "c", dim=2, fields={"taken": "timestamp", "box": "list<float64>", "note": "string", "deep": "json"}
)


def test_the_types_of_a_collection_hold(source, read):
    text = "2020-05-17T12:00:00.123456+02:00"
    found = source(row("a", taken=text, box=[1, 2], note=text, deep="2020"), row("b", box=[]))
    assert found.schema().fields == {"taken": "string", "box": "json", "note": "string", "deep": "string"}
    assert found.schema(TYPED).fields == {field.name: field.type for field in TYPED.fields}
    reading = read(found, TYPED)
    moment = datetime(2020, 5, 17, 10, 0, 0, 123456, tzinfo=UTC)
    assert reading.rows == [
        row("a", taken=moment, box=[1.0, 2.0], note=text, deep='"2020"'),
        row("b", taken=None, box=[], note=None, deep=None),
    ]


BAD_TIMES = {
    '"2020-05-17"': "no time zone",
    '"2020-05-17T12:00:00"': "no time zone",
    '"2020-05-17T12:00:00.1234567Z"': "finer than microseconds",
    '"0001-01-01T00:00:00+01:00"': "years 1 to 9999",
    '"soon"': "no timestamp",
    "1589716800": "no timestamp",
    "true": "",
    "[]": "no timestamp",
}


def test_what_is_no_timestamp_with_an_offset_is_a_dead_letter_with_its_line(source, read):
    lines = [
        f'{{"id": "x{place}", "vector": [1, 2], "taken": {text}}}' for place, text in enumerate(BAD_TIMES)
    ]
    reading = read(source(*lines, row("good", taken="2020-05-17T12:00:00Z")), TYPED)
    assert reading.ids == ["good"]
    assert len(reading.errors) == len(BAD_TIMES)
    for number, problem in enumerate(BAD_TIMES.values(), 1):
        assert problem in reading.errors[str(number)], number
        assert "'taken'" in reading.errors[str(number)]


def test_times_are_cut_to_the_microsecond_when_asked(source, read):
    lines = [row("a", taken="2020-05-17T12:00:00.123456789Z", note="0.123456789")]
    [found] = read(source(*lines, truncate_times=True), TYPED).rows
    assert found["taken"] == datetime(2020, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)
    assert found["note"] == "0.123456789"


def test_a_null_of_json_is_told_from_null_in_dead_letters_alone(source, read):
    lines = [DeadLetter("a", None, "e", row("a", deep=None)).to_json(), row("b", deep=None)]
    assert [each["deep"] for each in read(source(*lines), TYPED).rows] == ["null", None]


def test_a_collection_says_which_of_several_columns_are_its_vectors(source, read):
    vectors = (VectorField("image", 2), VectorField("caption", 3))
    spec = CollectionSpec("c", vectors, (Field("box", "list<int64>"),))
    line = {"id": "a", "image": [1.0, 2.0], "caption": [1.0, 2.0, 3.0], "box": [1, 2]}
    found = source(line)
    assert found.schema(spec).vectors == {"image": 2, "caption": 3}
    assert read(found, spec).rows == [line]
