"""Exact search: every row is compared in float64, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.query import FloatArray, Ids
from vecbridge.schema import Metric

Wide = np.ndarray[Any, np.dtype[np.float64]]

_MOST_SCORES: Final = 4 << 20  # float64, so 32 MB
# |x|^2 - 2 q.x is quicker than differences, and wrong by about |x|^2 / 10^15. Up to this square that is below
# a millionth; it chooses some rows more than are wanted, which differences rank.
_MOST_SQUARE: Final = 1e8
_SPARE: Final = 16
_FEW: Final = 1 << 14  # comparisons


def nearest(
    batches: Iterable[pa.RecordBatch], name: str, queries: FloatArray, metric: Metric, k: int
) -> list[tuple[Ids, FloatArray]]:
    """The best rows of each query vector.

    Args:
        batches: Every row that may be found: ``id`` and the vectors.
        name: The vector column.
        queries: float32, shape (n, dim).
        metric: How vectors are compared.
        k: Hits a query vector, at most.

    Returns:
        Ids and float32 scores of each query vector, best first. Memory is n * k rows and one batch.
    """
    wide = queries.astype(np.float64)
    costs = np.empty((len(queries), 0))  # the smaller the better
    places = np.empty((len(queries), 0), np.int64)  # into ids
    ids: pa.Array | None = None  # of the rows that are among the best of any query so far
    for batch in _pieces(batches, len(queries)):
        stored = records.vectors(batch, name).astype(np.float64)
        known = 0 if ids is None else len(ids)
        some, chosen = _nearest_of(wide, stored, metric, k)
        costs, order = _best(np.hstack([costs, some]), k)
        places = np.take_along_axis(np.hstack([places, known + chosen]), order, 1)
        column = batch.column("id")
        kept, places = np.unique(places, return_inverse=True)
        places = places.reshape(costs.shape)
        ids = (column if ids is None else pa.concat_arrays([ids, column])).take(pa.array(kept))
    with np.errstate(over="ignore"):  # a score beyond float32 is infinite
        scores = (costs if metric is Metric.L2 else -costs).astype(np.float32)
    if ids is None:
        return []
    return [
        (records.python_ids(ids.take(pa.array(line))), scores[query]) for query, line in enumerate(places)
    ]


def _pieces(batches: Iterable[pa.RecordBatch], queries: int) -> Iterable[pa.RecordBatch]:
    rows = max(1, _MOST_SCORES // queries)
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _best(costs: Wide, k: int) -> tuple[Wide, np.ndarray[Any, np.dtype[np.int64]]]:
    """The k smallest of each line, in order, and where they stand."""
    if costs.shape[1] > 4 * k:
        some = np.sort(np.argpartition(costs, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(np.take_along_axis(costs, some, 1), axis=1, kind="stable")
        places = np.take_along_axis(some, order, 1)
    else:
        places = np.argsort(costs, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(costs, places, 1), places


def _nearest_of(
    queries: Wide, stored: Wide, metric: Metric, k: int
) -> tuple[Wide, np.ndarray[Any, np.dtype[np.int64]]]:
    """Costs and places of the k best rows of a batch, for each query."""
    if metric is not Metric.L2:
        return _best(_costs(queries, stored, metric), k)
    squares, asked = np.square(stored).sum(axis=1), np.square(queries).sum(axis=1)
    if max(squares.max(), asked.max()) > _MOST_SQUARE or len(queries) * len(stored) < _FEW:
        return _best(np.stack([np.square(stored - query).sum(axis=1) for query in queries]), k)
    rough = squares - 2 * (queries @ stored.T)
    _, places = _best(rough, k + _SPARE)
    costs = np.stack(
        [np.square(stored[line] - query).sum(axis=1) for query, line in zip(queries, places, strict=True)]
    )
    costs, order = _best(costs, k)
    return costs, np.take_along_axis(places, order, 1)


def _costs(queries: Wide, stored: Wide, metric: Metric) -> Wide:
    """float64, shape (queries, stored)."""
    costs: Wide = -(queries @ stored.T)
    if metric is Metric.COSINE:
        costs /= np.linalg.norm(queries, axis=1)[:, None]
        costs /= np.linalg.norm(stored, axis=1)
    return costs
