"""Fields that stand beside the pictures."""

import json

import pytest
from PIL import Image

from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import PICTURE_FIELDS, ImageSource


def folder(tmp_path, lines, *, name="metadata.jsonl", pictures=("a.png", "b.png")):
    for picture in pictures:
        (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / picture)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / name).write_text(text + "\n", "utf-8")
    return ImageSource(tmp_path)


def metadata(source):
    return {item.id: dict(item.metadata) for item in source if not isinstance(item, DeadLetter)}


def letters(source):
    return [item for item in source if isinstance(item, DeadLetter)]


def extra(source):
    return {name: type for name, type in source.fields().items() if name not in PICTURE_FIELDS}


@pytest.mark.parametrize("name", ["metadata.jsonl", "gallery.jsonl"])
@pytest.mark.parametrize("key", ["file_name", "file", "path", "image"])
def test_fields_join_their_picture(tmp_path, name, key):
    source = folder(
        tmp_path, [{key: "b.png", "title": "B", "year": 2020}, {key: "a.png", "title": "A"}], name=name
    )
    assert metadata(source) == {"a.png": {"title": "A"}, "b.png": {"title": "B", "year": 2020}}
    assert extra(source) == {"title": "string", "year": "int64"}
    assert source.skipped == 0


def test_types_come_from_every_line(tmp_path):
    rows = [
        {
            "flag": True,
            "n": 1,
            "x": 1,
            "s": "a",
            "tags": [],
            "mixed": 1,
            "deep": {"b": 1, "a": 2},
            "none": None,
        },
        {
            "flag": None,
            "n": 2,
            "x": 0.5,
            "s": "",
            "tags": ["t"],
            "mixed": "1",
            "deep": [1, [2]],
            "none": None,
        },
    ]
    rows = [row | {"file_name": name} for row, name in zip(rows, ("a.png", "b.png"), strict=True)]
    source = folder(tmp_path, rows)
    assert extra(source) == {
        "flag": "bool", "n": "int64", "x": "float64", "s": "string",
        "tags": "list<string>", "mixed": "json", "deep": "json", "none": "string",
    }  # fmt: skip
    found = metadata(source)
    assert found["a.png"]["deep"] == {"a": 2, "b": 1}
    assert (found["a.png"]["mixed"], found["b.png"]["mixed"]) == (1, "1")


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([True, 1], "json"),
        ([2**63], "json"),
        ([-(2**63), 2**63 - 1], "int64"),
        ([2**53 + 1, 0.5], "json"),
        ([2**53, 0.5], "float64"),
        ([["a"], ["a", None]], "json"),
        ([["a"], "a"], "json"),
        ([[1, 2], []], "list<int64>"),
        ([[1], [0.5]], "list<float64>"),
        ([[1], [None]], "json"),
        (["2024-05-17T12:00:00Z"], "string"),
    ],
)
def test_types_that_disagree_lose_nothing(tmp_path, values, type):
    names = [f"{i}.png" for i in range(len(values))]
    rows = [{"file_name": name, "v": value} for name, value in zip(names, values, strict=True)]
    source = folder(tmp_path, rows, pictures=names)
    assert extra(source) == {"v": type}
    assert [each["v"] for each in metadata(source).values()] == values


def test_the_types_of_a_collection_hold(tmp_path):
    line = {"file_name": "a.png", "taken": "2024-05-17T12:00:00Z", "sizes": [1], "score": 1, "new": [1]}
    source = folder(tmp_path, [line])
    types = {"taken": "timestamp", "sizes": "json", "score": "float64"}
    old = CollectionSpec.single("c", dim=2, fields=types | {"modified": "int64", "width": "float64"})
    known = {name: type for name, type in PICTURE_FIELDS.items() if name != "sha256"}  # it has none
    assert source.fields(old) == known | types | {"new": "list<int64>", "modified": "int64"}
    assert source.fields() == PICTURE_FIELDS | {
        "taken": "string", "sizes": "list<int64>", "score": "int64", "new": "list<int64>"
    }  # fmt: skip


def test_sidecars_in_folders_below_name_files_of_their_own_folder(tmp_path):
    pictures = ("train/0.png", "test/0.png")
    source = folder(tmp_path, [{"file_name": "0.png", "label": "t"}], name="x", pictures=pictures)
    (tmp_path / "x").rename(tmp_path / "train" / "metadata.jsonl")
    assert metadata(ImageSource(tmp_path)) == {"train/0.png": {"label": "t"}, "test/0.png": {}}
    del source


def test_names_that_clash_or_are_not_legal_are_changed(tmp_path):
    row = {
        "file_name": "a.png",
        "width": 9,
        "id": "x",
        "vector": "v",
        "Año": 1,
        "_vb": 2,
        "TITLE": 1,
        "title": 2,
    }
    source = folder(tmp_path, [row], pictures=["a.png"])
    fields = source.fields()
    CollectionSpec.single("c", dim=2, fields=fields)
    assert metadata(source)["a.png"] == {
        "width_2": 9, "id_2": "x", "vector_2": "v", "A_o": 1, "f_vb": 2, "TITLE": 1, "title_2": 2
    }  # fmt: skip


def test_bad_lines_are_dead_letters_with_their_number_and_the_others_hold(tmp_path):
    good = json.dumps({"file_name": "b.png", "t": 1})
    bad = [
        "{broken",
        "[1]",
        '{"t": 1}',
        '{"file_name": "a.png", "t": NaN}',
        '{"file_name": "a.png", "t": 1e999}',
    ]
    source = folder(tmp_path, [*bad, good, good])
    found = letters(source)
    assert [letter.source.rpartition(":")[2] for letter in found] == ["1", "2", "3", "4", "5", "7"]
    assert "already" in found[-1].error
    assert metadata(source)["b.png"] == {"t": 1}


def test_a_line_whose_picture_is_not_there_is_a_dead_letter(tmp_path):
    source = folder(tmp_path, [{"file_name": "gone.png", "t": 1}, {"file_name": "../up.png", "t": 1}])
    assert {letter.id for letter in letters(source)} == {"gone.png", "../up.png"}


def test_a_sidecar_that_changes_while_it_is_read_costs_dead_letters_and_no_crash(tmp_path):
    source = folder(tmp_path, [{"file_name": "a.png", "t": 1}])
    source.fields()
    (tmp_path / "metadata.jsonl").write_text("something else")
    assert "changed" in letters(source)[0].error
    assert list(metadata(source)) == ["b.png"]
