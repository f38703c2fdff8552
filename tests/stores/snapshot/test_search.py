"""Exact search over many rows and queries, also where quick arithmetic would lose the digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vecbridge as vb
from tests.stores.snapshot.helpers import snapshot_store
from vecbridge.errors import DeadlineError
from vecbridge.registry import connect

ROWS = 3_000


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_hits_are_those_of_a_pass_in_float64(place: Path, metric: str, offset: float) -> None:
    rng = np.random.default_rng(3)
    stored = (rng.standard_normal((ROWS, 16)) + offset).astype(np.float32)
    queries = (rng.standard_normal((12, 16)) + offset).astype(np.float32)
    spec = vb.CollectionSpec.single("photos", dim=16, metric=metric, id_type="int64")
    x, q = stored.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        costs = np.square(x[None] - q[:, None]).sum(axis=2)
    else:
        costs = -(q @ x.T)
        if metric == "cosine":
            costs /= np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    with snapshot_store(place) as store:
        photos = store.create(spec)
        for start in range(0, ROWS, 1_000):  # two files and a pending request
            photos.upsert(
                vb.batch(spec, id=range(start, start + 1_000), vector=stored[start : start + 1_000])
            )
            if start < 2_000:
                photos.flush()
        for line, hits in zip(costs, photos.search(vb.Query(queries, k=10)), strict=True):
            best = np.sort(line)[:10]
            scores = best if metric == "l2" else -best
            np.testing.assert_allclose(hits.scores, scores, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(line[hits.ids], best, rtol=1e-12, atol=1e-9)


def test_a_search_that_takes_too_long_says_how_many_rows_there_are(place: Path) -> None:
    spec = vb.CollectionSpec.single("photos", dim=4)
    with snapshot_store(place) as store:
        store.create(spec).upsert(vb.batch(spec, id=["a"], vector=[[1.0, 0, 0, 0]]))
    with connect(f"snapshot://{place}?timeout=1e-9") as store:
        photos = store.open("photos")
        with pytest.raises(DeadlineError, match="1 rows to compare, which took too long"):
            photos.search(vb.Query([1.0, 0, 0, 0], k=1))


def test_the_index_is_recorded_and_the_status_says_that_none_is_built(place: Path) -> None:
    with snapshot_store(place) as store:
        for number, index in enumerate(
            (vb.IVFPQ(nlist=8, m=2), vb.HNSW(m=8, quantizer="rq", ef=50), vb.Flat())
        ):
            spec = vb.CollectionSpec.single(f"c{number}", dim=4, index=index)
            assert store.check(spec) == []
            assert store.create(spec).spec.vector.index == index
            assert "builds none" in store.open(spec.name).status().details["search"]
