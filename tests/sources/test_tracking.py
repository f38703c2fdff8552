"""What a row was made from, as text; and the rows below the folders that were given."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vecbridge import filters
from vecbridge.names import SOURCE
from vecbridge.reserved import FIELDS
from vecbridge.schema import CollectionSpec
from vecbridge.sources.reading import FileState
from vecbridge.sources.tracking import Roots, Stamp, fields_detail, path_of, source_text

SPEC = CollectionSpec.single("photos", dim=2, fields=FIELDS)
# "." and "0" stand beside "/" in the order of characters, and a name may begin as another ends
NAMES = st.sampled_from(["a", "b", "a.b", "a0", "a a", "é", ".a", "\U0001f408"])
FOLDERS = st.lists(NAMES, max_size=3).map(lambda names: "/" + "/".join(names))
RELATIVES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.builds(lambda folder, relative: f"{folder.rstrip('/')}/{relative}", FOLDERS, RELATIVES)


@given(size=st.integers(0, 2**63), modified=st.integers(-(2**63), 2**63), metadata=st.booleans())
def test_a_stamp_is_read_as_it_was_written(size: int, modified: int, metadata: bool) -> None:
    detail = fields_detail({"year": 2020}) if metadata else ""
    stamp = Stamp(FileState(size, modified), "0f" * 32, detail)
    assert Stamp.of(str(stamp)) == stamp


@pytest.mark.parametrize("text", [None, "", "5 1", "5 1 " + "g" * 64, "5 1 " + "0" * 64 + " other", "x" * 99])
def test_anything_else_is_no_stamp(text: str | None) -> None:
    assert Stamp.of(text) is None


def test_the_fields_of_sidecars_are_told_apart_whatever_their_order() -> None:
    assert fields_detail({}) == ""
    assert fields_detail({"a": 1, "b": None}) == fields_detail({"b": None, "a": 1})
    assert len({fields_detail({"a": value}) for value in (1, "1", None, True, [1], 1.5)}) == 6


@given(root=FOLDERS, relative=RELATIVES)
def test_a_source_names_its_path(root: str, relative: str) -> None:
    assert path_of(source_text(root, relative)) == f"{root.rstrip('/')}/{relative}"


@given(
    folders=st.lists(FOLDERS, max_size=2),
    files=st.lists(
        st.tuples(FOLDERS, RELATIVES).map(lambda path: f"{path[0].rstrip('/')}/{path[1]}"), max_size=2
    ),
    root=FOLDERS,
    relative=RELATIVES,
)
@example(folders=["/a"], files=[], root="/a0", relative="b")
@example(folders=["/a/b"], files=[], root="/a", relative="b0/a")
@example(folders=["/a"], files=[], root="/a.b", relative="b")
@example(folders=["/"], files=[], root="/", relative="a")
@settings(max_examples=200)
def test_the_filter_finds_the_rows_below_the_roots_whatever_root_they_say(
    folders: list[str], files: list[str], root: str, relative: str
) -> None:
    roots, source = Roots(folders, files), source_text(root, relative)
    path = path_of(source)
    parts = [path[:place] or "/" for place, letter in enumerate(path) if letter == "/"]
    assert (path in roots) is (path in files or not set(parts).isdisjoint(folders))
    condition = roots.filter()
    assert (condition is not None) is bool(folders or files)
    if condition is not None:
        assert filters.matches(filters.normalize(condition, SPEC), {SOURCE: source}) is (path in roots)


def test_a_row_belongs_to_the_innermost_folder_given() -> None:
    roots = Roots(["/a", "/a/b", "/c"], [])
    found = {path: roots.folder_of(path) for path in ("/a/x", "/a/b/x", "/a/b", "/b/x", "/c/d/e")}
    assert found == {"/a/x": "/a", "/a/b/x": "/a/b", "/a/b": "/a", "/b/x": None, "/c/d/e": "/c"}
    assert Roots(["/"], []).folder_of("/x") == "/"


def test_many_roots_are_compared_here() -> None:
    assert Roots([f"/{number}" for number in range(101)], []).filter() is None
