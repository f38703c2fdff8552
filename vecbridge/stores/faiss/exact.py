"""Exact search over rows of the vector file, and exact scores of rows that an index proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np

from vecbridge.query import FloatArray
from vecbridge.schema import Metric
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask

Keys = np.ndarray[Any, np.dtype[np.float32]]
_BLOCK: Final = 16_384
_WIDE_BLOCK: Final = 1024
LONGEST: Final = 1e18  # length whose square and its multiples are float32
LONGEST_COSINE: Final = 1e37  # against a query of length one
_SPARE: Final = 16  # candidates beyond k, so that rounding in float32 cannot push a true hit out


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The vectors of one field, and how they compare.

    Attributes:
        vectors: float32 (total, dim), the truth.
        norms: float64 (total,), their Euclidean norms.
        metric: The field's metric.
        unit: Whether every vector has length one, within rounding.
    """

    vectors: FloatArray
    norms: np.ndarray[Any, np.dtype[np.float64]]
    metric: Metric
    unit: bool

    def prepare(self, queries: FloatArray) -> FloatArray:
        """Queries as they are compared: under cosine of length one."""
        if self.metric is not Metric.COSINE:
            return queries
        wide = queries.astype(np.float64)  # in float32 the square of a long or short vector would not fit
        wide /= np.sqrt(np.vecdot(wide, wide))[:, None]
        return wide.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Candidates of n queries: best first, padded with row -1.

    Attributes:
        rows: int64 (n, c).
        keys: float32 (n, c); smaller is better whatever the metric.
    """

    rows: Rows
    keys: Keys

    @property
    def full(self) -> bool:
        """Whether no line is padded."""
        return not self.rows.size or bool(
            (self.rows[0, -1] if len(self.rows) == 1 else self.rows[:, -1].min()) >= 0
        )

    @classmethod
    def none(cls, queries: int) -> Found:
        """No candidates."""
        return cls(np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32))


def merged(parts: list[Found], k: int) -> Found:
    """The best k candidates of several disjoint parts."""
    if len(parts) == 1 and parts[0].rows.shape[1] <= k:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts], axis=1)
    keys = np.concatenate([part.keys for part in parts], axis=1)
    keys = np.where(rows < 0, np.float32(np.inf), keys)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    return Found(np.take_along_axis(rows, order, 1), np.take_along_axis(keys, order, 1))


def search_range(space: Space, queries: FloatArray, k: int, start: int, stop: int, live: Mask) -> Found:
    """The best rows of a range, by comparing every one; ``queries`` as prepared."""
    best = Found.none(len(queries))
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        keys = _keys(space, queries, space.vectors[low:high], space.norms[low:high])
        if not live[low:high].all():
            keys[:, ~live[low:high]] = np.inf
        best = merged([best, _best(keys, np.arange(low, high), k + _SPARE)], k + _SPARE)
    return best


def search_rows(space: Space, queries: FloatArray, k: int, rows: Rows) -> Found:
    """The best of some rows, by comparing every one of them; ``queries`` as prepared."""
    if len(queries) > 4:  # a copy of the rows pays from a few queries on
        best = Found.none(len(queries))
        for low in range(0, len(rows), _BLOCK):
            some = rows[low : low + _BLOCK]
            keys = _keys(space, queries, space.vectors[some], space.norms[some])
            best = merged([best, _best(keys, some, k + _SPARE)], k + _SPARE)
        return best
    keys = np.empty((len(queries), len(rows)), np.float32)
    kernel = faiss.fvec_L2sqr_by_idx if space.metric is Metric.L2 else faiss.fvec_inner_products_by_idx
    for position in range(len(queries)):
        query, out = queries[position], keys[position]
        pointers = (faiss.swig_ptr(array) for array in (out, query, space.vectors, rows))
        kernel(*pointers, len(query), 1, len(rows))
    if space.metric is not Metric.L2:
        np.negative(keys, out=keys)
    if space.metric is Metric.COSINE and not space.unit:
        keys /= space.norms[rows].astype(np.float32)
    return _best(keys, rows, k + _SPARE)


def search_wide(space: Space, queries: FloatArray, k: int, rows: Rows) -> Found:
    """As search_rows, in float64 from the start; a key beyond float32 is infinite."""
    places = np.empty((len(queries), min(k, len(rows))), np.int64)
    best = np.empty(places.shape, np.float64)
    keys = np.empty(len(rows), np.float64)
    for position, query in enumerate(queries.astype(np.float64)):
        for low in range(0, len(rows), _WIDE_BLOCK):
            stored = space.vectors[rows[low : low + _WIDE_BLOCK]].astype(np.float64)
            if space.metric is Metric.L2:
                keys[low : low + _WIDE_BLOCK] = np.square(stored - query).sum(axis=1)
            else:
                keys[low : low + _WIDE_BLOCK] = -(stored @ query)
        if space.metric is Metric.COSINE:
            keys /= space.norms[rows]
        places[position] = np.argsort(keys, kind="stable")[: places.shape[1]]
        best[position] = keys[places[position]]
    with np.errstate(over="ignore"):
        return Found(rows[places], best.astype(np.float32))


def rescored(space: Space, queries: FloatArray, found: Found, k: int) -> Found:
    """The candidates with exact keys, computed in float64 from the truth, best k first."""
    count = found.rows.shape[1]
    keys = np.full((len(queries), count), np.inf)
    some = max(1, (64 << 20) // max(1, count * queries.shape[1] * 8))
    for low in range(0, len(queries), some):
        rows = np.maximum(found.rows[low : low + some], 0)
        stored = space.vectors[rows].astype(np.float64)
        asked = queries[low : low + some].astype(np.float64)
        if space.metric is Metric.L2:
            difference = stored - asked[:, None, :]
            keys[low : low + some] = np.einsum("nkd,nkd->nk", difference, difference)
            continue
        keys[low : low + some] = -np.matmul(stored, asked[:, :, None])[:, :, 0]
        if space.metric is Metric.COSINE:
            keys[low : low + some] /= space.norms[rows]
    keys = np.where(found.rows < 0, np.inf, keys)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(keys, order, 1).astype(np.float32)
    return Found(np.take_along_axis(found.rows, order, 1), best)


def _keys(space: Space, queries: FloatArray, vectors: FloatArray, norms: np.ndarray[Any, Any]) -> Keys:
    if space.metric is Metric.L2:
        return _squared_distances(queries, vectors)
    dots: Keys = queries @ vectors.T
    np.negative(dots, out=dots)
    if space.metric is Metric.COSINE and not space.unit:
        dots /= norms.astype(np.float32)
    return dots


def _squared_distances(queries: FloatArray, vectors: FloatArray) -> Keys:
    """By differences: |q|^2 - 2 q.x + |x|^2 loses every digit where vectors are long and near each other."""
    keys = np.empty((len(queries), len(vectors)), np.float32)
    step = max(1, (1 << 20) // (4 * vectors.shape[1]))  # what stays in the cache from query to query
    for low in range(0, len(vectors), step):
        some = vectors[low : low + step]
        for position in range(len(queries)):
            out = keys[position, low : low + step]
            pointers = (faiss.swig_ptr(array) for array in (out, queries[position], some))
            faiss.fvec_L2sqr_ny(*pointers, queries.shape[1], len(some))
    return keys


def _best(keys: Keys, rows: Rows, count: int) -> Found:
    """The ``count`` smallest of each line of keys, sorted; dead rows (inf) become -1."""
    if keys.shape[1] > count:
        places = np.argpartition(keys, count - 1, axis=1)[:, :count]
        keys = np.take_along_axis(keys, places, 1)
        found = rows[places]
    else:
        found = np.broadcast_to(rows, keys.shape)
    order = np.argsort(keys, axis=1, kind="stable")
    keys, found = np.take_along_axis(keys, order, 1), np.take_along_axis(found, order, 1)
    return Found(np.where(np.isinf(keys), -1, found), keys)
