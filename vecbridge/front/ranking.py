"""Exact answers for searches whose index may have missed matches: every match is read and compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.query import FloatArray, Hits
from vecbridge.schema import Metric


def ranked(
    batches: Iterable[pa.RecordBatch], name: str, queries: FloatArray, metric: Metric, k: int
) -> list[Hits]:
    """The best rows of each query vector, compared in float64.

    Args:
        batches: Every row that may be found: ``id`` and the vectors.
        name: The vector column.
        queries: float32, shape (n, dim).
        metric: How vectors are compared.
        k: Hits a query vector, at most.

    Returns:
        One Hits a query vector, best first, without records; memory is n * k rows and one batch.
    """
    wide = queries.astype(np.float64)
    scores = np.empty((len(queries), 0))
    places = np.empty((len(queries), 0), np.int64)  # into ids
    ids: pa.Array | None = None  # of the rows that are among the best of any query so far
    for batch in batches:
        stored = records.vectors(batch, name).astype(np.float64)
        known = 0 if ids is None else len(ids)
        new_places = np.broadcast_to(np.arange(known, known + len(stored)), (len(queries), len(stored)))
        scores = np.hstack([scores, _scores(wide, stored, metric)])
        places = np.hstack([places, new_places])
        order = np.argsort(-scores if metric.higher_is_better else scores, axis=1, kind="stable")[:, :k]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        column = batch.column("id")
        kept, places = np.unique(places, return_inverse=True)
        places = places.reshape(scores.shape)
        ids = (column if ids is None else pa.concat_arrays([ids, column])).take(pa.array(kept))
    with np.errstate(over="ignore"):  # a score beyond float32 is infinite
        narrow = scores.astype(np.float32)
    if ids is None:
        ids = pa.array([], pa.string())
    return [
        Hits(records.python_ids(ids.take(pa.array(line))), narrow[query]) for query, line in enumerate(places)
    ]


def _scores(queries: Any, stored: Any, metric: Metric) -> Any:
    """float64, shape (queries, stored)."""
    if metric is Metric.L2:
        return np.stack([np.square(stored - query).sum(axis=1) for query in queries])
    dots = queries @ stored.T
    if metric is Metric.DOT:
        return dots
    return dots / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(stored, axis=1)
