"""One writer at a time, any number of readers, and directories that may only be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import psutil
import pytest

from tests.stores.faiss.helpers import (
    contents,
    digest,
    faiss_store,
    found,
    names,
    random_vectors,
    rows,
    small,
)
from vecbridge.errors import ConfigError, DeadlineError, StoreLockedError
from vecbridge.indexes import HNSW
from vecbridge.stores.faiss import collection, files

WRITER = """
import sys
import numpy as np
import vecbridge as vb

store = vb.connect(sys.argv[1])
photos = store.open("photos")
photos.upsert(vb.batch(photos.spec, id=["theirs"], vector=np.ones((1, 8), "f")))
print("written", flush=True)
for line in sys.stdin:
    if line.strip() == "close":
        store.close()
        print("closed", flush=True)
"""


class Elsewhere:
    """Another process that has written to the store, and holds its lock."""

    def __init__(self, place: Path) -> None:
        command = [sys.executable, "-c", WRITER, f"faiss://{place}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("written")

    def expect(self, word: str) -> None:
        output: IO[str] | None = self.process.stdout
        assert output is not None
        assert output.readline().strip() == word

    def close_store(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("close\n")
        self.process.stdin.flush()
        self.expect("closed")

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def made(place: Path) -> Path:
    """A closed store with three rows."""
    spec = small()
    with faiss_store(place) as store:
        store.create(spec).upsert(rows(spec, names(3)))
    return place


class TestAnotherProcess:
    """A writer in another process."""

    def test_it_is_named_and_readers_go_on(self, made: Path) -> None:
        with Elsewhere(made) as other, faiss_store(made) as store:
            photos = store.open("photos")
            mine = rows(small(), ["mine"])
            for attempt in (
                lambda: photos.upsert(mine),
                lambda: photos.delete(["theirs"]),
                lambda: photos.compact(),
                lambda: store.drop("photos"),
                lambda: store.create(small(), if_exists="replace"),
            ):
                with pytest.raises(StoreLockedError, match=rf"process {other.process.pid}\b"):
                    attempt()
            assert photos.count() == 4
            assert [each["id"] for each in contents(photos)] == [*names(3), "theirs"]
            photos.flush()

    def test_closing_its_store_gives_the_lock_back(self, made: Path) -> None:
        with Elsewhere(made) as other, faiss_store(made) as store:
            photos = store.open("photos")
            other.close_store()
            photos.upsert(rows(small(), ["mine"]))
            assert photos.count() == 5

    def test_killing_it_gives_the_lock_back(self, made: Path) -> None:
        with faiss_store(made) as store:
            photos = store.open("photos")
            with Elsewhere(made) as other:
                other.process.kill()
                other.process.wait()
                photos.upsert(rows(small(), ["mine"]))
            assert photos.count() == 5

    def test_waiting_for_an_index_that_it_does_not_build_ends_at_the_deadline(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collection, "_POLL_SECONDS", 0.001)
        spec = small(index=HNSW(m=8))
        with faiss_store(place) as store:
            store.create(spec)
        with Elsewhere(place), faiss_store(place) as store:
            photos = store.open("photos")
            assert photos.status().index == "building"
            with pytest.raises(DeadlineError, match="process"):
                photos.wait_ready(0.01)


class TestOneProcess:
    """Another store in this process is another writer, too."""

    def test_a_second_store_reads_and_does_not_write(self, made: Path) -> None:
        with faiss_store(made) as first, faiss_store(made) as second:
            writer, reader = first.open("photos"), second.open("photos")
            writer.upsert(rows(small(), ["mine"]))
            assert reader.count() == 4
            with pytest.raises(StoreLockedError, match=f"process {os.getpid()}"):
                reader.upsert(rows(small(), ["no"]))
            first.close()
            reader.upsert(rows(small(), ["yes"]))
            assert reader.count() == 5

    def test_a_lock_is_a_collections_own(self, made: Path) -> None:
        with faiss_store(made) as first, faiss_store(made) as second:
            first.open("photos").upsert(rows(small(), ["mine"]))
            other = second.create(small("others"))
            other.upsert(rows(small("others"), ["theirs"]))
            assert other.count() == 1

    def test_reading_takes_no_lock(self, made: Path) -> None:
        before = digest(made)
        (made / "photos" / "lock").unlink()
        with faiss_store(made) as store:
            photos = store.open("photos")
            contents(photos)
            found(photos, random_vectors(2), 2)
            photos.status()
            photos.flush()
        assert digest(made) == before
        assert not (made / "photos" / "lock").exists()

    def test_a_refused_batch_leaves_the_lock_to_others(self, made: Path) -> None:
        with faiss_store(made) as first, faiss_store(made) as second:
            with pytest.raises(Exception, match="not"):
                first.open("photos").upsert(rows(small(dim=4), ["mine"]))
            second.open("photos").upsert(rows(small(), ["theirs"]))

    def test_the_lock_of_a_dropped_collection_is_free(self, made: Path) -> None:
        with faiss_store(made) as first, faiss_store(made) as second:
            old = first.open("photos")
            old.upsert(rows(small(), ["mine"]))
            first.drop("photos")
            photos = second.create(small())
            photos.upsert(rows(small(), ["theirs"]))
            assert photos.count() == 1


class TestNetworkFileSystems:
    """Locks and maps cannot be trusted there."""

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "ceph"])
    def test_they_are_refused_before_anything_is_made(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        mounts = [("/", "ext4"), (str(place.parent.resolve()), kind)]
        monkeypatch.setattr(
            psutil,
            "disk_partitions",
            lambda all: [SimpleNamespace(mountpoint=m, fstype=f) for m, f in mounts],
        )
        with faiss_store(place) as store, pytest.raises(ConfigError, match=kind):
            store.create(small())
        assert not place.exists()

    def test_a_collection_that_was_moved_there_is_not_written_to(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = [("/", "ext4"), (str(made.resolve()), "nfs")]
        monkeypatch.setattr(
            psutil,
            "disk_partitions",
            lambda all: [SimpleNamespace(mountpoint=m, fstype=f) for m, f in mounts],
        )
        with faiss_store(made) as store, pytest.raises(ConfigError, match="local disk"):
            store.open("photos").upsert(rows(small(), ["mine"]))

    def test_the_nearest_mount_decides(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mounts = [
            ("/", "nfs"),
            (str(place.parent.parent.resolve()), "cifs"),
            (str(place.parent.resolve()), "xfs"),
        ]
        monkeypatch.setattr(
            psutil,
            "disk_partitions",
            lambda all: [SimpleNamespace(mountpoint=m, fstype=f) for m, f in mounts],
        )
        files.refuse_network_file_system(place)


READ_ONLY = """
import os, sys
import numpy as np
import vecbridge as vb

def read(store):
    photos = store.open("photos")
    assert photos.count() == 300
    assert photos.status().index == "ready", photos.status()
    vectors = photos.fetch(["r000007"])["vector"].flatten().to_numpy()
    [hits] = photos.search(vb.Query(vectors, 1, ef=64, filter=vb.field("n") >= 3, include=["s"]))
    assert hits.ids == ["r000007"], hits.ids
    assert sum(page.batch.num_rows for page in photos.scan()) == 300
    photos.flush()
    photos.wait_ready()
    assert store.collections() == ["photos"]
    return photos

with vb.connect(sys.argv[1]) as store:
    read(store)  # imports everything, for which the user below may have no right
if os.geteuid() == 0:
    import psutil
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with vb.connect(sys.argv[1]) as store:
    photos = read(store)
    new = vb.batch(photos.spec, id=["no"], vector=np.ones((1, 8), "f"))
    for attempt in (
        lambda: photos.upsert(new),
        lambda: photos.delete(["r000007"]),
        lambda: photos.compact(),
        lambda: store.drop("photos"),
        lambda: store.create(vb.CollectionSpec.single("others", dim=8)),
    ):
        try:
            attempt()
        except vb.errors.ConfigError as exc:
            assert "denied" in str(exc) or "Read-only" in str(exc), exc
        else:
            raise AssertionError("written without the right to")
    read(store)
print("all of it")
"""


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """A closed store with an index, in a directory that everybody may enter."""
    root = tmp_path / "store"
    spec = small(index=HNSW(m=8))
    with faiss_store(root) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(300)))
        photos.wait_ready()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == tmp_path.owner() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o055)
    return root


def run_read_only(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, f"faiss://{root}"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all of it\n", done.stderr


def test_a_user_without_the_right_to_write_reads_and_is_told_when_writing(indexed: Path) -> None:
    for path in (indexed, *indexed.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = digest(indexed)
    try:
        run_read_only(indexed)
        assert digest(indexed) == before
    finally:
        for path in (indexed, *indexed.rglob("*")):
            path.chmod(0o755)


def test_media_that_can_only_be_read_are_read(indexed: Path) -> None:
    mount = ["mount", "--bind", str(indexed), str(indexed)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.xfail(
            "mounting is forbidden here; the test above covers directories without the right to write"
        )
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(indexed)], check=True)
        run_read_only(indexed)
    finally:
        subprocess.run(["umount", "--lazy", str(indexed)], check=True)
