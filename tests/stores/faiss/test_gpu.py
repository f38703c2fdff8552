"""Inverted lists on a GPU: on a genuine one, and on a stand-in that has its limits and runs on the CPU."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.stores.faiss.helpers import faiss_store, found, names, random_vectors, rows, small
from vecbridge.collection import Collection
from vecbridge.filters import field
from vecbridge.indexes import IVFPQ, IVFSQ8, IndexParams, IVFFlat
from vecbridge.query import Query
from vecbridge.stores.faiss import gpu

INDEXES = pytest.mark.parametrize(
    "index", [IVFFlat(nlist=16), IVFSQ8(nlist=16), IVFPQ(nlist=16, m=4)], ids=lambda index: index.kind
)
ROWS = 10_000  # IVFPQ needs 39 for each of 256 codes
QUERIES = random_vectors(50, seed=9)


class StandIn:
    """A copy of an index "on the GPU": an index of the CPU with the limits of FAISS's GPU indexes.

    Attributes:
        searches: How many it has answered.
        memory: Queries that it takes at a time.
    """

    searches = 0
    memory = 1_000_000
    _busy = threading.Lock()

    def __init__(self, index: Any) -> None:
        self.index = index
        self.this = self
        self.disowned = 0

    def train(self, sample: Any) -> None:
        self.index.train(sample)

    def search_c(self, count: int, queries: Any, k: int, distances: Any, rows: Any, params: Any) -> None:
        assert self._busy.acquire(blocking=False), "GPU indexes are not thread-safe"
        try:
            assert params.sel is None, "the GPU knows no selectors"
            if max(k, params.nprobe) > 2048:
                raise RuntimeError("GPU index only supports min/max-K selection up to 2048")
            if count > self.memory:
                raise RuntimeError("Failed to cudaMalloc 9 bytes")
            type(self).searches += 1
            self.index.search_c(count, queries, k, distances, rows, params)
        finally:
            self._busy.release()

    def disown(self) -> None:
        self.disowned += 1


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """FAISS with a stand-in for its GPU."""
    monkeypatch.setattr(StandIn, "searches", 0)
    monkeypatch.setattr(StandIn, "memory", 1_000_000)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, device, index: StandIn(index), raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda worker: worker.index, raising=False)
    return StandIn


def filled(place: Path, index: IndexParams, device: str = "cpu", count: int = ROWS) -> None:
    with faiss_store(place, device=device) as store:
        photos = store.create(small(index=index))
        photos.upsert(rows(photos.spec, names(count)))
        photos.wait_ready()


def answers(photos: Collection) -> list[Any]:
    """What is found without a filter, with two, and after rows were deleted."""
    some = [
        found(photos, QUERIES, 10),
        found(photos, QUERIES, 10, filter=field("n") >= 100),
        found(photos, QUERIES, 10, filter=field("n") < 5),
        found(photos, QUERIES, 10, nprobe=3),
    ]
    photos.delete(names(ROWS // 3))
    return [*some, found(photos, QUERIES, 10)]


def both(place: Path, index: IndexParams) -> tuple[list[Any], list[Any]]:
    """The answers of an index on the CPU, and those of the same index on the GPU."""
    sides = []
    filled(place / "cpu", index)
    shutil.copytree(place / "cpu", place / "cuda")
    for device in ("cpu", "cuda"):
        with faiss_store(place / device, device=device) as store:
            sides.append(answers(store.open("photos")))
    return sides[0], sides[1]


@INDEXES
def test_the_emulated_gpu_answers_as_the_cpu_does(
    emulated: type[StandIn], place: Path, index: IndexParams
) -> None:
    cpu, device = both(place, index)
    assert device == cpu
    assert emulated.searches >= 3


@INDEXES
def test_an_index_trained_on_the_emulated_gpu_is_a_file_that_the_cpu_opens(
    emulated: type[StandIn], place: Path, index: IndexParams
) -> None:
    filled(place, index, device="cuda")
    with faiss_store(place) as store:
        photos = store.open("photos")
        assert photos.status().built == {"vector": index}
        cpu = found(photos, QUERIES, 10)
    with faiss_store(place, device="cuda") as store:
        photos = store.open("photos")
        assert photos.status().built == {"vector": index}
        assert found(photos, QUERIES, 10) == cpu
    assert emulated.searches


def test_searches_that_a_gpu_cannot_do_are_the_cpus(
    emulated: type[StandIn], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    filled(place, IVFFlat(nlist=16))
    with faiss_store(place, device="cuda") as store:
        photos = store.open("photos")
        [hits] = photos.search(Query(QUERIES[:1], 3000, nprobe=16))
        assert (len(hits), emulated.searches) == (3000, 0)
        assert caplog.text == "", "nothing was tried in vain"
        emulated.memory = 20
        assert len(found(photos, QUERIES, 10)[0]) == 10
        assert "the GPU did not answer (Failed to cudaMalloc" in caplog.text
        assert (len(found(photos, QUERIES[:20], 10)), emulated.searches) == (20, 1)


def test_an_index_that_a_gpu_does_not_take_stays_on_the_cpu(
    emulated: type[StandIn], place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)

    def refused(*_: object) -> None:
        raise RuntimeError("GPU: only 8 bits a code")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refused)
    filled(place, IVFFlat(nlist=16), device="cuda")
    with faiss_store(place, device="cuda") as store:
        photos = store.open("photos")
        assert len(found(photos, QUERIES, 10)[0]) == 10
        assert photos.status().built == {"vector": IVFFlat(nlist=16)}
    assert "cannot train this index (GPU: only 8 bits a code)" in caplog.text
    assert "cannot hold this index" in caplog.text


def test_threads_search_one_after_the_other(emulated: type[StandIn], place: Path) -> None:
    filled(place, IVFFlat(nlist=16))
    with faiss_store(place, device="cuda") as store, ThreadPoolExecutor(8) as pool:
        photos = store.open("photos")
        alone = found(photos, QUERIES, 10)
        assert all(each == alone for each in pool.map(lambda _: found(photos, QUERIES, 10), range(40)))
    assert emulated.searches == 41


def test_a_forked_child_asks_the_cpu_and_frees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(8), 8, 1)
    index.train(QUERIES)
    index.add(QUERIES)
    copy = StandIn(index)
    lists = gpu.GpuLists(index, copy)
    distances, found_rows = np.empty((1, 1), np.float32), np.empty((1, 1), np.int64)
    pointers = [faiss.swig_ptr(each) for each in (QUERIES, distances, found_rows)]
    mine = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: mine + 1)
    before = StandIn.searches
    lists.search_c(1, pointers[0], 1, pointers[1], pointers[2], faiss.SearchParametersIVF(nprobe=1))
    assert (found_rows[0, 0], StandIn.searches) == (0, before)
    del lists
    assert copy.disowned == 1


@pytest.mark.gpu
class TestGenuine:
    """On a GPU, with the GPU build of FAISS."""

    @pytest.fixture(autouse=True)
    def needed(self) -> None:
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            pytest.skip("this FAISS sees no GPU: pip install '.[faiss-gpu]'")

    @INDEXES
    def test_it_answers_as_the_cpu_does(self, place: Path, index: IndexParams) -> None:
        cpu, device = both(place, index)
        for ours, theirs in zip(device, cpu, strict=True):
            same = sum(len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True))
            assert same >= 0.99 * sum(map(len, theirs)), "rows of nearly one distance may change places"

    @INDEXES
    def test_an_index_that_it_trained_is_a_file_that_the_cpu_opens(
        self, place: Path, index: IndexParams
    ) -> None:
        filled(place, index, device="cuda")
        with faiss_store(place) as store:
            photos = store.open("photos")
            assert photos.status().built == {"vector": index}
            assert [hits[0] for hits in found(photos, random_vectors(ROWS)[:50], 1, nprobe=16)] == names(50)

    def test_a_search_that_it_cannot_do_is_the_cpus(self, place: Path) -> None:
        filled(place, IVFFlat(nlist=16))
        with faiss_store(place, device="cuda") as store:
            [hits] = store.open("photos").search(Query(QUERIES[:1], 3000, nprobe=16))
            assert len(hits) == 3000

    def test_threads_may_search_at_the_same_time(self, place: Path) -> None:
        filled(place, IVFFlat(nlist=16))
        with faiss_store(place, device="cuda") as store, ThreadPoolExecutor(8) as pool:
            photos = store.open("photos")
            alone = found(photos, QUERIES, 10)
            assert all(each == alone for each in pool.map(lambda _: found(photos, QUERIES, 10), range(40)))
