"""The exact top k, whatever the numbers, however the rows are cut, and under filters."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vecbridge.migration import drawing, judging, oracle
from vecbridge.migration.oracle import Oracle
from vecbridge.schema import Metric


def plain(queries: Any, rows: Any, metric: Metric) -> Any:
    """Scores one by one, the larger the better; float64, shape (queries, rows)."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    scores = np.empty((len(queries), len(rows)))
    for (i, query), (j, row) in itertools.product(enumerate(queries), enumerate(rows)):
        if metric is Metric.L2:
            scores[i, j] = -((query - row) ** 2).sum()
        else:
            lengths = np.linalg.norm(query) * np.linalg.norm(row) if metric is Metric.COSINE else 1.0
            scores[i, j] = query @ row / lengths
    return scores


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("scale", ["plain", "tiny", "huge", "far away", "duplicates"])
def test_the_best_rows_are_those_of_a_plain_search_in_float64(
    metric: Metric, scale: str, monkeypatch: Any
) -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((300, 12))
    factor, offset = {"tiny": (1e-15, 0), "huge": (1e25, 0), "far away": (1, 1e4)}.get(scale, (1, 0))
    rows = (rows * factor + offset).astype(np.float32)
    if scale == "duplicates":
        rows = rows[random.integers(0, 30, 300)]
    queries = (rows[:20] + np.float32(factor) * random.standard_normal((20, 12))).astype(np.float32)
    years = random.integers(0, 10, 300)
    monkeypatch.setattr(oracle, "_BLOCK_BYTES", 4 * 20 * 37)  # blocks of 37 rows
    exact = Oracle(queries, metric, 10, [20, 5])
    for start in range(0, 300, 100):
        part = slice(start, start + 100)
        ids = pa.array([f"r{number}" for number in range(300)][part])
        exact.add(ids, rows[part], [None, years[part] < 1])
    scores = plain(queries, rows, metric)
    for best, mask, count in ((exact.best[0], years < 99, 20), (exact.best[1], years < 1, 5)):
        assert best.matches == mask.sum()
        wanted = -np.sort(-np.where(mask, scores[:count], -np.inf), axis=1)[:, :10]
        np.testing.assert_allclose(best.scores, wanted, rtol=1e-9, atol=0)
        for line, ids in enumerate(best.ids):
            assert len(set(ids)) == 10
            found = [scores[line, int(name[1:])] for name in ids]
            np.testing.assert_allclose(found, best.scores[line], rtol=1e-9, atol=0)


def test_rows_that_cannot_be_compared_are_not_among_the_best() -> None:
    rows = np.array([[1, 0], [np.nan, 1], [0, 0], [np.inf, 0]], np.float32)
    exact = Oracle(np.array([[1, 1]], np.float32), Metric.COSINE, 3, [1])
    exact.add(pa.array(["a", "b", "c", "d"]), rows, [None])
    assert exact.best[0].ids.tolist() == [["a", None, None]]
    assert exact.best[0].matches == 1


def test_the_lower_end_of_an_interval_is_wilsons() -> None:
    assert judging.wilson(0.5, 10) == pytest.approx(0.2366, abs=1e-4)  # Newcombe 1998, table I, method 3
    assert judging.wilson(1.0, 100) == pytest.approx(0.9630, abs=1e-4)
    assert judging.wilson(0.0, 0) == 0.0


def test_queries_lie_near_stored_rows_and_are_the_same_again() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(8, dtype=np.float32) * 10
    rows = (centres[random.integers(0, 8, 400)] + random.standard_normal((400, 8)) / 10).astype(np.float32)
    queries = drawing.mixtures(rows, 50, np.random.default_rng(3))
    assert np.array_equal(queries, drawing.mixtures(rows, 50, np.random.default_rng(3)))
    nearest = np.linalg.norm(queries[:, None] - centres, axis=2).min(axis=1)
    assert nearest.max() < 2
    assert not (queries[:, None] == rows).all(axis=2).any()
    for odd in (rows[:1], np.stack([rows[0], -rows[0]]), np.zeros((3, 8), np.float32)):
        made = drawing.mixtures(odd, 20, random)
        assert len(made) == (20 if odd.any() else 0)
        assert made.any(axis=1).all()
