"""What other tests reach by lowering a threshold, at the sizes that people meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stores.snapshot.helpers import names, parts, rows, small, snapshot_store, versions
from vecbridge.collection import Collection
from vecbridge.records import batch, vectors
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.snapshot import layout, merge, pending, table

MB = 1 << 20
DIM = 1024


def wide(spec: CollectionSpec, start: int, count: int) -> pa.RecordBatch:
    """Rows of 4 KB each, whose vectors tell them apart."""
    values = np.random.default_rng(start).standard_normal((count, DIM), dtype=np.float32)
    return batch(spec, id=names(count, start), vector=values, n=range(start, start + count))


def assert_rows(photos: Collection, batches: list[pa.RecordBatch]) -> None:
    """Every row once, bit by bit."""
    assert photos.count() == sum(each.num_rows for each in batches)
    for each in batches:
        ids = each["id"].to_pylist()[:: each.num_rows // 10]
        found = photos.fetch(ids)
        assert found["n"].to_pylist() == each["n"].to_pylist()[:: each.num_rows // 10]
        assert np.array_equal(vectors(found), vectors(each)[:: each.num_rows // 10])


def test_a_request_of_8_mb_becomes_a_file_and_a_smaller_one_waits_for_others(
    store: Store, place: Path
) -> None:
    assert pending.PART_BYTES == 8 * MB
    spec = small(dim=DIM, fields={"n": "int64"})
    photos = store.create(spec)
    batches = [wide(spec, 0, 2_500), wide(spec, 2_500, 1_000)]  # 10 MB and 4 MB
    for each in batches:
        photos.upsert(each)
    [whole] = place.rglob("*.part")
    [small_one] = place.rglob("*.upsert.arrow")
    assert whole.stat().st_size > 8 * MB > small_one.stat().st_size
    inode = whole.stat().st_ino
    photos.flush()
    assert inode in {path.stat().st_ino for path in parts(place)}, "it was not written twice"
    assert_rows(photos, batches)


def test_row_groups_have_about_32_mb(store: Store, place: Path) -> None:
    assert layout.GROUP_BYTES == 32 * MB
    spec = small(dim=DIM, fields={"n": "int64"})
    photos = store.create(spec)
    batches = [wide(spec, start, 1_500) for start in range(0, 24_000, 1_500)]  # 6 MB each, 94 in all
    for each in batches:
        photos.upsert(each)
    photos.flush()
    [path] = parts(place)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(each).total_byte_size for each in range(metadata.num_row_groups)]
    assert len(groups) in (3, 4)
    assert all(0.7 * 32 * MB < each < 2.1 * 32 * MB for each in groups[:-1])
    assert_rows(photos, batches)


@pytest.mark.long
def test_files_have_about_512_mb_and_more_is_merged_without_being_asked(store: Store, place: Path) -> None:
    assert merge.FILE_BYTES == 496 * MB
    assert table.MOST_PENDING_BYTES == 512 * MB
    spec = small(dim=DIM, fields={"n": "int64"})
    photos = store.create(spec)
    batches = []
    for start in range(0, 180_000, 1_500):  # 6 MB each, 703 in all
        batches.append(wide(spec, start, 1_500))
        photos.upsert(batches[-1])
    assert parts(place), "what was pending was merged by a write"
    photos.flush()
    photos.compact()
    sizes = [path.stat().st_size for path in parts(place)]
    assert len(sizes) == 2
    assert max(sizes) < 560 * MB
    assert_rows(photos, batches)


@pytest.mark.long
def test_two_thousand_small_requests_are_merged_without_being_asked(place: Path) -> None:
    assert table.MOST_PENDING_REQUESTS == 2_000
    with snapshot_store(place) as store:
        photos = store.create(small())
        for number in range(2_001):
            photos.upsert(rows(photos.spec, names(1, number)))
            if number < 1_999:
                assert not parts(place)
        assert parts(place)
        assert versions(photos) == dict.fromkeys(names(2_001), 0)
