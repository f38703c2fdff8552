"""Files in UTF-16 and UTF-8 with their byte order marks, and lines in which there is nothing to see."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from PIL import Image

from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.lines import is_blank, parse_object, read_line, read_lines
from vecbridge.sources.texts import TextItem, text_items

# 0x0A is a byte of U+010A and U+0A00, and both bytes of U+0A0A, without being the end of a line
TEXTS = ["a red car", "\u010a\u0a00\u0a0a", "größer 🚗", "end"]
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
encodings = pytest.mark.parametrize("encoding", ENCODINGS)


def write(path: Path, text: str, encoding: str) -> None:
    path.write_bytes(ENCODINGS[encoding] + text.encode(encoding))


@encodings
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_texts_are_read_in_the_encoding_of_their_mark(tmp_path: Path, encoding: str, end: str) -> None:
    write(tmp_path / "a.txt", end.join(TEXTS), encoding)
    items = list(text_items(str(tmp_path / "a.txt"), "a.txt"))
    assert [item.text for item in items if isinstance(item, TextItem)] == TEXTS
    assert [item.id for item in items] == [f"a.txt#{number}" for number in range(1, 5)]


@encodings
def test_json_lines_are_read_in_the_encoding_of_their_mark(tmp_path: Path, encoding: str) -> None:
    rows = [{"id": str(row), "vector": [1.0, row], "title": text} for row, text in enumerate(TEXTS)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write(tmp_path / "a.jsonl", text, encoding)
    source = JsonlSource(tmp_path / "a.jsonl")
    letters: list[DeadLetter] = []
    spec: CollectionSpec = source.schema().spec("c")
    [batch] = source.batches(spec, on_dead_letter=letters.append)
    assert batch.column("title").to_pylist() == TEXTS
    assert letters == []


@encodings
def test_metadata_is_read_in_the_encoding_of_its_mark(tmp_path: Path, encoding: str) -> None:
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    rows = [{"file_name": name, "title": text} for name, text in zip(names, TEXTS, strict=True)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write(tmp_path / "metadata.jsonl", text, encoding)
    items = list(ImageSource(tmp_path))
    titles = {item.id: item.metadata["title"] for item in items if not isinstance(item, DeadLetter)}
    assert titles == dict(zip(names, TEXTS, strict=True))


@encodings
def test_offsets_lead_to_their_lines(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "a.jsonl", "\n".join(TEXTS), encoding)
    for line in read_lines(tmp_path / "a.jsonl"):
        assert line.data is not None
        assert read_line(tmp_path / "a.jsonl", line.offset).rstrip(b"\n") == line.data


@encodings
def test_a_line_that_is_too_long_does_not_hide_the_next(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "a.txt", "one\n" + "x\u0a0a" * 99 + "\nthree\n", encoding)
    lines = list(read_lines(tmp_path / "a.txt", max_bytes=20))
    assert [(line.number, line.data) for line in lines] == [(1, b"one"), (2, None), (3, b"three")]
    assert read_line(tmp_path / "a.txt", lines[-1].offset) == b"three\n"


@pytest.mark.parametrize(
    "tail", [b"\x00\xd8\n\x00", b"a\x00\n\x00b", b"\x00\xdc"], ids=["half a pair", "odd", "other half"]
)
def test_what_is_no_utf16_is_a_dead_letter_and_no_text(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + "one\n".encode("utf-16-le") + tail)
    items = list(text_items(str(tmp_path / "a.txt"), "a.txt"))
    assert items[0].id == "a.txt#1"
    [letter] = [item for item in items if isinstance(item, DeadLetter)]
    assert "nor UTF-16" in letter.error


BLANK = [
    "\u3000",
    "\u200b",
    "\u200d\ufe0f",
    "\u2060 \u2060",
    "\u180e",
    "\u2800",
    "\u3164",
    "\x1f",
    "\u202e\u2066",
]


@pytest.mark.parametrize("blank", BLANK, ids=ascii)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-be"])
def test_lines_in_which_there_is_nothing_to_see_are_left_out(
    tmp_path: Path, blank: str, encoding: str
) -> None:
    assert is_blank(blank)
    write(tmp_path / "a.txt", f"one\n{blank}\nthree\n{blank}", encoding)
    assert [line.number for line in read_lines(tmp_path / "a.txt")] == [1, 3]


@pytest.mark.parametrize("text", ["é", "語", "\u200ba", "🚗", "́", "\x00"], ids=ascii)
def test_other_lines_are_kept(tmp_path: Path, text: str) -> None:
    assert not is_blank(text)
    write(tmp_path / "a.txt", f"{text}\n", "utf-8")
    assert [line.data for line in read_lines(tmp_path / "a.txt")] == [text.encode()]


BINARY = {
    "a NUL": b"a red\0car\n",
    "UTF-16 without its mark": "a red car".encode("utf-16-le"),
    "the end mark of DOS": b"\x1a\n",
}


@pytest.mark.parametrize("kind", BINARY)
def test_what_is_no_text_is_a_dead_letter_and_the_next_line_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_bytes(BINARY[kind].rstrip(b"\n") + b"\na\tdog\n")
    first, second = text_items(str(tmp_path / "a.txt"), "a.txt")
    assert isinstance(first, DeadLetter)
    assert "control characters" in first.error
    assert isinstance(second, TextItem)
    assert (second.id, second.text) == ("a.txt#2", "a\tdog")


NO_JSON = {
    '{"id": "a", "n": 1,}': "not JSON from character 20 on",
    '{"id": "a", "n": [1,]}': "not JSON from character 21 on",
    '{"id": "a", "n": [1,,2]}': "not JSON from character 21 on",
    '{"id": "a"} {"id": "b"}': "not JSON from character 13 on",
    "{'id': 'a'}": "not JSON from character 2 on",
    '{"id": "a", "n": ': "the JSON ends too early",
    '{"id": "a", "n": "b': "the JSON ends too early",
    '{"id": "a", ': "the JSON ends too early",
    '{"id": "a",': "the JSON ends too early",
    '{\0"\0i\0': "UTF-16 without its mark",
    '{"id": "\\udc00"}': "surrogate pair",
    f'{{"n": {"9" * 5000}}}': "^a number with too many digits$",
}


@pytest.mark.parametrize("line", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_wrong_with_json_is_said_in_the_same_words_by_every_python(line: str) -> None:
    with pytest.raises(ValueError, match=NO_JSON[line]):
        parse_object(line.encode())


def test_bytes_that_are_no_text_are_told_by_their_place() -> None:
    with pytest.raises(ValueError, match=r"^not UTF-8, nor UTF-16 with its mark: .* at byte 8$"):
        parse_object('{"id": "é"}'.encode("latin-1"))


@pytest.mark.parametrize(
    ("end", "reason"),
    [(', {"id": ', "the JSON ends too early"), (",]", r"not JSON from character 29 on")],
)
def test_what_is_wrong_with_an_array_is_told_by_its_place_in_the_file(
    tmp_path: Path, end: str, reason: str
) -> None:
    (tmp_path / "a.jsonl").write_text('[{"id": "a", "vector": [1]}' + end)
    source = JsonlSource(tmp_path / "a.jsonl")
    letters: list[DeadLetter] = []
    [batch] = source.batches(source.schema().spec("c"), on_dead_letter=letters.append)
    assert batch.column("id").to_pylist() == ["a"]
    assert [letter.error for letter in letters] == [f"the records from here on cannot be read: {reason}"]
