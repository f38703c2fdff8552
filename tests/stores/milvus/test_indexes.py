"""What is asked of an index is what the server builds; its knobs change answers; ready is proven."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from tests.stores.milvus.helpers import (
    fresh,
    lite_url,
    made,
    milvus_store,
    random_vectors,
    rows,
    small,
)
from vecbridge.errors import (
    BackendError,
    DeadlineError,
    InvalidRecordError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from vecbridge.filters import field
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Query, Status
from vecbridge.records import batch
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import index_params
from vecbridge.stores.milvus.connection import Connection

ROWS, WIDTH, K = 20_000, 32, 10
STORED = random_vectors(ROWS, WIDTH, seed=3)
QUERIES = random_vectors(50, WIDTH, seed=4)

LARGE: dict[str, IndexParams] = {
    "hnsw": HNSW(m=8, ef_construction=60),
    "ivf_flat": IVFFlat(nlist=64),
    "ivf_sq8": IVFSQ8(nlist=64),
    "ivf_pq": IVFPQ(nlist=64, m=16, nbits=8),
}


def recall(photos: Collection, **options: Any) -> float:
    """The share of the true neighbours that a search finds."""
    answers = photos.search(Query(QUERIES, K, **options))
    pairs = zip(answers, truth(QUERIES), strict=True)
    return sum(len(set(each.ids) & set(best)) for each, best in pairs) / (K * len(QUERIES))


def truth(queries: FloatArray) -> list[list[str]]:
    """The nearest rows by brute force."""
    distances = ((queries[:, None, :].astype(np.float64) - STORED[None]) ** 2).sum(axis=2)
    return [[f"r{place:05d}" for place in line] for line in np.argsort(distances, axis=1)[:, :K].tolist()]


@pytest.fixture(scope="module")
def large(server_url: str) -> Iterator[dict[str, Collection]]:
    """One collection a kind of index on the genuine server, each with 20,000 rows that were just written."""
    with milvus_store(server_url) as store:
        made_here = {kind: store.create(large_spec(index)) for kind, index in LARGE.items()}
        try:
            yield made_here
        finally:
            for each in made_here.values():
                with suppress(NotFoundError):
                    store.drop(each.spec.name)


def large_spec(index: IndexParams) -> CollectionSpec:
    return small(fresh(index.kind), dim=WIDTH, index=index, fields={"n": "int64"})


def fill(photos: Collection) -> None:
    names = [f"r{number:05d}" for number in range(ROWS)]
    photos.upsert(rows(photos.spec, names, vector=STORED, n=list(range(ROWS))))


def test_an_index_that_the_server_refuses_leaves_no_collection_behind(
    genuine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(fresh("refused"), index=HNSW())
    monkeypatch.setattr(index_params, "to_milvus", lambda *_: ("NO_SUCH_INDEX", {}))
    with pytest.raises(BackendError, match="NO_SUCH_INDEX") as caught:
        genuine.create(spec)
    assert not caught.value.retryable
    assert spec.name not in genuine.collections()


def settled(photos: Collection) -> Status:
    """Its status when it is ready; a busy server may merge segments after it was, and is building again."""
    for _ in range(5):
        photos.wait_ready(timeout=120)
        if (status := photos.status()).index == "ready":
            break
    return status


def test_rows_just_written_are_building_and_after_waiting_sealed_and_indexed(
    large: dict[str, Collection], server_url: str
) -> None:
    for photos in large.values():
        fill(photos)
        assert photos.status().index == "building"
        assert photos.count() == ROWS
    with pytest.raises(DeadlineError, match=r"rows not sealed|within its deadline"):
        large["hnsw"].wait_ready(timeout=1)
    with ThreadPoolExecutor(len(large)) as pool:
        list(pool.map(lambda each: each.wait_ready(timeout=120), large.values()))
    for photos in large.values():
        status = settled(photos)
        assert (status.rows, status.index) == (ROWS, "ready")
        assert status.details == {"growing_rows": 0, "unindexed_rows": 0}
        client = MilvusClient(server_url.replace("milvus://", "http://"))
        segments = client.list_loaded_segments(photos.spec.name)
        assert sum(each.num_rows for each in segments) == ROWS
        assert {each.state for each in segments} <= {3, 4, "Sealed", "Flushed"}, segments
        described = client.describe_index(photos.spec.name, "vb_vector")
        assert described["pending_index_rows"] == 0
        assert described["indexed_rows"] == described["total_rows"] == ROWS
        client.close()


@pytest.mark.parametrize(
    ("kind", "narrow", "wide", "least"),
    [
        ("hnsw", {"ef": 1}, {"ef": 500}, 0.95),
        ("hnsw", {"ef": 10}, {"ef": 500}, 0.95),
        ("ivf_flat", {"nprobe": 1}, {"nprobe": 64}, 1.0),
        ("ivf_sq8", {"nprobe": 1}, {"nprobe": 64}, 0.9),
        ("ivf_pq", {"nprobe": 1}, {"nprobe": 64}, 0.4),
    ],
)
def test_a_wider_search_finds_more(
    large: dict[str, Collection], kind: str, narrow: dict[str, int], wide: dict[str, int], least: float
) -> None:
    photos = large[kind]
    if not photos.count():
        fill(photos)
    assert settled(photos).index == "ready"
    little, much = recall(photos, **narrow), recall(photos, **wide)
    assert much >= least
    assert little <= much - 0.1, "the knob changes nothing"
    assert little <= recall(photos) <= max(much, 1.0)
    assert recall(photos, **wide, filter=field("n") >= 0) >= least - 0.02


def test_rows_written_again_wait_for_the_index_although_their_segments_have_one(
    large: dict[str, Collection],
) -> None:
    photos = large["ivf_flat"]
    if not photos.count():
        fill(photos)
    photos.wait_ready(timeout=120)
    fill(photos)
    assert photos.status().index == "building"
    assert photos.status().details["growing_rows"] == ROWS
    # one row in a thousand: an index over what is not sealed finds few of them
    few = [Query(each, 10, filter=field("n").isin(list(range(0, ROWS, 1000)))) for each in QUERIES[:5]]
    for query in few:
        assert len(photos.search(query)[0]) == 10
    assert settled(photos).index == "ready"
    assert photos.count() == ROWS
    assert recall(photos, nprobe=64) == 1.0


def test_autoindex_finds_at_least_nineteen_of_twenty_true_neighbours(store: Store) -> None:
    spec = small(fresh("auto"), dim=48, index=Auto(), metric="cosine")
    stored, queries = random_vectors(3_000, 48, seed=7), random_vectors(50, 48, seed=8)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    best = np.argsort(-(queries @ unit.T), axis=1)[:, :K].tolist()
    with made(store, spec) as photos:
        photos.upsert(rows(spec, [f"r{place}" for place in range(3_000)], vector=stored))
        assert settled(photos).index == "ready"
        answers = photos.search(Query(queries, K))
        found = [
            len(set(hits.ids) & {f"r{place}" for place in line})
            for hits, line in zip(answers, best, strict=True)
        ]
        assert sum(found) >= 0.95 * K * len(queries)


@pytest.mark.parametrize("index", [Flat(), HNSW(), IVFFlat(nlist=4)], ids=["flat", "hnsw", "ivf_flat"])
@pytest.mark.parametrize("dim", [4, 1024])
def test_under_cosine_the_declared_lengths_are_compared_rightly_and_others_refused(
    store: Store, index: IndexParams, dim: int
) -> None:
    store.collections()
    assert store.capabilities.vector_lengths is not None
    shortest, longest = store.capabilities.vector_lengths
    unit = random_vectors(64, dim, seed=5).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    lengths = np.geomspace(shortest * 1.001, longest * 0.999, len(unit))
    names = [f"r{place:02d}" for place in range(len(unit))]
    spec = small(fresh("lengths"), dim=dim, index=index, metric="cosine")
    with made(store, spec) as photos:
        photos.upsert(rows(spec, names, vector=(unit * lengths[:, None]).astype(np.float32)))
        photos.flush()
        for ready in (False, True):
            if ready:
                photos.wait_ready()
            for length in (1e-30, 1.0, 1e30):
                query = Query((unit[7] * length).astype(np.float32), k=len(unit))
                [hits] = photos.search(query)
                scores = dict(zip(hits.ids, hits.scores.tolist(), strict=True))
                assert scores.keys() == set(names)
                expected = unit @ unit[7]
                assert np.allclose([scores[name] for name in names], expected, atol=1e-4), (ready, length)
        for length in (shortest / 10, longest * 1.1):
            with pytest.raises(InvalidRecordError, match="length"):
                photos.upsert(rows(spec, ["odd"], vector=(unit[:1] * length).astype(np.float32)))


def test_a_knob_of_another_index_is_refused(large: dict[str, Collection]) -> None:
    for kind, knob in (("hnsw", "nprobe"), ("ivf_flat", "ef"), ("ivf_pq", "ef")):
        with pytest.raises(UnsupportedError, match=knob):
            large[kind].search(Query(QUERIES, K, **{knob: 5}))


def test_a_small_collection_stays_exact_and_says_how_many_rows_are_wanting(genuine: Store) -> None:
    spec = small(fresh("few"), index=HNSW())
    with made(genuine, spec) as photos:
        photos.upsert(rows(spec, [f"r{number}" for number in range(100)]))
        photos.wait_ready(timeout=60)
        assert photos.status().index == "exact: needs 924 more"
        assert photos.status().rows == 100


def test_a_flat_index_is_ready_whatever_was_written(store: Store) -> None:
    spec = small(fresh("flat"))
    with made(store, spec) as photos:
        assert photos.status().index == "ready"
        photos.upsert(rows(spec, [f"r{number}" for number in range(100)]))
        photos.wait_ready(timeout=10)
        assert photos.status().index == "ready"


@pytest.fixture(scope="module")
def large_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Collection]]:
    """One collection a kind of index on milvus-lite."""
    place: Path = tmp_path_factory.mktemp("lite")
    with milvus_store(lite_url(place)) as store:
        yield {
            kind: store.create(large_spec(index))
            for kind, index in LARGE.items()
            if kind in store.capabilities.indexes
        }


@pytest.mark.parametrize(
    ("kind", "narrow", "wide", "least"),
    [
        ("hnsw", {"ef": 10}, {"ef": 500}, 0.95),
        ("ivf_flat", {"nprobe": 1}, {"nprobe": 64}, 1.0),
        ("ivf_sq8", {"nprobe": 1}, {"nprobe": 64}, 0.9),
    ],
)
def test_on_milvus_lite_a_wider_search_finds_more_once_it_is_ready(
    large_lite: dict[str, Collection],
    kind: str,
    narrow: dict[str, int],
    wide: dict[str, int],
    least: float,
) -> None:
    photos = large_lite[kind]
    fill(photos)
    assert photos.status().index == "building"
    photos.wait_ready(timeout=120)
    assert photos.status().index == "ready"
    little, much = recall(photos, **narrow), recall(photos, **wide)
    assert much >= least
    assert little <= much - 0.1, "the knob changes nothing"
    photos.upsert(rows(photos.spec, ["new"], vector=STORED[:1], n=[0]))
    assert photos.status().index == "building"
    [hits] = photos.search(Query(STORED[0], 2))
    assert "new" in hits.ids


def with_one_row(lite: Store, name: str) -> Any:
    """A collection whose index is not built yet."""
    spec = CollectionSpec.single(name, dim=2, index=HNSW())
    collection = lite.create(spec)
    collection.upsert(batch(spec, id=["a"], vector=[[1.0, 0.0]]))
    return collection


def test_an_index_of_milvus_lite_that_could_not_be_built_is_not_called_ready(
    lite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = with_one_row(lite, "broken")
    call = Connection.call

    def failing(self: Connection, rpc: str, *arguments: Any, **fields: Any) -> Any:
        if rpc == "LoadCollection":
            raise UnavailableError("out of order")
        return call(self, rpc, *arguments, **fields)

    with monkeypatch.context() as broken:
        broken.setattr(Connection, "call", failing)
        with pytest.raises(UnavailableError):
            collection.wait_ready()
    assert collection.status().index == "building"
    collection.wait_ready()
    assert collection.status().index == "ready"


@pytest.mark.parametrize(
    "message",
    [
        "faiss::read_index_up: read error (Resource temporarily unavailable)",
        "No data left in file",
        "This file contains pickled (object) data.",
    ],
    ids=["faiss", "empty", "numpy"],
)
def test_an_index_file_that_milvus_lite_is_still_writing_is_read_again(
    lite: Store, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    collection = with_one_row(lite, "half")
    call = Connection.call
    tries: list[str] = []
    half_for = 1_000

    def half(self: Connection, rpc: str, *arguments: Any, **fields: Any) -> Any:
        if rpc == "LoadCollection":
            tries.append(rpc)
            if len(tries) <= half_for:
                raise UnavailableError(message)
        return call(self, rpc, *arguments, **fields)

    monkeypatch.setattr(Connection, "call", half)
    with pytest.raises(DeadlineError, match=re.escape(message)):
        collection.wait_ready(timeout=1)
    half_for = len(tries) + 2
    collection.wait_ready()
    assert collection.status().index == "ready"
    assert len(tries) == half_for + 1
