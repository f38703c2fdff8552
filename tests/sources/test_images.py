"""Folders, files and globs as a stream of items."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from vecbridge.errors import ConfigError
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import PICTURE_FIELDS, ImageSource, PictureItem
from vecbridge.sources.texts import TextItem


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(path, "PNG")
    return folder


def ids(source):
    return [item.id for item in source if not isinstance(item, DeadLetter)]


def letters(source):
    return {letter.id: letter.error for letter in source if isinstance(letter, DeadLetter)}


def test_folders_are_read_recursively_in_a_fixed_order_with_paths_as_ids(tmp_path):
    put(tmp_path, "b.png", "a/z.JPG", "a/deep/er/x.webp", "Z.gif", "c.tiff")
    source = ImageSource(tmp_path)
    assert ids(source) == ["Z.gif", "a/deep/er/x.webp", "a/z.JPG", "b.png", "c.tiff"]
    assert ids(source) == ids(ImageSource(str(tmp_path)))
    assert all(Path(item.path).is_absolute() and Path(item.path).is_file() for item in source)


def test_what_is_no_picture_is_counted_and_hidden_files_too(tmp_path):
    put(tmp_path, "a.png")
    for name in ("readme.md", "data.csv", ".DS_Store", "._a.png", "notes.txt"):
        (tmp_path / name).touch()
    source = ImageSource(tmp_path)
    assert ids(source) == ["a.png"]
    assert source.skipped == 5
    assert ids(source) == ["a.png"]
    assert source.skipped == 5, "counted afresh each time"


def test_hidden_names_are_read_when_asked(tmp_path):
    put(tmp_path, ".cache/a.png", "b.png")
    assert ids(ImageSource(tmp_path)) == ["b.png"]
    assert ids(ImageSource(tmp_path, hidden=True)) == [".cache/a.png", "b.png"]


@pytest.mark.parametrize("suffix", [".heic", ".jxl", ".psd"])
def test_pictures_of_formats_that_are_not_read_are_dead_letters_and_not_skipped(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    source = ImageSource(tmp_path)
    assert "convert it" in letters(source)[f"a{suffix}"]
    assert source.skipped == 0


def test_links_out_of_the_folder_are_dead_letters_unless_followed(tmp_path):
    put(tmp_path / "outside", "secret.png", "more/other.png")
    inside = put(tmp_path / "inside", "a.png")
    (inside / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    (inside / "folder").symlink_to(tmp_path / "outside")
    refused = letters(ImageSource(inside))
    assert sorted(refused) == ["folder", "link.png"]
    assert all("link out of the folder" in error for error in refused.values())
    assert ids(ImageSource(inside)) == ["a.png"]
    followed = ImageSource(inside, follow_links=True)
    assert ids(followed) == ["a.png", "folder/more/other.png", "folder/secret.png", "link.png"]


def test_links_inside_the_folder_are_read_once_a_file_and_not_again_through_folders(tmp_path):
    put(tmp_path, "real/a.png")
    (tmp_path / "again.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    source = ImageSource(tmp_path)
    assert ids(source) == ["again.png", "real/a.png"]
    assert (letters(source), source.skipped) == ({}, 1)


def test_loops_of_links_end(tmp_path):
    inside = put(tmp_path / "inside", "a.png")
    (tmp_path / "outside").mkdir()
    (inside / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "outside")
    (inside / "self.png").symlink_to(inside / "self.png")
    source = ImageSource(inside, follow_links=True)
    assert ids(source) == ["a.png"]
    refused = letters(source)
    assert "folder above" in refused["out/back"]
    assert "leads nowhere" in refused["self.png"]


def test_a_broken_link_is_a_dead_letter(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert "leads nowhere" in letters(ImageSource(tmp_path))["gone.jpg"]


@pytest.mark.timeout(10)
def test_a_fifo_is_a_dead_letter_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "x.txt")
    assert letters(ImageSource(tmp_path, texts=True)) == {
        "x.jpg": "is not a regular file",
        "x.txt": "is not a regular file",
    }


def test_a_folder_with_a_picture_s_name_is_one_dead_letter_and_what_is_in_it_is_read(tmp_path):
    put(tmp_path, "x.jpg/a.png")
    source = ImageSource(tmp_path)
    assert "is a folder" in letters(source)["x.jpg"]
    assert ids(source) == ["x.jpg/a.png"]


def test_a_folder_that_cannot_be_listed_is_a_dead_letter_and_the_rest_goes_on(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "closed/b.png", "z.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = ImageSource(tmp_path)
    assert ids(source) == ["a.png", "z.png"]
    assert "Permission denied" in letters(source)["closed"]


def test_names_that_are_not_utf8_are_dead_letters_with_a_readable_source(tmp_path):
    put(tmp_path, "a.png")
    os.link(tmp_path / "a.png", os.fsencode(tmp_path) + b"/b\xff.png")
    [letter] = [item for item in ImageSource(tmp_path) if isinstance(item, DeadLetter)]
    assert letter.id is None
    assert letter.source.endswith("b\\xff.png")
    assert "not UTF-8" in letter.error
    letter.to_json().encode()


def test_ids_longer_than_512_bytes_are_dead_letters(tmp_path):
    put(tmp_path, f"{'é' * 100}/{'é' * 100}/{'é' * 100}/a.png", "b.png")
    source = ImageSource(tmp_path)
    assert ids(source) == ["b.png"]
    [error] = letters(source).values()
    assert "512 bytes" in error


def test_names_are_kept_as_they_are_written(tmp_path):
    names = ["e\u0301.png", "sp ace\n.png", "\U0001f436.png", "'\".png"]
    put(tmp_path, *names)
    assert sorted(ids(ImageSource(tmp_path))) == sorted(names)


def test_a_file_is_named_by_its_own_folder_and_two_folders_by_the_one_around_them(tmp_path):
    put(tmp_path, "one/a.png", "two/a.png")
    assert ids(ImageSource(tmp_path / "one" / "a.png")) == ["a.png"]
    assert ids(ImageSource([tmp_path / "one", tmp_path / "two"])) == ["one/a.png", "two/a.png"]
    assert ids(ImageSource([tmp_path / "one" / ".." / "two"])) == ["a.png"]


def test_what_is_given_twice_is_read_once(tmp_path):
    put(tmp_path, "a/b/c.png", "a/d.png")
    given = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "d.png", tmp_path / "a" / "*.png"]
    assert ids(ImageSource(given)) == ["b/c.png", "d.png"]


def test_globs_match_and_are_named_by_the_folder_before_the_pattern(tmp_path):
    put(tmp_path, "a/x.png", "a/b/y.png", "a/z.jpg")
    assert ids(ImageSource(f"{tmp_path}/a/**/*.png")) == ["b/y.png", "x.png"]
    assert ids(ImageSource(f"{tmp_path}/a/*.jpg")) == ["z.jpg"]


def test_a_glob_does_not_lead_out_of_its_folder_through_a_link(tmp_path):
    put(tmp_path, "secret.png", "a/x.png")
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    source = ImageSource(f"{tmp_path}/a/*.png")
    assert ids(source) == ["x.png"]
    assert "link out" in letters(source)["link.png"]


def test_a_name_with_glob_characters_that_exists_is_that_file(tmp_path):
    put(tmp_path, "a[1].png", "a1.png")
    assert ids(ImageSource(tmp_path / "a[1].png")) == ["a[1].png"]


@pytest.mark.parametrize("given", ["nowhere", "*.nothing", []])
def test_a_path_that_is_not_there_is_refused_at_once(tmp_path, given):
    with pytest.raises(ConfigError, match=r"no such file|no path"):
        ImageSource(tmp_path / given if given else given)


def test_a_file_that_is_named_itself_is_taken_for_a_picture(tmp_path):
    put(tmp_path, "a.dat")
    assert ids(ImageSource(tmp_path)) == []
    assert ids(ImageSource(tmp_path / "a.dat")) == ["a.dat"]


def test_texts_come_a_line_a_record_when_asked(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "b.txt").write_bytes("\ufeffa dog\r\n\r\n  un gato \n".encode())
    source = ImageSource(tmp_path, texts=True)
    found = list(source)
    assert [type(item) for item in found] == [PictureItem, TextItem, TextItem]
    assert [(item.id, item.text) for item in found[1:]] == [("b.txt#1", "a dog"), ("b.txt#3", "un gato")]
    assert list(source.fields()) == [*PICTURE_FIELDS, "text", "line"]


def test_bad_lines_of_a_text_are_dead_letters_one_each(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"good\n\xff\xfe\n" + b"x" * 200_000 + b"\nlast")
    found = list(ImageSource(tmp_path, texts=True))
    assert [(item.id, isinstance(item, DeadLetter)) for item in found] == [
        ("b.txt#1", False),
        ("b.txt#2", True),
        ("b.txt#3", True),
        ("b.txt#4", False),
    ]


def test_a_folder_is_walked_as_it_is_read(tmp_path, monkeypatch):
    put(tmp_path, *(f"{letter}/x.png" for letter in "abcdef"))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    source = ImageSource(tmp_path)
    source.fields()
    listed.clear()
    assert next(iter(source)).id == "a/x.png"
    assert len(listed) == 2, "the root and its first folder"


def test_folders_deeper_than_python_s_stack_are_walked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    put(Path(), "a.png")
    os.chdir(tmp_path)
    [letter] = list(ImageSource(tmp_path))
    assert "512 bytes" in letter.error
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # too deep for shutil.rmtree
