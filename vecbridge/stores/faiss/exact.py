"""Exact search over rows of the vector file, and exact scores of rows that an index proposes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np

from vecbridge.query import FloatArray
from vecbridge.schema import Metric, VectorField
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask, Snapshot

Distances = np.ndarray[Any, np.dtype[np.float32]]
_BLOCK: Final = 16_384
_WIDE_BLOCK: Final = 1024
LONGEST: Final = 1e18  # length whose square and its multiples are float32
LONGEST_COSINE: Final = 1e37  # against a query of length one
SPARE: Final = 16  # candidates beyond k, so that rounding in float32 cannot push a true hit out


@dataclass(frozen=True, slots=True, eq=False)
class FieldVectors:
    """The vectors of one field, and how they compare.

    Attributes:
        values: float32 (total, dim), the truth.
        norms: float64 (total,), their Euclidean norms.
        metric: The field's metric.
        unit: Whether every vector has length one, within rounding.
    """

    values: FloatArray
    norms: np.ndarray[Any, np.dtype[np.float64]]
    metric: Metric
    unit: bool

    @classmethod
    def of(cls, field: VectorField, values: FloatArray, snapshot: Snapshot) -> FieldVectors:
        """The vectors of the rows of a snapshot."""
        return cls(values, snapshot.norms[field.name], field.metric, snapshot.unit[field.name])

    def prepare(self, queries: FloatArray) -> FloatArray:
        """Queries as they are compared: under cosine of length one."""
        if self.metric is not Metric.COSINE:
            return queries
        wide = queries.astype(np.float64)  # in float32 the square of a long or short vector would not fit
        if len(wide) == 1:
            wide /= math.sqrt(wide[0].dot(wide[0]))
        else:
            wide /= np.sqrt(np.vecdot(wide, wide))[:, None]
        return wide.astype(np.float32)


@dataclass(slots=True, eq=False)
class Candidates:
    """Candidates of n queries: best first, padded with row -1.

    Attributes:
        rows: int64 (n, c).
        distances: float32 (n, c); smaller is nearer whatever the metric, which is the negated score where
            a higher score is better.
    """

    rows: Rows
    distances: Distances

    @property
    def full(self) -> bool:
        """Whether no line is padded."""
        return not self.rows.size or bool(
            (self.rows[0, -1] if len(self.rows) == 1 else self.rows[:, -1].min()) >= 0
        )

    def first(self, count: int) -> Candidates:
        """The best so many, at most; of candidates that are sorted."""
        if self.rows.shape[1] <= count:
            return self
        return Candidates(self.rows[:, :count], self.distances[:, :count])

    @classmethod
    def none(cls, queries: int) -> Candidates:
        """No candidates."""
        return cls(np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32))


def merged(parts: list[Candidates], k: int) -> Candidates:
    """The best k candidates of several disjoint parts."""
    if len(parts) == 1 and parts[0].rows.shape[1] <= k:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts], axis=1)
    distances = np.concatenate([part.distances for part in parts], axis=1)
    distances = np.where(rows < 0, np.float32(np.inf), distances)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Candidates(np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1))


def search_range(
    stored: FieldVectors, queries: FloatArray, k: int, start: int, stop: int, live: Mask
) -> Candidates:
    """The best rows of a range, by comparing every one; ``queries`` as prepared."""
    best = Candidates.none(len(queries))
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        distances = _distances(stored, queries, stored.values[low:high], stored.norms[low:high])
        if not live[low:high].all():
            distances[:, ~live[low:high]] = np.inf
        block = _best(distances, np.arange(low, high), k + SPARE)
        live_rows = np.where(np.isinf(block.distances), -1, block.rows)
        best = merged([best, Candidates(live_rows, block.distances)], k + SPARE)
    return best


def search_rows(stored: FieldVectors, queries: FloatArray, k: int, rows: Rows) -> Candidates:
    """The best of some rows, by comparing every one of them; ``queries`` as prepared."""
    if len(queries) > 4:  # a copy of the rows pays from a few queries on
        best = Candidates.none(len(queries))
        for low in range(0, len(rows), _BLOCK):
            some = rows[low : low + _BLOCK]
            distances = _distances(stored, queries, stored.values[some], stored.norms[some])
            best = merged([best, _best(distances, some, k + SPARE)], k + SPARE)
        return best
    distances = np.empty((len(queries), len(rows)), np.float32)
    kernel = faiss.fvec_L2sqr_by_idx if stored.metric is Metric.L2 else faiss.fvec_inner_products_by_idx
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread: the kernel would wait for others that have nothing to do
    try:
        for position in range(len(queries)):
            query, out = queries[position], distances[position]
            pointers = (faiss.swig_ptr(array) for array in (out, query, stored.values, rows))
            kernel(*pointers, len(query), 1, len(rows))
    finally:
        faiss.omp_set_num_threads(threads)
    if stored.metric is not Metric.L2:
        np.negative(distances, out=distances)
    if stored.metric is Metric.COSINE and not stored.unit:
        distances /= stored.norms[rows].astype(np.float32)
    if len(queries) == 1:
        return _best_of_one(distances[0], rows, k + SPARE)
    return _best(distances, rows, k + SPARE)


def search_wide(stored: FieldVectors, queries: FloatArray, k: int, rows: Rows) -> Candidates:
    """As search_rows, in float64 from the start; a distance beyond float32 is infinite."""
    places = np.empty((len(queries), min(k, len(rows))), np.int64)
    best = np.empty(places.shape, np.float64)
    distances = np.empty(len(rows), np.float64)
    for position, query in enumerate(queries.astype(np.float64)):
        for low in range(0, len(rows), _WIDE_BLOCK):
            values = stored.values[rows[low : low + _WIDE_BLOCK]].astype(np.float64)
            if stored.metric is Metric.L2:
                distances[low : low + _WIDE_BLOCK] = np.square(values - query).sum(axis=1)
            else:
                distances[low : low + _WIDE_BLOCK] = -(values @ query)
        if stored.metric is Metric.COSINE:
            distances /= stored.norms[rows]
        places[position] = np.argsort(distances, kind="stable")[: places.shape[1]]
        best[position] = distances[places[position]]
    with np.errstate(over="ignore"):
        return Candidates(rows[places], best.astype(np.float32))


def rescored(stored: FieldVectors, queries: FloatArray, candidates: Candidates, k: int) -> Candidates:
    """The candidates with exact distances, computed in float64 from the truth, best k first."""
    count = candidates.rows.shape[1]
    distances = np.full((len(queries), count), np.inf)
    some = max(1, (64 << 20) // max(1, count * queries.shape[1] * 8))
    for low in range(0, len(queries), some):
        rows = np.maximum(candidates.rows[low : low + some], 0)
        values = stored.values[rows].astype(np.float64)
        asked = queries[low : low + some].astype(np.float64)
        if stored.metric is Metric.L2:
            difference = values - asked[:, None, :]
            distances[low : low + some] = np.einsum("nkd,nkd->nk", difference, difference)
            continue
        distances[low : low + some] = -np.matmul(values, asked[:, :, None])[:, :, 0]
        if stored.metric is Metric.COSINE:
            distances[low : low + some] /= stored.norms[rows]
    distances = np.where(candidates.rows < 0, np.inf, distances)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(distances, order, 1).astype(np.float32)
    return Candidates(np.take_along_axis(candidates.rows, order, 1), best)


def _distances(
    stored: FieldVectors, queries: FloatArray, vectors: FloatArray, norms: np.ndarray[Any, Any]
) -> Distances:
    if stored.metric is Metric.L2:
        return _squared_distances(queries, vectors)
    dots: Distances = queries @ vectors.T
    np.negative(dots, out=dots)
    if stored.metric is Metric.COSINE and not stored.unit:
        dots /= norms.astype(np.float32)
    return dots


def _squared_distances(queries: FloatArray, vectors: FloatArray) -> Distances:
    """By differences: |q|^2 - 2 q.x + |x|^2 loses every digit where vectors are long and near each other."""
    distances = np.empty((len(queries), len(vectors)), np.float32)
    step = max(1, (1 << 20) // (4 * vectors.shape[1]))  # what stays in the cache from query to query
    for low in range(0, len(vectors), step):
        some = vectors[low : low + step]
        for position in range(len(queries)):
            out = distances[position, low : low + step]
            pointers = (faiss.swig_ptr(array) for array in (out, queries[position], some))
            faiss.fvec_L2sqr_ny(*pointers, queries.shape[1], len(some))
    return distances


def _best(distances: Distances, rows: Rows, count: int) -> Candidates:
    """The ``count`` smallest of each line of distances, sorted."""
    if distances.shape[1] > count:
        places = np.argpartition(distances, count - 1, axis=1)[:, :count]
        distances = np.take_along_axis(distances, places, 1)
        nearest = rows[places]
    else:
        nearest = np.broadcast_to(rows, distances.shape)
    order = np.argsort(distances, axis=1, kind="stable")
    return Candidates(np.take_along_axis(nearest, order, 1), np.take_along_axis(distances, order, 1))


def _best_of_one(distances: Distances, rows: Rows, count: int) -> Candidates:
    """The same of one line, which takes NumPy half the calls."""
    if len(distances) > count:
        places = distances.argpartition(count - 1)[:count]
        places = places[distances[places].argsort(kind="stable")]
    else:
        places = distances.argsort(kind="stable")
    return Candidates(rows[places][None], distances[places][None])
