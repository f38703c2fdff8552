"""Which files are new, changed, the same or gone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbridge.bulk import syncing
from vecbridge.bulk.syncing import SyncPlan, TrackedRow, TrackedRows, is_there, plan_sync
from vecbridge.embed.items import made_from
from vecbridge.identity import SourceIds
from vecbridge.names import DIGEST, SOURCE
from vecbridge.sources import digests
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, Item
from vecbridge.sources.items import identify
from vecbridge.sources.reading import digest_file
from vecbridge.sources.texts import TextItem
from vecbridge.sources.tracking import Stamp, path_of

NAMES = ["a.png", "b.png", "more/a.png", "more/c.png", "notes.txt", "more/notes.txt"]
CONTENTS = ["one", "two", "one\ntwo", "two\none", "one\none", "three\n\ntwo"]
KINDS = ["relative", "absolute", "content"]
# another content means another time, without which nothing tells before the file is read
FILES = st.builds(
    lambda number, second: (CONTENTS[number], 10 * number + second),
    st.integers(0, len(CONTENTS) - 1),
    st.integers(1, 2),
)
FOLDER = st.dictionaries(st.sampled_from(NAMES), FILES)


def write(root: Path, files: dict[str, tuple[str, int]]) -> None:
    """Makes a folder hold these files, {relative path: (content, time)}, and no other."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for relative, (content, seconds) in files.items():
        put(root / relative, content, seconds)


def put(path: Path, content: str, seconds: int = 1) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    os.utime(path, (seconds, seconds))


def source_of(root: Path, kind: Any = "relative") -> ImageSource:
    return ImageSource([root], texts=True, ids=SourceIds(kind))


def row_of(item: Item) -> TrackedRow:
    """The row that the pipeline writes of an item."""
    if isinstance(item, TextItem):
        columns = made_from(item, item.state, digests.of_text(item.text))
    else:
        columns = made_from(item, *digest_file(item.path))
    return TrackedRow(identify(item).id, path_of(columns[SOURCE] or ""), Stamp.of(columns[DIGEST]))


def rows_of(source: ImageSource) -> dict[str, TrackedRow]:
    """What a collection holds into which everything was embedded anew."""
    return {item.id: row_of(item) for item in source if not isinstance(item, DeadLetter)}


def planned(source: ImageSource, rows: dict[str, TrackedRow], **options: Any) -> SyncPlan:
    def elsewhere(ids: Any) -> dict[str, TrackedRow]:
        return {id: rows[id] for id in ids if id in rows}

    below = TrackedRows(row for row in rows.values() if row.path in source.roots)
    return plan_sync(source, below, source.roots, elsewhere=elsewhere, **options)


def applied(plan: SyncPlan, rows: dict[str, TrackedRow], source: ImageSource) -> dict[str, TrackedRow]:
    """The rows once the plan is carried out."""
    rows = dict(rows)
    for item in plan.items(source):
        if not isinstance(item, DeadLetter):
            row = row_of(item)
            rows[row.id] = row
    for touched in plan.touched:
        candidate = touched.candidate
        rows[candidate.id] = TrackedRow(candidate.id, candidate.file.path, touched.stamp)
    for row in plan.gone:
        del rows[row.id]
    return rows


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The pictures and texts that a comparison reads."""
    found: list[str] = []
    items = ImageSource.items

    def digest(path: str) -> Any:
        found.append(path)
        return digest_file(path)

    def listed(source: ImageSource, file: Any) -> Any:
        found.extend([file.path] if file.is_text else [])
        return items(source, file)

    with monkeypatch.context() as patch:
        patch.setattr(syncing, "digest_file", digest)
        patch.setattr(ImageSource, "items", listed)
        yield found


@given(before=FOLDER, after=FOLDER, kind=st.sampled_from(KINDS), checksum=st.booleans())
@settings(max_examples=60, deadline=None)
def test_afterwards_the_rows_are_those_of_a_collection_made_anew(
    before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]], kind: str, checksum: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        root = Path(directory) / "photos"
        write(root, before)
        old = rows_of(source_of(root, kind))
        write(root, after)
        source = source_of(root, kind)
        plan = planned(source, old, checksum=checksum)
        assert plan.rows == len(old)
        rows, wanted = applied(plan, old, source), rows_of(source)
        contents = {row.id: row.stamp and row.stamp.sha256 for row in rows.values()}
        assert contents == {row.id: row.stamp and row.stamp.sha256 for row in wanted.values()}
        if kind != "content":  # there, one row may be of several files
            assert rows == wanted
        unchanged = len({row for row in old.values() if wanted.get(row.id) == row})
        assert plan.same >= unchanged
        if kind != "content":
            embedded = {row.id for row in wanted.values() if _content(old.get(row.id)) != _content(row)}
            items = [item for item in plan.items(source) if not isinstance(item, DeadLetter)]
            assert {item.id for item in items} == embedded
            assert plan.embedded == len(items) == len(embedded)
            assert {row.id for row in plan.gone} == old.keys() - wanted.keys()
            with reads(patch) as read:
                again = planned(source, rows)
            assert (read, again.same, again.work, again.touched) == ([], len(wanted), [], [])


def _content(row: TrackedRow | None) -> str | None:
    return None if row is None or row.stamp is None else row.stamp.sha256


class TestReading:
    """A file is read where its size or its time changed."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_only_those_files_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        root = tmp_path / "photos"
        write(root, {name: (f"{name}\n{name} x", 1) for name in NAMES})
        rows = rows_of(source_of(root, kind))
        put(root / "a.png", "a.png\na.png x", 2)
        put(root / "notes.txt", "notes.txt\ny", 2)
        source = source_of(root, kind)
        with reads(monkeypatch) as read:
            plan = planned(source, rows)
        assert set(read) == {str(root / "a.png"), str(root / "notes.txt")}
        assert (plan.changed + plan.new, len(plan.touched)) == (1, 2)
        with reads(monkeypatch) as read:
            planned(source, rows, checksum=True)
        assert set(read) == {str(root / name) for name in NAMES}

    def test_checksum_finds_what_has_the_size_and_the_time_of_before(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "b.png": ("two", 1)})
        rows = rows_of(source_of(root))
        put(root / "a.png", "eno", 1)
        assert planned(source_of(root), rows).embedded == 0
        assert planned(source_of(root), rows, checksum=True).changed == 1

    def test_a_text_of_which_lines_are_missing_is_read_again(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"notes.txt": ("one\ntwo\nthree", 1)})
        rows = rows_of(source_of(root))
        del rows["notes.txt#2"]
        plan = planned(source_of(root), rows)
        assert [item.id for item in plan.items(source_of(root)) if isinstance(item, TextItem)] == [
            "notes.txt#2"
        ]
        assert (plan.new, plan.same) == (1, 2)

    def test_a_folder_that_was_moved_is_read_and_not_embedded(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {name: (name, 1) for name in NAMES})
        rows = rows_of(source_of(root))
        root.rename(tmp_path / "moved")
        source = source_of(tmp_path / "moved")
        plan = planned(source, rows)
        assert (plan.embedded, len(plan.touched), plan.gone) == (0, len(NAMES), [])
        assert applied(plan, rows, source) == rows_of(source)


class TestSidecars:
    """What stands beside a picture belongs to its row."""

    def test_other_fields_touch_the_row(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "b.png": ("two", 1)})
        put(root / "metadata.jsonl", '{"file_name": "a.png", "year": 2020}')
        rows = rows_of(source_of(root))
        assert planned(source_of(root), rows).same == 2
        put(root / "metadata.jsonl", '{"file_name": "a.png", "year": 2021}')
        plan = planned(source_of(root), rows)
        assert ([each.candidate.id for each in plan.touched], plan.same) == (["a.png"], 1)

    def test_a_sidecar_that_cannot_be_read_takes_nothing_away(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1)})
        put(root / "metadata.jsonl", '{"file_name": "a.png", "year": 2020}')
        rows = rows_of(source_of(root))
        put(root / "metadata.jsonl", '{"file_name": "a.png", "year"')
        plan = planned(source_of(root), rows)
        assert (plan.same, plan.touched, plan.unreadable) == (1, [], 1)


class TestGone:
    """What is not there is gone; what cannot be looked at, or was not read, is not."""

    @staticmethod
    def rows(root: Path, **options: Any) -> dict[str, TrackedRow]:
        return rows_of(ImageSource([root], **({"texts": True} | options)))

    def test_files_that_this_run_leaves_out_are_kept(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "notes.txt": ("one\ntwo", 1), ".hidden.png": ("two", 1)})
        rows = self.rows(root, hidden=True)
        plan = planned(ImageSource([root]), rows)
        assert (plan.same, plan.kept, plan.gone) == (1, 3, [])

    def test_a_line_that_cannot_be_read_and_a_broken_text_are_kept(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"notes.txt": ("one\ntwo\nthree", 1)})
        rows = self.rows(root)
        (root / "notes.txt").write_bytes(b"one\n\xff\nthree")
        plan = planned(source_of(root), rows)
        assert (plan.gone, plan.unreadable, len(plan.touched)) == ([], 1, 2)
        assert len([item for item in plan.items(source_of(root)) if isinstance(item, DeadLetter)]) == 1

    def test_an_unreadable_picture_is_kept_and_reported(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "b.png": ("two", 1)})
        rows = self.rows(root)
        (root / "a.png").write_bytes(b"")
        plan = planned(source_of(root), rows)
        assert (plan.gone, plan.unreadable, plan.kept, plan.same) == ([], 1, 1, 1)

    def test_a_folder_that_cannot_be_read_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "more/a.png": ("two", 1), "more/b.png": ("two", 1)})
        rows = self.rows(root)
        locked(monkeypatch, root / "more")
        plan = planned(source_of(root), rows)
        assert (plan.gone, plan.kept, plan.unreadable, plan.same) == ([], 2, 1, 1)

    def test_only_rows_below_the_given_folders_go(self, tmp_path: Path) -> None:
        write(tmp_path / "photos", {"a.png": ("one", 1)})
        write(tmp_path / "photos 2", {"b.png": ("two", 1)})
        rows = self.rows(tmp_path / "photos") | self.rows(tmp_path / "photos 2")
        (tmp_path / "photos" / "a.png").unlink()
        (tmp_path / "photos 2" / "b.png").unlink()
        assert [row.id for row in planned(source_of(tmp_path / "photos"), rows).gone] == ["a.png"]

    def test_a_given_file_stands_for_itself(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "b.png": ("two", 1), "c.png": ("two", 1)})
        rows = self.rows(root)
        (root / "b.png").unlink()
        plan = planned(ImageSource([root / "a.png"]), rows)
        assert (plan.same, plan.rows, plan.gone) == (1, 1, [])

    def test_a_folder_in_the_place_of_a_picture_is_no_picture(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"a.png": ("one", 1), "b.png": ("two", 1)})
        rows = self.rows(root)
        (root / "a.png").unlink()
        put(root / "a.png" / "c.png", "two")
        assert [row.id for row in planned(source_of(root), rows).gone] == ["a.png"]

    @pytest.mark.parametrize(
        ("make", "there"),
        [
            (lambda path: path.write_text("x"), True),
            (lambda path: None, False),
            (lambda path: path.mkdir(), False),
            (lambda path: path.symlink_to("nowhere"), True),
        ],
        ids=["a file", "nothing", "a folder", "a link that leads nowhere"],
    )
    def test_is_there(self, tmp_path: Path, make: Callable[[Path], Any], there: bool) -> None:
        make(tmp_path / "a.png")
        assert is_there(str(tmp_path / "a.png")) is there
        assert not is_there(str(tmp_path / "a.png" / "b.png")) or (tmp_path / "a.png").is_symlink()


class TestDoubts:
    """Much is removed only by who says so."""

    @pytest.mark.parametrize(("removed", "asks"), [(1, False), (2, False), (3, True)])
    def test_more_than_a_fifth(self, tmp_path: Path, removed: int, asks: bool) -> None:
        root = tmp_path / "photos"
        write(root, {f"{number}.png": (str(number), 1) for number in range(10)})
        rows = rows_of(source_of(root))
        for number in range(removed):
            (root / f"{number}.png").unlink()
        assert bool(planned(source_of(root), rows).doubts()) is asks

    def test_an_empty_folder_among_others(self, tmp_path: Path) -> None:
        write(tmp_path / "many", {f"{number}.png": (str(number), 1) for number in range(20)})
        write(tmp_path / "few", {"a.png": ("one", 1)})
        given = [tmp_path / "many", tmp_path / "few"]
        rows = rows_of(ImageSource(given))
        (tmp_path / "few" / "a.png").unlink()
        [doubt] = planned(ImageSource(given), rows).doubts()
        assert f"nothing in {tmp_path / 'few'}" in doubt

    def test_lines_count_as_rows(self, tmp_path: Path) -> None:
        root = tmp_path / "photos"
        write(root, {"notes.txt": ("one\ntwo\nthree\nfour", 1)})
        rows = rows_of(source_of(root))
        put(root / "notes.txt", "one\ntwo\nthree", 2)
        assert planned(source_of(root), rows).doubts() == ["1 of 4 records would be removed"]


def locked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has the system refuse to look into a folder, as it refuses everybody but root."""
    scandir, lstat = os.scandir, os.lstat

    def refuse(path: Any) -> None:
        if Path(os.fspath(path)).is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))

    def refused_scandir(path: Any = ".") -> Any:
        refuse(path)
        return scandir(path)

    def refused_lstat(path: Any, **options: Any) -> Any:
        if os.fspath(path) != str(folder):
            refuse(path)
        return lstat(path, **options)

    monkeypatch.setattr(os, "scandir", refused_scandir)
    monkeypatch.setattr(os, "lstat", refused_lstat)
