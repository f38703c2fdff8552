"""Exact answers from vectors that were read back, for filters that keep too little for an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecbridge.query import FloatArray
from vecbridge.schema import Metric


class Ranking:
    """The best rows of each query vector among those shown so far.

    Args:
        queries: float32, shape (n, dim).
        metric: How they compare.
        k: How many to keep.
    """

    def __init__(self, queries: FloatArray, metric: Metric, k: int) -> None:
        self._queries = queries.astype(np.float64)
        self._metric = metric
        self._k = k
        self._keys: list[Any] = []
        self._scores = np.empty((len(queries), 0), np.float64)
        self._places = np.empty((len(queries), 0), np.int64)

    def show(self, keys: list[str] | list[int], vectors: FloatArray) -> None:
        """Takes in some rows.

        Args:
            keys: Their primary keys.
            vectors: float32, shape (len(keys), dim).
        """
        scores = np.concatenate([self._scores, self._scored(vectors.astype(np.float64))], axis=1)
        fresh = np.arange(len(self._keys), len(self._keys) + len(keys))
        places = np.concatenate(
            [self._places, np.broadcast_to(fresh, (len(self._queries), len(keys)))], axis=1
        )
        self._keys += keys
        order = np.argsort(-scores if self._metric.higher_is_better else scores, axis=1, kind="stable")
        order = order[:, : self._k]
        self._scores = np.take_along_axis(scores, order, 1)
        self._places = np.take_along_axis(places, order, 1)

    def best(self) -> list[tuple[list[Any], FloatArray]]:
        """For each query the primary keys, best first, and their scores."""
        with np.errstate(over="ignore"):
            scores = self._scores.astype(np.float32)
        return [
            ([self._keys[place] for place in places], line)
            for places, line in zip(self._places.tolist(), scores, strict=True)
        ]

    def _scored(self, stored: Any) -> Any:
        if self._metric is Metric.L2:
            return np.stack([np.square(stored - query).sum(axis=1) for query in self._queries])
        dots = self._queries @ stored.T
        if self._metric is Metric.DOT:
            return dots
        return dots / np.linalg.norm(self._queries, axis=1)[:, None] / np.linalg.norm(stored, axis=1)
