"""A disk without room: a typed error, nothing of it stored, and everything goes on once there is room."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores.faiss.helpers import (
    best,
    contents,
    digest,
    faiss_store,
    found,
    names,
    one,
    random_vectors,
    reader_of,
    rows,
    small,
)
from vecbridge.collection import Collection
from vecbridge.errors import BackendError, ConfigError, StorageFullError
from vecbridge.indexes import HNSW, Flat, IndexParams, IVFFlat
from vecbridge.store import Store
from vecbridge.stores.faiss import errors, log, writer
from vecbridge.testing import driver_of

DISK = 8 << 20
DIM = 64
FLAT = Flat()
ROW_BYTES = 4 * DIM


class Disk:
    """A file system that can be filled to the last byte.

    Where mounting is forbidden, a limit on the size of files stands in: the kernel then refuses to
    write behind it, and what it says is translated into what a full disk says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "disk"
        self.root.mkdir()
        self.mounted = self._mount()

    def _mount(self) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "vecbridge-test", str(self.root)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False

    def fill(self, leave: int = 0, *, growing: str = "*") -> None:
        """Takes all the room but some bytes; ``growing`` are the files that the limit must meet."""
        if not self.mounted:
            sizes = [path.stat().st_size for path in self.root.rglob(growing) if path.is_file()]
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0) + leave, resource.RLIM_INFINITY))
            return
        ballast = self.root / "ballast"
        with ballast.open("ab", buffering=0) as file:
            size = 1 << 20
            while size >= 1:
                try:
                    if file.write(bytes(size)) < size:
                        size //= 2
                except OSError:
                    size //= 2
            file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        """Gives the room back."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return
        (self.root / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        self.free()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    before = signal.getsignal(signal.SIGXFSZ)
    if not disk.mounted:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        monkeypatch.setattr(errors, "_FULL", {*errors._FULL, errno.EFBIG})
    yield disk
    disk.remove()
    signal.signal(signal.SIGXFSZ, before)


def spec(index: IndexParams = FLAT, **changes: Any) -> Any:
    return small(dim=DIM, index=index, **changes)


def some(start: int, count: int, index: IndexParams = FLAT) -> Any:
    return rows(spec(index), names(count, start), random_vectors(count, DIM, seed=start))


class TestWriting:
    """A batch that does not fit."""

    @pytest.mark.parametrize("leave", [0, 1, 4096, 100 * ROW_BYTES, 1000 * ROW_BYTES + 4096])
    def test_nothing_of_a_batch_that_does_not_fit_is_stored(self, disk: Disk, leave: int) -> None:
        with faiss_store(disk.root / "s") as store, faiss_store(disk.root / "s") as others:
            photos = store.create(spec())
            photos.upsert(some(0, 200))
            before = contents(photos)
            disk.fill(leave)
            for _ in range(2):
                with pytest.raises(StorageFullError, match="no room left"):
                    photos.upsert(some(100, 12_000))
                assert contents(photos) == before
                assert contents(others.open("photos")) == before
            disk.free()
            photos.upsert(some(100, 200))
            assert len(contents(photos)) == 300
            after = contents(photos)
            assert contents(others.open("photos")) == after
        with faiss_store(disk.root / "s") as store:
            assert contents(store.open("photos")) == after

    def test_a_store_opens_and_answers_on_a_disk_without_a_byte(self, disk: Disk) -> None:
        ids, stored = names(200), random_vectors(200, DIM, seed=0)
        with faiss_store(disk.root / "s") as store:
            store.create(spec()).upsert(some(0, 200))
        disk.fill()
        before = digest(disk.root / "s")
        with faiss_store(disk.root / "s") as store:
            photos = store.open("photos")
            assert found(photos, stored[:5], 3) == best("l2", stored[:5], stored, ids, 3)
            assert len(contents(photos)) == 200
            with pytest.raises(StorageFullError):
                photos.upsert(some(200, 5000))
            assert len(contents(photos)) == 200
        assert digest(disk.root / "s") == before

    def test_room_that_a_failed_batch_took_is_given_back(self, disk: Disk) -> None:
        if not disk.mounted:
            disk.fill(1 << 20)
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec())
            photos.upsert(some(0, 10))
            with pytest.raises(StorageFullError):
                photos.upsert(some(10, 50_000))
            assert (
                sum(path.stat().st_size for path in (disk.root / "s").rglob("*") if path.is_file()) < 1 << 16
            )

    def test_a_full_disk_is_said_by_create_and_by_the_first_write(self, disk: Disk) -> None:
        if not disk.mounted:
            pytest.xfail("a limit on the size of files lets small ones through")
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec())
            disk.fill()
            with pytest.raises(StorageFullError):
                photos.upsert(some(0, 10))
            assert contents(photos) == []
            with pytest.raises(StorageFullError):
                store.create(small("others"))
            assert store.collections() == ["photos"]
            disk.free()
            photos.upsert(some(0, 10))
            assert len(contents(photos)) == 10
            assert contents(store.create(small("others"))) == []

    def test_deletes_need_room_too_and_say_so(self, disk: Disk) -> None:
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec())
            photos.upsert(some(0, 3000))
            before = contents(photos)
            disk.fill(growing="rows-*.log")
            with pytest.raises(StorageFullError):
                photos.delete(names(2500))  # a smaller frame may fit into the last page of the log
            assert contents(photos) == before
            disk.free()
            photos.delete([each["id"] for each in before])
            assert contents(photos) == []

    def test_a_commit_stands_though_its_log_cannot_be_written_anew(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(writer, "_REWRITE_FRAMES", 4)

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec())
            with monkeypatch.context() as context:
                context.setattr(writer, "write_log", full)
                for start in range(0, 60, 10):
                    photos.upsert(some(start, 10))
                    assert len(contents(photos)) == start + 10
            assert "cannot be written anew" in caplog.text
            photos.upsert(some(60, 10))
            before = contents(photos)
        with faiss_store(disk.root / "s") as store:
            assert contents(store.open("photos")) == before
        [log] = (disk.root / "s").rglob("rows-*.log")
        assert log.name == "rows-1.log"


@pytest.fixture(params=[HNSW(m=32, ef_construction=20), IVFFlat(nlist=16)], ids=["hnsw", "ivf_flat"])
def index(request: pytest.FixtureRequest) -> IndexParams:
    return request.param


class TestDerived:
    """Indexes and compaction need room of their own."""

    def filled(self, disk: Disk, photos: Collection, count: int, leave: int, index: IndexParams) -> None:
        photos.upsert(some(0, count, index))
        disk.fill(leave, growing="no such file")

    @pytest.mark.parametrize("leave", [0, 4096, 20_000, 100_000])
    def test_an_index_that_does_not_fit_is_not_built_and_searches_stay_exact(
        self, disk: Disk, index: IndexParams, leave: int
    ) -> None:
        stored, ids = random_vectors(2000, DIM, seed=0), names(2000)
        queries = random_vectors(5, DIM, seed=1)
        truth = best("l2", queries, stored, ids, 5)
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec(index))
            self.filled(disk, photos, 2000, leave, index)
            with pytest.raises(StorageFullError):
                photos.wait_ready(60)
            assert photos.status().index == "building"
            assert found(photos, queries, 5) == truth
            disk.free()
            photos.wait_ready(60)
            assert photos.status().index == "ready"
            assert found(photos, stored[:5], 1) == [[each] for each in ids[:5]]
        with faiss_store(disk.root / "s") as store:
            photos = store.open("photos")
            assert photos.status().index == "ready"
            assert len(contents(photos)) == 2000

    def test_the_last_block_of_an_index_is_missed_too(self, disk: Disk, index: IndexParams) -> None:
        if not disk.mounted:
            pytest.xfail("a limit on the size of files is not reached by the last block alone")
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec(index))
            photos.upsert(some(0, 2000, index))
            photos.wait_ready(60)
            size = one(disk.root, "index-*.faiss").stat().st_size
            photos.delete(names(1))
            photos.upsert(some(0, 1, index))
            disk.fill(size // 4096 * 4096)
            with pytest.raises(StorageFullError):
                photos.wait_ready(60)
            assert photos.status().index == "building"

    def test_an_index_that_cannot_grow_keeps_what_it_covers(self, disk: Disk, index: IndexParams) -> None:
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec(index))
            photos.upsert(some(0, 1000, index))
            photos.wait_ready(60)
            photos.upsert(some(1000, 1000, index))
            disk.fill(4096, growing="no such file")
            with pytest.raises(StorageFullError):
                photos.wait_ready(60)
            late = random_vectors(1000, DIM, seed=1000)
            assert found(photos, late[:5], 1) == [[each] for each in names(5, 1000)]
            with faiss_store(disk.root / "s") as others:
                mine = others.open("photos")
                assert mine.status().index == "building"
                view = reader_of(mine).view()
                assert sum(each.rows for each in view.indexes["vector"]) == 1000

    @pytest.mark.parametrize("share", [0.05, 0.6, 0.95])
    def test_a_compaction_that_does_not_fit_changes_nothing(
        self, disk: Disk, index: IndexParams, share: float
    ) -> None:
        with faiss_store(disk.root / "s") as store:
            photos = store.create(spec(index))
            photos.upsert(some(0, 3000, index))
            photos.wait_ready(60)
            photos.delete(names(100))
            before, files_before = contents(photos), digest(disk.root / "s")
            [page, *_] = photos.scan(batch_rows=10)
            needed = int(share * 2900 * ROW_BYTES)
            disk.fill(needed, growing="no such file")
            with pytest.raises(StorageFullError):
                photos.compact(60)
            assert digest(disk.root / "s") == files_before
            assert contents(photos) == before
            assert photos.status().index == "ready"
            assert sum(each.batch.num_rows for each in photos.scan(cursor=page.cursor)) == 2890
            disk.free()
            photos.compact(60)
            assert contents(photos) == before
            assert photos.status().details["dead_rows"] == 0


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.EIO, BackendError),
    ],
)
def test_every_error_of_a_file_system_is_told_apart(store: Store, number: int, kind: type[Exception]) -> None:
    error = driver_of(store).error(OSError(number, os.strerror(number), "/some/file"), "upsert")
    assert type(error) is kind
    assert str(error).startswith("upsert: ")
    assert os.strerror(number) in str(error)
    assert getattr(error, "unsent", None) is (None if kind is ConfigError else kind is StorageFullError)


def test_an_error_of_faiss_is_told_from_a_fault_of_ours(store: Store) -> None:
    error = driver_of(store).error(RuntimeError("Error in faiss::IndexIVF"), "search")
    assert type(error) is BackendError
    assert "FAISS" in str(error)
    assert driver_of(store).error(KeyError("vector"), "search") is None


def test_a_frame_that_was_not_written_whole_is_cut_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows-0.log"
    path.write_bytes(b"whole frames")

    def half(descriptor: int, data: bytes, offset: int) -> None:
        os.pwrite(descriptor, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(log, "write_all", half)
    with path.open("r+b") as file, pytest.raises(OSError, match="no space left"):
        log.append(file.fileno(), len(b"whole frames"), b"another frame")
    assert path.read_bytes() == b"whole frames"
