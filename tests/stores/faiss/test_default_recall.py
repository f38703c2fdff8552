"""Recall at default knobs, over data with and without clusters, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tests.stores.faiss.helpers import found, names, rows, small
from vecbridge.indexes import HNSW, IVFSQ8, Auto, IndexParams, IVFFlat
from vecbridge.query import FloatArray
from vecbridge.store import Store

WANTED = 0.95
QUERIES = 150
K = 10


def by_index(index: IndexParams) -> str:
    return f"{index.kind}-{getattr(index, 'nlist', '')}".rstrip("-")


def random48(count: int, seed: int) -> FloatArray:
    """Vectors of few dimensions without clusters."""
    return np.random.default_rng(seed).standard_normal((count, 48)).astype(np.float32)


def clustered(count: int, seed: int) -> FloatArray:
    """64 Gaussians in 128 dimensions."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((64, 128))
    points = centres[random.integers(0, 64, count)] + 0.5 * random.standard_normal((count, 128))
    return points.astype(np.float32)


def lower_bound(answers: list[list[str]], queries: FloatArray, stored: FloatArray) -> float:
    """The lower 95 % bound of recall@10, by the normal approximation over the queries."""
    keys = np.square(stored).sum(axis=1) - 2 * queries.astype(np.float64) @ stored.T.astype(np.float64)
    true = np.argsort(keys, axis=1)[:, :K]
    found = [{int(each[1:]) for each in line} for line in answers]
    recalls = np.array([len(a & set(b)) / K for a, b in zip(found, true.tolist(), strict=True)])
    return float(recalls.mean() - 1.645 * recalls.std(ddof=1) / np.sqrt(len(recalls)))


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "growing"])
@pytest.mark.parametrize("count", [3000, 6000])
@pytest.mark.parametrize(
    "index", [Auto(), HNSW(), IVFFlat(), IVFFlat(nlist=16), IVFFlat(nlist=64), IVFSQ8(nlist=64)], ids=by_index
)
def test_random_vectors_of_48_dimensions(store: Store, index: IndexParams, count: int, sealed: bool) -> None:
    values = random48(count + QUERIES, seed=count)
    _search(store, index, values[:count], values[count:], count if sealed else count * 9 // 10)


@pytest.mark.parametrize(
    ("index", "count"),
    [
        (Auto(), 20_000),
        (IVFFlat(nlist=512), 20_000),
        pytest.param(IVFFlat(), 41_000, marks=pytest.mark.long),  # the fewest rows with which it is built
    ],
    ids=["auto", "ivf_flat-512", "ivf_flat-1024"],
)
def test_64_clusters_of_128_dimensions(store: Store, index: IndexParams, count: int) -> None:
    values = clustered(count + QUERIES, seed=1)
    _search(store, index, values[:count], values[count:], count)


def _search(store: Store, index: IndexParams, stored: FloatArray, queries: FloatArray, covered: int) -> None:
    """Searches with an index over the first rows; those behind them are in no index."""
    spec = small(index=index, dim=stored.shape[1], fields={})
    photos = store.create(spec)
    ids = names(len(stored))
    photos.upsert(rows(spec, ids[:covered], stored[:covered]))
    photos.wait_ready()
    if covered < len(stored):
        photos.upsert(rows(spec, ids[covered:], stored[covered:]))
    assert lower_bound(found(photos, queries, K), queries, stored) >= WANTED
