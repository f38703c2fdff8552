"""metadata.csv beside the pictures, as Hugging Face's ImageFolder has it."""

import json

import pytest
from PIL import Image

from vecbridge.schema import CollectionSpec
from vecbridge.sources.cells import CellTypes, value
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import PICTURE_FIELDS, ImageSource


def folder(tmp_path, text, *, pictures=("a.png", "b.png"), name="metadata.csv", jsonl=()):
    for picture in pictures:
        (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / picture)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    if jsonl:
        (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in jsonl))
    return ImageSource(tmp_path)


def metadata(source):
    return {item.id: dict(item.metadata) for item in source if not isinstance(item, DeadLetter)}


def letters(source):
    return [item for item in source if isinstance(item, DeadLetter)]


def extra(source):
    return {name: type for name, type in source.fields().items() if name not in PICTURE_FIELDS}


ROWS = 'file_name,title,year,score,flag\na.png,"one, two",2020,1,True\nb.png,,2021,0.5,false\n'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-8"), (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")],
)
def test_rows_join_their_pictures_with_types(tmp_path, delimiter, end, mark, encoding):
    text = ROWS.replace("one, two", "one@ two").replace(",", delimiter).replace("@", ",")
    source = folder(tmp_path, mark + text.replace("\n", end).encode(encoding))
    assert extra(source) == {"title": "string", "year": "int64", "score": "float64", "flag": "bool"}
    assert metadata(source) == {
        "a.png": {"title": "one, two", "year": 2020, "score": 1.0, "flag": True},
        "b.png": {"title": None, "year": 2021, "score": 0.5, "flag": False},
    }
    assert letters(source) == []
    assert source.skipped == 0


@pytest.mark.parametrize(
    ("cells", "type", "values"),
    [
        (["1", "-20", "0"], "int64", [1, -20, 0]),
        (["007", "1"], "string", ["007", "1"]),
        (["+1", "2"], "string", ["+1", "2"]),
        ([str(2**63 - 1), "1"], "int64", [2**63 - 1, 1]),
        ([str(2**63), "1"], "string", [str(2**63), "1"]),
        ([str(2**53 + 1), "0.5"], "string", [str(2**53 + 1), "0.5"]),
        (["9" * 5000, "1"], "string", ["9" * 5000, "1"]),
        (["1", "2.5", ""], "float64", [1.0, 2.5, None]),
        (["1e3", "2"], "float64", [1000.0, 2.0]),
        (["1e999"], "string", ["1e999"]),
        (["nan", "1"], "string", ["nan", "1"]),
        (["true", "False", "TRUE"], "bool", [True, False, True]),
        (["true", "1"], "string", ["true", "1"]),
        (["", " "], "string", [None, None]),
        (["2024-05-17", "x"], "string", ["2024-05-17", "x"]),
        (["1,5"], "string", ["1,5"]),
    ],
)
def test_types_of_cells_lose_nothing(cells, type, values):
    types = CellTypes()
    for cell in cells:
        types.add(cell)
    assert types.type == type
    assert [value(cell, types.type) for cell in cells] == values


def test_the_types_of_a_collection_hold(tmp_path):
    source = folder(tmp_path, "file_name,code,year,taken\na.png,12,2020,2024-05-17T12:00:00Z\n")
    fields = {"code": "string", "year": "float64", "taken": "timestamp"}
    old = CollectionSpec.single("c", dim=2, fields=fields)
    known = {name: type for name, type in PICTURE_FIELDS.items() if name != "sha256"}  # it has none
    assert source.fields(old) == known | fields
    assert metadata(source)["a.png"] == {"code": "12", "year": 2020.0, "taken": "2024-05-17T12:00:00Z"}


def test_two_tables_give_a_column_one_type(tmp_path):
    folder(tmp_path / "train", "file_name,n\na.png,1\nb.png,2\n")
    folder(tmp_path / "test", "file_name,n\na.png,x1\nb.png,2\n")
    source = ImageSource(tmp_path)
    assert extra(source) == {"n": "string"}
    found = metadata(source)
    assert (found["train/a.png"], found["test/a.png"]) == ({"n": "1"}, {"n": "x1"})


def test_a_cell_may_hold_line_ends_and_the_rows_after_it_keep_their_places(tmp_path):
    source = folder(tmp_path, 'file_name,says\na.png,"one\ntwo ""2"""\nb.png,three\n')
    assert metadata(source) == {"a.png": {"says": 'one\ntwo "2"'}, "b.png": {"says": "three"}}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"a.png,1,2\n", "3 cells, and 2 names"),
        (b"a.png\n", "1 cells, and 2 names"),
        (b'a.png,"x"y\n', "closing quotation mark"),
        (b"a.png,\xff\n", "not UTF-8"),
        (b"a.png," + b"x" * 200_000 + b"\n", "131,072 characters"),
        (b",5\n", "no file_name"),
        (b"b.png,4\n", "already"),
    ],
    ids=["cells", "cell", "quotes", "latin-1", "long", "nameless", "twice"],
)
def test_a_bad_row_is_a_dead_letter_with_its_line_and_the_others_hold(tmp_path, bad, said):
    source = folder(tmp_path, b"file_name,n\nb.png,3\n" + bad + b"c.png,7\n", pictures=["b.png", "c.png"])
    assert metadata(source) == {"b.png": {"n": 3}, "c.png": {"n": 7}}
    [letter] = letters(source)
    assert said in letter.error
    assert letter.source.endswith("metadata.csv:3")


def test_in_utf_16_a_cell_may_hold_line_ends_and_a_bad_row_costs_itself_alone(tmp_path):
    text = 'file_name,n\na.png,"1\n\u0a0a"\nb.png\nc.png,7\n'
    source = folder(tmp_path, text.encode("utf-16"), pictures=["a.png", "b.png", "c.png"])
    assert metadata(source) == {"a.png": {"n": "1\n\u0a0a"}, "b.png": {}, "c.png": {"n": "7"}}
    assert ["1 cells, and 2 names" in letter.error for letter in letters(source)] == [True]


@pytest.mark.parametrize(
    "text",
    ["file_name,n,m\na.png,,\nb.png,,\n", "file_name,n,m\na.png\n", "file_name,n,m\n"],
    ids=["empty cells", "no good row", "no row"],
)
@pytest.mark.parametrize("jsonl", [(), [{"file_name": "a.png", "m": None}]], ids=["csv", "both"])
def test_a_column_of_nulls_alone_asks_no_field_of_a_collection_that_lacks_it(tmp_path, text, jsonl):
    source = folder(tmp_path, text, jsonl=jsonl)
    assert extra(source) == {"n": "string", "m": "string"}
    own = dict(PICTURE_FIELDS)
    lacking = CollectionSpec.single("photos", dim=2, fields=own)
    assert source.fields(lacking) == own
    having = CollectionSpec.single("photos", dim=2, fields=own | {"n": "int64"})
    assert source.fields(having) == own | {"n": "int64"}


def test_a_quotation_mark_that_is_not_closed_costs_its_row_alone(tmp_path):
    source = folder(tmp_path, 'file_name,n\na.png,"3\nb.png,4\n')
    assert metadata(source) == {"a.png": {}, "b.png": {"n": 4}}
    assert "not closed" in letters(source)[0].error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"title,year\nx,1\n", "no column file_name"),
        (b"file_name,n,n\na.png,1,2\n", "comes twice"),
        ("file_name,n\na.png,1\n".encode("utf-16-le"), "no column file_name"),
        (b"\xff\xfe" + "file_name,n\n".encode("utf-16-le")[:-1], "not UTF-8"),
        (b"file_name,n\ra.png,1\r", "carriage return"),
    ],
    ids=["empty", "no key", "twice", "utf-16 without its mark", "half of utf-16", "old mac"],
)
def test_a_table_that_cannot_be_used_is_one_dead_letter_and_the_pictures_come(tmp_path, text, said):
    source = folder(tmp_path, text)
    assert metadata(source) == {"a.png": {}, "b.png": {}}
    [letter] = letters(source)
    assert said in letter.error
    assert letter.source.endswith("metadata.csv")


def test_a_conflict_of_both_sidecars_is_said_once_and_json_holds(tmp_path):
    lines = [{"file_name": "a.png", "year": 1999}, {"file_name": "b.png", "year": 1998}]
    source = folder(tmp_path, "file_name,year\na.png,2020\nb.png,2021\n", jsonl=lines)
    assert metadata(source) == {"a.png": {"year": 1999}, "b.png": {"year": 1998}}
    [letter] = letters(source)
    assert "metadata.jsonl says otherwise about 2 of its pictures" in letter.error
    assert "metadata.jsonl:1" in letter.error
    assert "metadata.csv:2" in letter.error


def test_both_sidecars_may_say_the_same_or_speak_of_different_pictures(tmp_path):
    lines = [{"file_name": "a.png", "year": 2020, "flag": True, "title": "A", "more": [1]}]
    source = folder(
        tmp_path, "file_name,year,flag,title\na.png,2020,true,A\nb.png,2021,false,\n", jsonl=lines
    )
    assert letters(source) == []
    found = metadata(source)
    assert found["a.png"] == {"year": 2020, "flag": True, "title": "A", "more": [1]}
    assert found["b.png"] == {"year": 2021, "flag": False, "title": None}


def test_a_row_whose_picture_is_not_there_is_a_dead_letter(tmp_path):
    source = folder(tmp_path, "file_name,n\ngone.png,1\n")
    assert [(letter.id, letter.error) for letter in letters(source)] == [
        ("gone.png", "the file that it names is not there")
    ]


def test_a_table_that_changes_while_it_is_read_costs_dead_letters_and_no_crash(tmp_path):
    source = folder(tmp_path, "file_name,n\na.png,1\n")
    source.fields()
    (tmp_path / "metadata.csv").write_text("something")
    assert "changed" in letters(source)[0].error
    assert list(metadata(source)) == ["b.png"]
