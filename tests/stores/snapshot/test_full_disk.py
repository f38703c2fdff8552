"""A disk without room: a typed error, nothing of the request stored, and later writes go on."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stores.snapshot.helpers import files, names, rows, small, snapshot_store, versions
from vecbridge.errors import BackendError, ConfigError, StorageFullError
from vecbridge.store import Store
from vecbridge.stores.snapshot import pending
from vecbridge.testing import driver_of


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of this process end at a size, as they do where the disk ends."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("part_bytes", [1, 1 << 30], ids=["part", "ipc"])
@pytest.mark.parametrize("size", [0, 1_000, 20_000])
def test_a_request_that_does_not_fit_is_not_stored_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int, size: int
) -> None:
    monkeypatch.setattr(pending, "PART_BYTES", part_bytes)
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(100)))
        before = files(place)
        with largest_file(size), pytest.raises(StorageFullError, match="no room left"):
            photos.upsert(rows(spec, names(2_000), 1))
        assert files(place) == before
        assert versions(photos) == dict.fromkeys(names(100), 0)
        photos.upsert(rows(spec, names(2_000), 1))
        assert versions(photos) == dict.fromkeys(names(2_000), 1)


def test_a_delete_that_does_not_fit_deletes_nothing(store: Store, place: Path) -> None:
    spec = small()
    photos = store.create(spec)
    photos.upsert(rows(spec, names(2_000)))
    before = files(place)
    with largest_file(1_000), pytest.raises(StorageFullError):
        photos.delete(names(1_000))
    assert files(place) == before
    assert photos.count() == 2_000


@pytest.mark.parametrize("size", [500, 30_000])
def test_a_merge_that_does_not_fit_leaves_what_is_pending_for_the_next_one(place: Path, size: int) -> None:
    spec = small()
    expected = dict.fromkeys(names(500), 0) | dict.fromkeys(names(2_000, 500), 1)
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(1_000)))
        photos.flush()
        photos.upsert(rows(spec, names(2_000, 500), 1))
        before = files(place)
        with largest_file(size):
            for merge in (photos.flush, photos.compact):
                with pytest.raises(StorageFullError):
                    merge()
                assert files(place) == before
            store.close()  # which cannot merge either, and says so in the log
        assert files(place) == before
    with snapshot_store(place) as store:
        photos = store.open("photos")
        assert versions(photos) == expected
        photos.upsert(rows(spec, names(1, 9_999)))
    with snapshot_store(place) as store:
        assert versions(store.open("photos")) == expected | {"r009999": 0}
    assert not [each for each in files(place) if "_pending" in each]


def test_a_collection_that_does_not_fit_is_not_made(store: Store, place: Path) -> None:
    with largest_file(100), pytest.raises(StorageFullError):
        store.create(small())
    assert store.collections() == []
    assert files(place) == []
    assert store.create(small()).count() == 0


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EFBIG, StorageFullError),
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
