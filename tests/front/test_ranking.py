"""Comparing all matches gives what one comparison of everything in float64 gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vecbridge.front.ranking import ranked
from vecbridge.records import vector_array
from vecbridge.schema import Metric
from vecbridge.testing.checks import points


def pages(vectors: Any, rows: int, ids: pa.Array) -> list[pa.RecordBatch]:
    return [
        pa.RecordBatch.from_pydict(
            {"id": ids.slice(start, rows), "vector": vector_array(vectors[start : start + rows])}
        )
        for start in range(0, len(vectors), rows)
    ]


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_best_of_all_pages_come_best_first(metric: Metric, rows: int) -> None:
    stored, queries = points(60, seed=1), points(3, seed=2)
    wide, asked = stored.astype(np.float64), queries.astype(np.float64)
    truth = {
        Metric.L2: -np.square(asked[:, None] - wide[None]).sum(axis=2),
        Metric.DOT: asked @ wide.T,
        Metric.COSINE: asked @ wide.T / np.linalg.norm(wide, axis=1) / np.linalg.norm(asked, axis=1)[:, None],
    }[metric]
    found = ranked(pages(stored, rows, pa.array(range(60))), "vector", queries, metric, 10)
    for line, scores in zip(found, truth, strict=True):
        order = np.argsort(-scores, kind="stable")[:10]
        assert list(line.ids) == order.tolist()
        sign = 1 if metric.higher_is_better else -1
        np.testing.assert_allclose(line.scores, sign * scores[order], rtol=1e-6, atol=1e-6)


def test_fewer_rows_than_k_give_them_all_and_no_rows_none() -> None:
    stored = points(3)
    [hits] = ranked(pages(stored, 2, pa.array(["a", "b", "c"])), "vector", stored[:1], Metric.L2, 10)
    assert sorted(hits.ids) == ["a", "b", "c"]
    assert hits.ids[0] == "a"
    assert [len(hits) for hits in ranked([], "vector", stored[:2], Metric.L2, 10)] == [0, 0]
