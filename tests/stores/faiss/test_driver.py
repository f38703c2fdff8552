"""What the driver alone promises: keys, one part a batch, reading without any right to write."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.stores.faiss.helpers import (
    contents,
    digest,
    faiss_store,
    found,
    names,
    one,
    random_vectors,
    reader_of,
    rows,
    scanned,
    small,
)
from vecbridge import records
from vecbridge.driver import Deadline, PageRequest, RequestLimits, SearchRequest
from vecbridge.errors import BackendError, CursorExpiredError, NotFoundError, StoreLockedError
from vecbridge.store import Store
from vecbridge.stores.faiss import writer
from vecbridge.stores.faiss.collection import FaissCollection
from vecbridge.stores.faiss.driver import FaissDriver, FaissOptions
from vecbridge.testing import driver_of
from vecbridge.urls import parse

SOON = Deadline.after(600)


def paged(driver: FaissCollection, key: Any, rows: int = 10, **options: Any) -> list[Any]:
    return list(driver.pages(PageRequest((), None, rows, 30.0, key, **options)))


class TestKeys:
    """Where a scan goes on."""

    @pytest.mark.parametrize(
        "key",
        [
            0, "", "7", [], ["1"], ["1", 0, 5], ["1", 0, 5, 5, 5], [1, 0, 5, 5], ["1", "0", 5, 5],
            ["1", -1, 5, 5], ["1", 5, 4, 5], ["1", 0, 6, 5], ["1", 0, None, 5], ["1", 0.0, 5, 5],
        ],
        ids=repr,
    )  # fmt: skip
    def test_a_key_of_another_form_is_refused(self, store: Store, key: Any) -> None:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, names(5)))
        with pytest.raises(ValueError, match="generation"):
            paged(driver_of(photos), key)

    def test_a_key_of_another_generation_has_expired(self, store: Store) -> None:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, names(5)))
        driver = driver_of(photos)
        [*_, last] = paged(driver, None, 2)
        assert paged(driver, last.after) == []
        photos.compact()
        with pytest.raises(CursorExpiredError, match="photos"):
            paged(driver, last.after)

    def test_no_page_is_longer_than_the_rows_that_are_wanted_in_all(self, store: Store) -> None:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, names(50)))
        first, *_ = paged(driver_of(photos), None, 40, limit=3)
        assert first.batch.num_rows == 3


class TestWriting:
    """A batch is one request."""

    def test_a_batch_is_one_part_whatever_the_limits_are(self, store: Store) -> None:
        photos = store.create(small())
        batch = rows(photos.spec, names(100))
        [part] = driver_of(photos).prepare(batch, RequestLimits(rows=1, bytes=1))
        assert (part.rows, part.payload) == (range(100), batch)

    def test_a_batch_of_several_vector_fields_is_written_whole(self, store: Store, place: Path) -> None:
        fields = ("a", "b", "c")
        spec = small(namespaced=False)
        several = type(spec)(
            "several", tuple(type(spec.vector)(name, 8, spec.vector.metric) for name in fields)
        )
        values = {name: random_vectors(100, seed=seed) for seed, name in enumerate(fields)}
        batch = records.batch(several, id=names(100), **values)
        collection = store.create(several)
        collection.upsert(batch)
        store.close()
        with faiss_store(place) as again:
            [record, *_] = again.open("several").fetch(["r000042"]).to_pylist()
            for name in fields:
                assert record[name] == values[name][42].tolist()

    @pytest.mark.parametrize("error", [OSError(errno.EIO, "lost"), KeyboardInterrupt()], ids=repr)
    @pytest.mark.parametrize("action", ["compact", "rewrite"])
    def test_what_fails_when_current_was_switched_already_loses_nothing(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch, action: str, error: BaseException
    ) -> None:
        photos = store.create(small())
        photos.upsert(rows(photos.spec, names(50)))
        photos.delete(names(10))
        before = contents(photos)
        switch = writer.replace_file

        def fails_late(path: Path, data: bytes) -> None:
            switch(path, data)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(writer, "replace_file", fails_late)
            if action == "compact":
                with pytest.raises((BackendError, KeyboardInterrupt)):
                    photos.compact()
            else:
                patch.setattr(writer, "_REWRITE_FRAMES", 1)
                with suppress(KeyboardInterrupt):
                    photos.upsert(rows(photos.spec, ["extra"]))
                with suppress(KeyboardInterrupt):
                    photos.delete(["extra"])
        assert contents(photos) == before
        photos.upsert(rows(photos.spec, ["later"]))
        after = contents(photos)
        assert len(after) == len(before) + 1
        store.close()
        with faiss_store(place) as again:
            assert contents(again.open("photos")) == after


@pytest.fixture
def read_only(store: Store, place: Path) -> Iterator[FaissDriver]:
    """A driver that may only read, over a collection of which another one is the writer."""
    store.create(small()).upsert(rows(small(), names(20)))
    driver = FaissDriver(parse(f"faiss://{place}"), FaissOptions(), read_only=True)
    yield driver
    driver.close()


class TestReadOnly:
    """What a forked child gets."""

    def test_it_reads_what_the_writer_commits_and_takes_no_lock(
        self, store: Store, place: Path, read_only: FaissDriver
    ) -> None:
        described = read_only.describe("photos", SOON)
        assert described is not None
        collection = read_only.attach(described, "")
        assert collection.count(SOON) == 20
        store.open("photos").upsert(rows(small(), names(5, 20)))
        assert collection.count(SOON) == 25
        store.close()
        (place / "photos" / "lock").unlink()
        before = digest(place)
        [hits] = collection.search(
            SearchRequest(described.spec.vector, random_vectors(1), 3, None, ("s",), None, None, SOON)
        ).hits
        assert len(hits) == 3
        assert sum(page.batch.num_rows for page in paged(collection, None)) == 25
        assert collection.lookup(pa.array(["r000003"]), ("n",), SOON).to_pylist() == [
            {"id": "r000003", "n": 3}
        ]
        collection.flush(SOON)
        collection.build(SOON)
        assert digest(place) == before
        assert not (place / "photos" / "lock").exists()

    def test_it_writes_nothing(self, store: Store, place: Path, read_only: FaissDriver) -> None:
        described = read_only.describe("photos", SOON)
        assert described is not None
        collection = read_only.attach(described, "")
        store.close()
        before = digest(place)
        [part] = collection.prepare(rows(small(), ["new"]), RequestLimits(10))
        for attempt in (
            lambda: collection.write(part, SOON),
            lambda: collection.delete_keys(pa.array(["r000001"]), SOON),
            lambda: collection.delete_where(None, 30.0),
            lambda: collection.compact(SOON),
            lambda: read_only.create(small("others"), "token", None, SOON),
            lambda: read_only.drop(described, None, SOON),
        ):
            with pytest.raises(StoreLockedError):
                attempt()
        assert digest(place) == before


class TestHandles:
    """The life of a collection and its lock."""

    def test_a_store_that_is_collected_without_close_gives_the_lock_back(self, place: Path) -> None:
        store = faiss_store(place)
        photos = store.create(small())
        photos.upsert(rows(small(), names(3)))
        with faiss_store(place) as other:
            with pytest.raises(StoreLockedError):
                other.open("photos").upsert(rows(small(), ["no"]))
            del store, photos
            gc.collect()
            other.open("photos").upsert(rows(small(), ["yes"]))
            assert other.open("photos").count() == 4

    def test_a_collection_that_was_replaced_is_not_dropped_through_what_it_was(self, store: Store) -> None:
        store.create(small())
        driver = driver_of(store)
        old = driver.describe("photos", SOON)
        store.create(small(), if_exists="replace").upsert(rows(small(), names(3)))
        for namespace in (None, ""):
            with pytest.raises(NotFoundError, match="replaced"):
                driver.drop(old, namespace, SOON)
        assert store.open("photos").count() == 3

    @pytest.mark.parametrize("name", ["", ".", "..", "../photos", "photos/ns", "a\0b", "Photos", "x" * 300])
    def test_a_name_that_is_none_of_a_collection_is_not_described(self, store: Store, name: str) -> None:
        store.create(small())
        assert driver_of(store).describe(name, SOON) is None

    def test_a_reader_without_news_looks_at_the_log_and_the_indexes_alone(
        self, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.create(small()).upsert(rows(small(), names(5)))
        with faiss_store(place) as readers:
            photos = readers.open("photos")
            view = reader_of(photos).view()
            looked: list[str] = []
            stat = os.stat
            monkeypatch.setattr(os, "stat", lambda path: looked.append(Path(path).name) or stat(path))
            assert reader_of(photos).view() is view
            assert looked == ["rows-0.log", "indexes.json"]


class TestHits:
    """Records of few hits and of many are built in different ways, and are the same."""

    @pytest.mark.parametrize("k", [1, 10, 32, 33, 200])
    @pytest.mark.parametrize("queries", [1, 3])
    def test_records_of_hits_are_those_of_the_ids(self, store: Store, k: int, queries: int) -> None:
        spec = small(fields={"n": "int64", "s": "string", "tags": "list<string>", "j": "json"})
        photos = store.create(spec)
        for start in range(0, 300, 60):  # several chunks
            part = rows(small(), names(60, start), random_vectors(60, seed=start))
            columns = {name: part.column(name) for name in part.schema.names}
            columns["tags"] = pa.array(
                [None if n % 3 else [f"t{n}", ""] for n in range(60)], pa.list_(pa.string())
            )
            photos.upsert(pa.RecordBatch.from_pydict(columns))
        photos.delete(names(20, 30))
        for hits in (
            photos.search_many(k, queries) if hasattr(photos, "search_many") else _hits(photos, k, queries)
        ):
            assert len(hits) == k
            assert hits.records is not None
            assert hits.records.column("id").to_pylist() == list(hits.ids)
            fetched = {record["id"]: record for record in photos.fetch(hits.ids).to_pylist()}
            assert hits.records.to_pylist() == [fetched[key] for key in hits.ids]
        assert found(photos, random_vectors(1), 1) is not None
        assert len(scanned(photos)) == 280


def _hits(photos: Any, k: int, queries: int) -> Any:
    from vecbridge.query import Query

    return photos.search(Query(random_vectors(queries, seed=9), k, include=photos.spec.column_names))


FORKED = """
import os, signal, sys
import faiss
import numpy as np
import vecbridge as vb

faiss.omp_set_num_threads(4)
query = vb.Query(np.ones(8, "f"), k=3)
with vb.connect(sys.argv[1]) as store:
    [before] = store.open("photos").search(query)
    faiss.IndexFlatL2(8).search(np.ones((4000, 8), "f"), 1)  # starts the threads of OpenMP
child = os.fork()
if not child:
    signal.alarm(60)
    with vb.connect(sys.argv[1]) as store:
        photos = store.open("photos")
        [after] = photos.search(query)
        photos.upsert(vb.batch(photos.spec, id=["child"], vector=np.ones((1, 8), "f")))
        os._exit(0 if list(after.ids) == list(before.ids) and photos.count() == 301 else 2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_of_a_process_that_closed_its_store_opens_one_searches_and_writes(
    store: Store, place: Path
) -> None:
    from vecbridge.indexes import HNSW

    photos = store.create(small(index=HNSW(m=8)))
    photos.upsert(rows(photos.spec, names(300)))
    photos.wait_ready()
    store.close()
    command = [sys.executable, "-c", FORKED, f"faiss://{place}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_norms_of_a_query_are_the_same_alone_and_among_others(store: Store) -> None:
    photos = store.create(small(metric="cosine"))
    photos.upsert(rows(photos.spec, names(50)))
    vectors = reader_of(photos).view().vectors["vector"]
    queries = random_vectors(20, seed=3) * np.float32(1e20)
    together = vectors.prepare(queries)
    for position in range(20):
        np.testing.assert_array_equal(
            vectors.prepare(queries[position : position + 1])[0], together[position]
        )


class TestWriteAbsent:
    """Looking and writing are one step, and one frame of the log."""

    @pytest.mark.parametrize("whole", [False, True])
    def test_ids_that_are_there_stay_as_they_are(self, store: Store, place: Path, whole: bool) -> None:
        spec = small()
        photos = store.create(spec)
        photos.upsert(rows(spec, ["b", "gone"]))
        photos.delete(["gone"])
        before = contents(photos)
        frames = one(place, "rows-*.log").read_bytes().count(b"VBROWS01")
        [part] = driver_of(photos).prepare(rows(spec, ["a", "b", "gone"], random_vectors(3, seed=1)), None)
        assert list(driver_of(photos).write_absent(part, SOON, whole=whole).present) == [1]
        after = contents(photos)
        written = 0 if whole else 1
        assert [row["id"] for row in after] == (["b"] if whole else ["a", "b", "gone"])
        assert [row for row in after if row["id"] == "b"] == before
        assert one(place, "rows-*.log").read_bytes().count(b"VBROWS01") == frames + written

    def test_a_namespace_that_is_new(self, store: Store) -> None:
        photos = store.create(small())
        [part] = driver_of(photos).prepare(rows(small(), names(3)), None)
        for present in ([], [0, 1, 2]):
            assert list(driver_of(photos).write_absent(part, SOON, whole=False).present) == present
            assert photos.count() == 3

    def test_of_threads_that_write_the_same_ids_one_writes_each(self, store: Store) -> None:
        photos = store.create(small())
        driver, ids = driver_of(photos), names(50)

        def write(seed: int) -> set[str]:
            written: set[str] = set()
            for start in range(0, 50, 5):
                mine = ids[start : start + 8]
                values = random_vectors(len(mine), seed=seed)
                [part] = driver.prepare(rows(small(), mine, values), None)
                present = driver.write_absent(part, SOON, whole=False).present
                written |= {each for place, each in enumerate(mine) if place not in present}
            return written

        with ThreadPoolExecutor(4) as pool:
            written = [each for part in pool.map(write, range(4)) for each in part]
        assert sorted(written) == ids == [row["id"] for row in contents(photos)]
