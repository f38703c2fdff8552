"""What must have reached the disk before what, so that a power cut loses nothing that was acknowledged.

A killed process cannot show it, because the kernel writes its files later all the same. So the calls of the
operating system are recorded here, and what a power cut could still undo is known at every moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores.faiss.helpers import contents, faiss_store, names, random_vectors, rows, small
from vecbridge.indexes import HNSW
from vecbridge.stores.faiss import writer


class Disk:
    """What a power cut could undo: names that no sync of their directory followed, and data likewise.

    Args:
        root: Only what is below it is recorded.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mutex = threading.RLock()
        self.names: set[Path] = set()
        self.data: set[Path] = set()
        self.before_replace: Callable[[Path], None] = lambda target: None
        self.before_write: Callable[[Path], None] = lambda path: None

    def unsafe(self, *patterns: str) -> list[str]:
        """Names and data below the root that a power cut could undo, of files that match a pattern."""
        found = [f"name {path.relative_to(self._root)}" for path in self.names if _matches(path, patterns)]
        found += [f"data {path.relative_to(self._root)}" for path in self.data if _matches(path, patterns)]
        return sorted(found)

    def created(self, path: Path) -> None:
        with self._mutex:
            if path.is_relative_to(self._root):
                self.names.add(path)

    def written(self, path: Path) -> None:
        with self._mutex:
            if path.is_relative_to(self._root):
                self.data.add(path)

    def synced(self, path: Path) -> None:
        with self._mutex:
            self.data.discard(path)
            self.names = {name for name in self.names if name.parent != path}

    def renamed(self, source: Path, target: Path) -> None:
        """Takes what was below the source along."""
        with self._mutex:
            self.names = {_moved(each, source, target) for each in self.names} | {target}
            self.data = {_moved(each, source, target) for each in self.data}


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if path.is_relative_to(source) else path


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return path.exists() and (not patterns or any(path.match(pattern) for pattern in patterns))


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Records the calls below ``tmp_path``."""
    disk = Disk(tmp_path)
    real = {
        name: getattr(os, name)
        for name in ("open", "mkdir", "pwrite", "fsync", "fdatasync", "rename", "replace")
    }

    def opened(path: Any, flags: int, *rest: Any, **options: Any) -> Any:
        new = flags & os.O_CREAT and not Path(path).exists()
        descriptor = real["open"](path, flags, *rest, **options)
        if new:
            disk.created(Path(path))
        return descriptor

    def made(path: Any, *rest: Any, **options: Any) -> None:
        real["mkdir"](path, *rest, **options)
        disk.created(Path(path))

    def written(descriptor: int, *rest: Any) -> Any:
        disk.before_write(_path(descriptor))
        count = real["pwrite"](descriptor, *rest)
        disk.written(_path(descriptor))
        return count

    def moved(name: str) -> Callable[..., None]:
        def move(source: Any, target: Any, **options: Any) -> None:
            disk.before_replace(Path(target))
            real[name](source, target, **options)
            disk.renamed(Path(source), Path(target))

        return move

    def synced(name: str) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            real[name](descriptor)
            disk.synced(_path(descriptor))

        return sync

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "mkdir", made)
    monkeypatch.setattr(os, "pwrite", written)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, moved(name))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, synced(name))
    yield disk
    monkeypatch.undo()


def truth_of(disk: Disk) -> list[str]:
    """What a power cut could undo of all that is no lock and not derived."""
    return [each for each in disk.unsafe() if not each.endswith(("/lock", ".faiss")) and "unit-" not in each]


def test_the_spy_sees_what_is_not_synced(disk: Disk, tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, b"text", 0)
    assert truth_of(disk) == ["data d/file", "name d", "name d/file"]
    os.fdatasync(descriptor)
    assert truth_of(disk) == ["name d", "name d/file"]
    directory.rename(tmp_path / "e")
    assert truth_of(disk) == ["name e", "name e/file"]
    os.close(descriptor)


def test_a_collection_that_was_created_stays(disk: Disk, tmp_path: Path) -> None:
    with faiss_store(tmp_path / "new" / "data") as store:
        store.create(small())
        assert truth_of(disk) == []


def test_rows_that_were_acknowledged_stay(disk: Disk, tmp_path: Path) -> None:
    with faiss_store(tmp_path / "data") as store:
        photos = store.create(small())
        for start in (0, 10):
            photos.upsert(rows(small(), names(10, start)))
            assert truth_of(disk) == []
        photos.delete(names(3))
        assert truth_of(disk) == []


def test_large_vectors_that_another_thread_writes_stay(disk: Disk, tmp_path: Path) -> None:
    spec = small(dim=1024)
    with faiss_store(tmp_path / "data") as store:
        photos = store.create(spec)
        for start in (0, 400):
            photos.upsert(rows(spec, names(400, start), random_vectors(400, 1024)))
            assert truth_of(disk) == []


def test_vectors_are_on_the_disk_before_the_log_names_them(disk: Disk, tmp_path: Path) -> None:
    seen: list[str] = []

    def look(path: Path) -> None:
        if path.match("rows-*.log"):
            seen.append("log")
            assert disk.unsafe("vectors-*.f32") == []

    disk.before_write = look
    with faiss_store(tmp_path / "data") as store:
        photos = store.create(small())
        photos.upsert(rows(small(), names(10)))
        photos.upsert(rows(small(), names(10)))
    assert seen == ["log", "log"]


def test_a_generation_is_on_the_disk_before_it_is_the_current_one(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_REWRITE_FRAMES", 5)
    seen: list[str] = []

    def look(target: Path) -> None:
        if target.name == "CURRENT":
            seen.append(target.name)
            directories = [path for path in target.parent.iterdir() if path.is_dir()]
            assert directories
            assert not disk.names & set(directories)
            assert disk.unsafe("vectors-*.f32", "rows-*.log") == []

    disk.before_replace = look
    with faiss_store(tmp_path / "data") as store:
        spec = small(index=HNSW(m=8))
        photos = store.create(spec)
        for start in range(0, 60, 10):  # the log is written anew after the fifth
            photos.upsert(rows(spec, names(10, start)))
        assert seen == ["CURRENT"] * 2
        photos.delete(names(20))
        photos.wait_ready()
        photos.compact()
        assert truth_of(disk) == []
        assert seen == ["CURRENT"] * 3
        assert [each["id"] for each in contents(photos)] == names(40, 20)


def test_a_namespace_that_was_written_to_stays(disk: Disk, tmp_path: Path) -> None:
    spec = small(namespaced=True)
    with faiss_store(tmp_path / "data") as store:
        store.create(spec)
        photos = store.open("photos", namespace="eu")
        photos.upsert(rows(spec, names(5)))
        assert truth_of(disk) == []
        assert store.namespaces("photos") == ["eu"]
