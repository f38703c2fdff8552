"""A file is read once: its content, digest, size and time belong together."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vecbridge.errors import InvalidRecordError
from vecbridge.sources import reading
from vecbridge.sources.images import ImageSource
from vecbridge.sources.reading import FileState, digest_file, read_once


@pytest.fixture(params=["in memory", "on the disk"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is read in each of the two ways."""
    if request.param == "on the disk":
        monkeypatch.setattr(reading, "IN_MEMORY", 10)
    path = tmp_path / "a.bin"
    path.write_bytes(b"pixels" * 100)
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    return path


def test_content_digest_size_and_time_are_of_the_same_bytes(file: Path) -> None:
    with read_once(str(file)) as opened:
        assert opened.file.read() == b"pixels" * 100
        opened.file.seek(3)
        assert opened.file.read(3) == b"els"
    assert opened.sha256 == hashlib.sha256(b"pixels" * 100).hexdigest()
    assert opened.state == FileState(600, 1_700_000_000_123_456_789) == FileState.of(str(file))
    assert digest_file(str(file)) == (opened.state, opened.sha256)


def test_a_large_file_that_changes_before_it_is_decoded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "IN_MEMORY", 10)
    path = tmp_path / "a.bin"
    path.write_bytes(b"pixels" * 100)

    def read_while_it_grows() -> None:
        with read_once(str(path)) as opened:
            opened.file.read(1)
            with path.open("ab") as more:
                more.write(b"!")

    with pytest.raises(InvalidRecordError, match="changed while it was read"):
        read_while_it_grows()


def missing(folder: Path) -> Path:
    return folder / "none"


def a_folder(folder: Path) -> Path:
    return folder


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def with_nul(folder: Path) -> Path:
    return folder / "a\0b"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (missing, "cannot be opened: No such file or directory"),
        (a_folder, "is a directory"),
        (a_fifo, "is not a regular file"),
        (with_nul, "cannot be opened: its name has a NUL byte"),
    ],
)
def test_what_is_no_readable_file_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    path = str(make(tmp_path))

    def opened() -> None:
        with read_once(path):
            pass

    for read in (opened, lambda: digest_file(path), lambda: FileState.of(path)):
        with pytest.raises(InvalidRecordError) as raised:
            read()
        assert raised.value.rows[0].error == reason


def test_an_empty_file_has_a_state_and_no_content(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert FileState.of(str(path)).size == 0
    with pytest.raises(InvalidRecordError, match="the file is empty"):
        digest_file(str(path))


def test_an_error_while_a_file_is_read_names_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.RawIOBase):
        def fileno(self) -> int:
            return descriptor

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object, /) -> int:
            raise OSError(5, "Input/output error")

    descriptor = os.open(file, os.O_RDONLY)
    monkeypatch.setattr(reading, "open", lambda handle, mode: Broken(), raising=False)
    with (
        pytest.raises(InvalidRecordError, match=r"a\.bin: cannot be read: Input/output error"),
        read_once(str(file)),
    ):
        pass
    os.close(descriptor)


def test_items_say_where_they_stand_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.png").write_bytes(b"x")
    (tmp_path / "more" / "b.txt").write_text("one\ntwo\n")
    found = [(item.id, item.root, item.relative) for item in ImageSource([tmp_path], texts=True)]
    root = str(tmp_path)
    assert found == [
        ("more/a.png", root, "more/a.png"),
        ("more/b.txt#1", root, "more/b.txt"),
        ("more/b.txt#2", root, "more/b.txt"),
    ]
