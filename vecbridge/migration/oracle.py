"""The exact answer to many searches at once, over all rows of a scan, read once and in any order.

A block of rows is compared with all queries by one matrix product in float32. Its rounding error is bounded
(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1: ``n * u * |x| * |y|``); whatever
may be among the best within that bound is compared again in float64, one pair at a time. Under L2 all vectors
are shifted first, so that a large common offset does not eat the digits. Where float32 cannot hold the
products, float64 takes its place.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.query import FloatArray
from vecbridge.schema import Metric

Wide = np.ndarray[Any, np.dtype[np.float64]]
Positions = np.ndarray[Any, np.dtype[np.intp]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_BLOCK_BYTES: Final = 16 << 20  # of the products of a block
_PAIR_BYTES: Final = 32 << 20  # of the vectors that are compared again at a time
_LARGEST: Final = 1e12  # beyond it, a product of two components may exceed float32


class Best:
    """The best rows so far of some queries, under one filter.

    Args:
        queries: How many queries.
        k: Rows a query, at most.

    Attributes:
        scores: float64, shape (queries, k), the larger the better; -inf where there are fewer rows.
        ids: Objects, shape (queries, k).
        matches: Rows that were offered.
        rows: Rows that were looked at, whether they match or not.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.scores: Wide = np.full((queries, k), -np.inf)
        self.ids: np.ndarray[Any, np.dtype[np.object_]] = np.full((queries, k), None, object)
        self.matches = self.rows = 0

    @property
    def worst(self) -> Wide:
        """The score that a row must exceed to be among the best; shape (queries,)."""
        return self.scores[:, -1]

    def merge(self, queries: Positions, scores: Wide, ids: np.ndarray[Any, np.dtype[np.object_]]) -> None:
        """Takes in candidates: for each the query, the exact score and the id."""
        touched, rows = np.unique(queries, return_inverse=True)
        all_rows = np.concatenate([np.repeat(np.arange(len(touched)), self.k), rows])
        all_scores = np.concatenate([self.scores[touched].ravel(), scores])
        all_ids = np.concatenate([self.ids[touched].ravel(), ids])
        order = np.lexsort((-all_scores, all_rows))
        starts = np.searchsorted(all_rows[order], np.arange(len(touched)))
        best = order[starts[:, None] + np.arange(self.k)]
        self.scores[touched], self.ids[touched] = all_scores[best], all_ids[best]


class Oracle:
    """Exact top k of some queries over rows that are added block by block; one thread at a time.

    Args:
        queries: float32, shape (n, dim), finite.
        metric: How vectors are compared.
        k: Rows a query.
        groups: For each filter, how many of the queries, from the first on, are asked under it.

    Attributes:
        best: One a group.
    """

    def __init__(self, queries: FloatArray, metric: Metric, k: int, groups: list[int]) -> None:
        self.metric = metric
        self.best = [Best(count, k) for count in groups]
        self._queries = queries.astype(np.float64)
        self._shift: Wide = self._queries.mean(axis=0) if metric is Metric.L2 else np.zeros(queries.shape[1])
        compared = self._compared(self._queries)
        self._lengths = _lengths(compared)
        self._largest = float(np.abs(compared).max(initial=0))
        self._wide, self._narrow = compared, compared.astype(np.float32)
        self._rows = max(1, _BLOCK_BYTES // (4 * max(len(queries), 1)))

    def add(self, ids: pa.Array, vectors: FloatArray, masks: list[Mask | None]) -> None:
        """Compares some rows with the queries.

        Args:
            ids: Of the rows.
            vectors: float32, shape (rows, dim); rows that are not finite, or zero under cosine, are skipped.
            masks: For each group, which rows match its filter; None is all of them.
        """
        for start in range(0, len(vectors), self._rows):
            part = slice(start, start + self._rows)
            stored = vectors[part].astype(np.float64)
            usable: Mask = np.asarray(np.isfinite(stored).all(axis=1))
            if self.metric is Metric.COSINE:
                usable &= stored.any(axis=1)
            if not usable.all():
                stored[~usable] = 0
            parts: list[Mask] = [usable if each is None else usable & each[part] for each in masks]
            self._add(ids[part], stored, parts)

    def exact(self, queries: Positions, vectors: FloatArray) -> Wide:
        """The contract's scores of some pairs in float64: a query's position, and a vector beside it."""
        scores = np.empty(len(queries))
        step = max(1, _PAIR_BYTES // (16 * max(vectors.shape[1], 1)))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores[part] = self._exact(self._queries[queries[part]], vectors[part].astype(np.float64))
        return scores

    def length(self, query: int) -> float:
        """The Euclidean length of a query."""
        return float(np.linalg.norm(self._queries[query]))

    def _exact(self, asked: Wide, stored: Wide) -> Wide:
        if self.metric is Metric.L2:
            distances: Wide = np.square(stored - asked).sum(axis=1)
            return distances
        dots: Wide = np.einsum("ij,ij->i", asked, stored)
        if self.metric is Metric.DOT:
            return dots
        lengths = _lengths(asked) * _lengths(stored)
        cosines: Wide = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        return cosines

    def _add(self, ids: pa.Array, stored: Wide, masks: list[Mask]) -> None:
        compared = self._compared(stored)
        lengths = _lengths(compared)
        narrow = max(self._largest, float(np.abs(compared).max(initial=0))) < _LARGEST
        queries: np.ndarray[Any, Any] = self._narrow if narrow else self._wide
        rounding = (len(self._shift) + 8) * float(np.finfo(queries.dtype).eps)
        products = queries @ compared.astype(queries.dtype).T
        bound = rounding * self._lengths * lengths.max(initial=0)  # of each query
        if self.metric is Metric.L2:  # -|x - q|² + |q|², the larger the better
            products *= 2
            products -= np.square(lengths).astype(queries.dtype)
            bound = 2 * bound + rounding * lengths.max(initial=0) ** 2
        for best, mask in zip(self.best, masks, strict=True):
            self._offer(best, np.flatnonzero(mask), products, bound, ids, stored)

    def _offer(
        self, best: Best, rows: Positions, products: Any, bound: Wide, ids: pa.Array, stored: Wide
    ) -> None:
        """Compares again what may be among the best of a group."""
        count = len(best.scores)
        best.matches += len(rows)
        best.rows += len(stored)
        if not len(rows) or not count:
            return
        scores = products[:count] if len(rows) == products.shape[1] else products[:count, rows]
        needed = self._approximate(best.worst)
        if not np.isfinite(needed).all() and len(rows) > best.k:
            among = np.partition(scores, len(rows) - best.k, axis=1)[:, len(rows) - best.k]
            needed = np.maximum(needed, among - bound[:count])
        # of the same type as the scores, which would be converted else, and rounded down
        least = np.nextafter((needed - bound[:count]).astype(scores.dtype), -np.inf, dtype=scores.dtype)
        queries, places = np.divmod(np.flatnonzero(scores >= least[:, None]), len(rows))
        if not len(queries):
            return
        places = rows[places]
        used, columns = np.unique(places, return_inverse=True)
        names = np.array(ids.take(pa.array(used)).to_pylist(), object)
        exact = np.empty(len(queries))
        step = max(1, _PAIR_BYTES // (16 * stored.shape[1]))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            exact[part] = self._exact(self._queries[queries[part]], stored[places[part]])
        best.merge(queries, exact if self.metric.higher_is_better else -exact, names[columns])

    def _approximate(self, worst: Wide) -> Wide:
        """Exact scores as the products have them."""
        return worst + np.square(self._lengths[: len(worst)]) if self.metric is Metric.L2 else worst

    def _compared(self, vectors: Wide) -> Wide:
        """Vectors as they are multiplied: of length 1 under cosine, shifted under L2."""
        if self.metric is Metric.L2:
            return vectors - self._shift
        if self.metric is Metric.DOT:
            return vectors
        lengths = _lengths(vectors)[:, None]
        directions: Wide = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return directions


def _lengths(vectors: Wide) -> Wide:
    """Euclidean lengths; a third of the time that ``numpy.linalg.norm`` takes."""
    lengths: Wide = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths
