"""What other tests reach by lowering a threshold, at the sizes that people meet."""

from __future__ import annotations

import zlib
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.stores.faiss.helpers import (
    best,
    faiss_store,
    found,
    names,
    random_vectors,
    recall,
    rows,
    small,
    vectors_of,
)
from vecbridge.filters import field
from vecbridge.indexes import Auto, IVFFlat
from vecbridge.records import batch
from vecbridge.store import Store
from vecbridge.stores.faiss import import_index, indexes, masks, upkeep, writer
from vecbridge.stores.faiss import rows as faiss_rows

MB = 1 << 20


def index_files(place: Path) -> list[Path]:
    return sorted(place.rglob("index-*.faiss"))


def sparse_file(path: Path, size: int, places: list[int]) -> None:
    """A file of zeros that takes next to no room, with bytes that differ at some places."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, place in enumerate(places, start=1):
            file.seek(place)
            file.write(bytes([number % 255 + 1]) * 7)


def flipped(path: Path, place: int) -> int:
    """The checksum with one bit changed, which is changed back."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        for value in (byte ^ 1, byte):
            file.seek(place)
            file.write(bytes([value]))
            file.flush()
            if value != byte:
                wrong = indexes.checksum(path)
    return wrong


class TestChecksums:
    """Files up to 256 MB are read whole; of larger ones 64 blocks of 1 MB, from first byte to last."""

    def test_a_file_of_256_mb_is_checked_byte_by_byte(self, tmp_path: Path) -> None:
        path, size = tmp_path / "whole", 256 * MB
        sparse_file(path, size, [0, 5 * MB, size - 7])
        right = indexes.checksum(path)
        for place in (0, 3 * MB + 17, size - 1):
            assert flipped(path, place) != right
        assert indexes.checksum(path) == right

    def test_a_larger_file_is_checked_by_64_blocks_from_the_first_byte_to_the_last(
        self, tmp_path: Path
    ) -> None:
        path, step = tmp_path / "large", 5 * MB
        size = 63 * step + MB  # so that the blocks begin at whole multiples of 5 MB
        sparse_file(path, size, [block * step + 100 for block in range(64)])
        right = indexes.checksum(path)
        expected = 0
        with path.open("rb") as file:
            for block in range(64):
                file.seek(block * step)
                expected = zlib.crc32(file.read(MB), expected)
        assert right == expected
        for block in (0, 1, 31, 62, 63):
            for place in (block * step, block * step + MB - 1):
                assert flipped(path, place) != right
        assert flipped(path, step + 2 * MB) == right, "what lies between two blocks is not read"

    @pytest.mark.long
    def test_a_damaged_index_of_more_than_256_mb_is_found_and_built_again(self, tmp_path: Path) -> None:
        stored, place = random_vectors(100_000, 768, seed=1), tmp_path / "store"
        with faiss_store(place) as store:
            photos = store.create(small(dim=768, index=IVFFlat(nlist=16)))
            photos.upsert(rows(photos.spec, names(100_000), stored))
            photos.wait_ready()
        [path] = index_files(place)
        assert path.stat().st_size > 256 * MB
        with path.open("r+b") as file:
            file.seek(path.stat().st_size - 5)
            file.write(b"wrong")
        with faiss_store(place) as store:
            photos = store.open("photos")
            assert photos.status().index == "building"
            assert found(photos, stored[:2], 1) == [["r000000"], ["r000001"]]
            photos.wait_ready()
            assert photos.status().index == "ready"


def test_auto_builds_a_graph_from_20_000_rows_on_and_not_before(store: Store, place: Path) -> None:
    assert indexes.AUTO_FROM == 20_000
    photos = store.create(small(index=Auto()))
    stored = random_vectors(20_000)
    photos.upsert(rows(photos.spec, names(19_999), stored[:-1]))
    photos.wait_ready()
    assert (photos.status().index, index_files(place)) == ("ready", [])
    photos.upsert(rows(photos.spec, names(1, 19_999), stored[-1:]))
    assert photos.status().index == "building"
    photos.wait_ready()
    assert len(index_files(place)) == 1
    queries = random_vectors(20, seed=1)
    assert recall(found(photos, queries, 10), best("l2", queries, stored, names(20_000), 10)) >= 0.95


def test_flush_extends_an_index_that_is_20_000_rows_behind_and_not_before(store: Store) -> None:
    assert upkeep._FLUSH_ROWS == 20_000
    photos = store.create(small(index=IVFFlat(nlist=8)))
    photos.upsert(rows(photos.spec, names(400)))
    photos.wait_ready()
    photos.upsert(rows(photos.spec, names(19_999, 400)))
    photos.flush()
    assert photos.status().index == "building"
    photos.upsert(rows(photos.spec, names(1, 20_399)))
    photos.flush()
    assert photos.status().index == "ready"


def test_rows_beyond_the_sizes_of_id_tables_and_masks_are_found_and_filtered(
    store: Store, place: Path
) -> None:
    count = 140_000
    assert count > faiss_rows._DELTA_LIMIT
    assert count > masks._PIECE
    spec = small(dim=2, fields={"n": "int64", "s": "string"})
    photos = store.create(spec)
    numbers = np.random.default_rng(2).permutation(count)
    texts = [f"t{number % 9_000}" for number in numbers]  # more than masks keep apart as codes
    ids, values = names(count), random_vectors(count, 2)
    for start in range(0, count, 35_000):
        part = slice(start, start + 35_000)
        photos.upsert(batch(spec, id=ids[part], vector=values[part], n=numbers[part], s=texts[part]))
    photos.delete(ids[::7])
    photos.upsert(batch(spec, id=ids[1:9:7], vector=values[1:9:7], n=[-1, -2], s=["new", None]))
    n = {key: int(number) for key, number in zip(ids, numbers, strict=True)}
    s: dict[str, str | None] = dict(zip(ids, texts, strict=True))
    for key in ids[::7]:
        del n[key], s[key]
    for key, number, text in zip(ids[1:9:7], (-1, -2), ("new", None), strict=True):
        n[key], s[key] = number, text

    def check(store: Store) -> None:
        rows_of = store.open("photos")
        expected = {
            field("n") < 1_000: {key for key in n if n[key] < 1_000},
            field("s") == "t17": {key for key in s if s[key] == "t17"},
            field("s").isin(["t8999", "new"]) & (field("n") < 90_000): {
                key for key in s if s[key] in ("t8999", "new") and n[key] < 90_000
            },
            field("s").is_null(): {key for key in s if s[key] is None},
        }
        assert rows_of.count() == len(n)
        for condition, keys in expected.items():
            pages = rows_of.scan(include=[], filter=condition)
            assert {key for page in pages for key in page.batch["id"].to_pylist()} == keys, condition
            assert rows_of.count(condition) == len(keys)
        asked = [ids[0], *ids[1:20], ids[-1]]
        there = [key for key in asked if key in n]
        assert rows_of.fetch(asked, include=["n"]).to_pydict() == {
            "id": there,
            "n": [n[key] for key in there],
        }

    check(store)
    store.close()
    with faiss_store(place) as again:
        check(again)


def test_an_index_of_more_than_one_block_is_imported(store: Store, tmp_path: Path) -> None:
    values = random_vectors(12_000, 1024)  # 48 MB, in blocks of 32
    index = faiss.index_factory(1024, "IVF4,Flat")
    index.train(values[:400])
    index.add_with_ids(values, 3 * np.arange(12_000)[::-1])
    faiss.write_index(index, str(tmp_path / "theirs"))
    photos = import_index(store, tmp_path / "theirs", name="theirs")
    assert photos.count() == 12_000
    keys = list(range(0, 36_000, 3))
    assert np.array_equal(vectors_of(photos, keys), values[::-1])


@pytest.mark.long
def test_the_log_is_written_anew_after_4_096_commits(store: Store, place: Path) -> None:
    assert writer._REWRITE_FRAMES == 4_096
    photos = store.create(small(dim=2))
    for number in range(4_200):
        photos.upsert(rows(photos.spec, names(1, number % 4_150)))
    assert photos.count() == 4_150
    store.close()
    with faiss_store(place) as again:
        assert again.open("photos").count() == 4_150
        assert again.open("photos").fetch(["r000007"]).num_rows == 1
