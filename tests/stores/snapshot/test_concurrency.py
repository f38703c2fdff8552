"""One writer and many readers, in this process and in others; scans that go on after a merge."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.stores.snapshot.helpers import names, parts, rows, small, snapshot_store, versions
from vecbridge.collection import Collection
from vecbridge.errors import CursorExpiredError, StoreLockedError
from vecbridge.query import Page
from vecbridge.registry import connect
from vecbridge.store import Store
from vecbridge.stores.snapshot import merge, pending, table
from vecbridge.testing import driver_of


def ids_of(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in page.batch["id"].to_pylist()]


def test_a_second_writer_is_refused_and_reads_what_the_first_one_writes(place: Path) -> None:
    spec = small()
    with snapshot_store(place) as first, snapshot_store(place) as second:
        mine = first.create(spec)
        other = second.open("photos")
        assert other.count() == 0
        mine.upsert(rows(spec, names(10)))
        assert versions(other) == dict.fromkeys(names(10), 0)
        for write in (
            lambda: other.upsert(rows(spec, names(1))),
            lambda: other.delete(names(1)),
            lambda: other.compact(),
            lambda: other.add_fields({"more": "string"}),
            lambda: second.drop("photos"),
            lambda: second.create(spec, if_exists="replace"),
        ):
            with pytest.raises(StoreLockedError, match="is being written by process"):
                write()
        mine.delete(names(5))
        mine.flush()
        assert versions(other) == dict.fromkeys(names(5, 5), 0)
        first.close()
        other.upsert(rows(spec, names(1), 7))
        assert versions(other) == dict.fromkeys(names(5, 5), 0) | {"r000000": 7}


@pytest.mark.parametrize("part_bytes", [1, 1 << 30])
def test_a_cursor_goes_on_through_every_merge_that_replaces_no_row(
    place: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(pending, "PART_BYTES", part_bytes)
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(100)))
        photos.flush()
        photos.upsert(rows(spec, names(100, 100)))
        photos.upsert(rows(spec, names(100, 200)))
        pages = photos.scan(include=[], batch_rows=40)
        seen = [next(pages) for _ in range(4)]  # up to the middle of the second request
        cursors = [seen[0].cursor, seen[3].cursor]
        photos.upsert(rows(spec, names(50, 300)))  # not there when the scan began
        photos.flush()
        given = ids_of(seen)
        assert given + ids_of(list(photos.scan(include=[], cursor=cursors[1]))) == names(300)
        store.close()
    with snapshot_store(place) as store:
        photos = store.open("photos")
        assert ids_of(seen[:1]) + ids_of(list(photos.scan(include=[], cursor=cursors[0]))) == names(300)
        photos.delete(names(10))  # from a part that the second cursor is past
        photos.flush()
        assert given + ids_of(list(photos.scan(include=[], cursor=cursors[1]))) == names(300)
        with pytest.raises(CursorExpiredError, match="rows were removed from a file"):
            list(photos.scan(include=[], cursor=cursors[0]))


def test_a_cursor_expires_where_a_row_moved_behind_the_end_of_its_scan(store: Store) -> None:
    spec = small()
    photos = store.create(spec)
    photos.upsert(rows(spec, names(100)))
    photos.upsert(rows(spec, names(10), 1))  # before the scan: it matters not
    first = next(photos.scan(include=[], batch_rows=30))
    photos.upsert(rows(spec, names(10, 100)))
    rest = list(photos.scan(include=[], cursor=first.cursor))
    assert sorted(ids_of([first, *rest])) == names(100)
    photos.upsert(rows(spec, names(1, 99), 1))
    for merged in (False, True):
        if merged:
            photos.flush()
        with pytest.raises(CursorExpiredError, match="were replaced since the scan began"):
            list(photos.scan(include=[], cursor=first.cursor))


def test_a_cursor_is_of_no_use_once_its_namespace_was_dropped_and_made_anew(store: Store) -> None:
    spec = small(namespaced=True)
    store.create(spec)
    photos = store.open("photos", namespace="eu")
    photos.upsert(rows(spec, names(100)))
    first = next(photos.scan(include=[], batch_rows=30))
    store.drop("photos", namespace="eu")
    photos.upsert(rows(spec, names(100), 1))
    with pytest.raises(CursorExpiredError):
        list(photos.scan(include=[], cursor=first.cursor))
    assert versions(photos) == dict.fromkeys(names(100), 1)


def test_a_scan_in_progress_keeps_its_rows_through_a_merge_that_appends(store: Store) -> None:
    spec = small()
    photos = store.create(spec)
    for start in range(0, 300, 100):
        photos.upsert(rows(spec, names(100, start)))
        if start:
            photos.flush()
    pages = photos.scan(include=["n"], batch_rows=50)
    seen = [next(pages)]
    photos.upsert(rows(spec, names(100, 300)))
    photos.flush()
    assert ids_of([*seen, *pages]) == names(300)


def test_a_scan_whose_file_was_rewritten_says_that_it_expired(store: Store) -> None:
    spec = small()
    photos = store.create(spec)
    for start in range(0, 300, 100):
        photos.upsert(rows(spec, names(100, start)))
        photos.flush()
    pages = photos.scan(include=["n"], batch_rows=50)
    seen = [next(pages)]
    photos.upsert(rows(spec, names(1, 250), 1))
    photos.flush()
    with pytest.raises(CursorExpiredError, match="removed by a merge"):
        seen += list(pages)
    assert ids_of(seen) == names(200)[: len(ids_of(seen))]


def test_readers_never_see_half_of_a_merge(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "PART_BYTES", 20_000)
    monkeypatch.setattr(table, "MOST_PENDING_REQUESTS", 7)
    spec = small()
    wrong: list[object] = []
    stop = threading.Event()
    with snapshot_store(place) as store, snapshot_store(place) as others:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(900)))

        def read(collection: Collection) -> None:
            while not stop.is_set():
                try:
                    found = collection.fetch(names(900), include=["n"])
                    counted = collection.count()
                    if found.num_rows != 900 or counted != 900:
                        wrong.append((found.num_rows, counted))
                except Exception as exc:  # noqa: BLE001 - the test shows what it was
                    wrong.append(exc)
                    return

        threads = [threading.Thread(target=read, args=(each,)) for each in (photos, others.open("photos"))]
        for thread in threads:
            thread.start()
        for version in range(1, 40):
            photos.upsert(rows(spec, names(150 if version % 3 else 600, version * 5), version))
            if version % 10 == 0:
                photos.flush()
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_what_is_pending_is_merged_once_it_is_much(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_PENDING_BYTES", 20_000)
    monkeypatch.setattr(pending, "PART_BYTES", 1 << 30)
    spec = small()
    photos = store.create(spec)
    most = 0
    for version in range(30):
        photos.upsert(rows(spec, names(50, 10 * version), version))
        most = max(most, photos.status().details["pending_requests"])
    assert 1 < most < 10
    assert photos.status().details["files"] > 3
    assert photos.count() == 50 + 29 * 10


def test_compacting_writes_small_files_together_and_leaves_large_ones(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "FILE_BYTES", 30_000)
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(2_000)))
        photos.flush()
        [large] = parts(place)
        for start in range(2_000, 2_500, 50):
            photos.upsert(rows(spec, names(50, start)))
            photos.flush()
        assert len(parts(place)) == 11
        photos.compact()
        assert len(parts(place)) == 2
        assert large in parts(place)
        assert versions(photos) == dict.fromkeys(names(2_500), 0)


def test_a_failed_merge_leaves_the_requests_and_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small()
    with snapshot_store(place) as store:
        photos = store.create(spec)
        photos.upsert(rows(spec, names(100)))
        photos.flush()
        photos.upsert(rows(spec, names(100, 50), 1))
        before = parts(place)

        def broken(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as context:
            context.setattr(merge, "_appended", broken)
            with pytest.raises(Exception, match="Input/output error"):
                photos.flush()
        assert parts(place) == before
        expected = dict.fromkeys(names(50), 0) | dict.fromkeys(names(100, 50), 1)
        assert versions(photos) == expected
        photos.flush()
        assert versions(photos) == expected


def test_a_path_without_a_host_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with connect("snapshot:./here") as store:
        store.create(small())
        assert str(store.url) == f"snapshot://{tmp_path}/here"
    assert (tmp_path / "here" / "photos" / "manifest.json").exists()
    assert driver_of(connect("snapshot:./here")) is not None
