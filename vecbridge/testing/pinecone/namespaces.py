"""One namespace: its records, the writes that reads do not see yet, and exact search over the others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from vecbridge.testing.pinecone.filters import Match
from vecbridge.testing.pinecone.limits import Array


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored under an id."""

    id: str
    values: Array | None
    sparse: Mapping[int, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


Change = Callable[[dict[str, Record]], None]


class Namespace:
    """Records by id, in which a write appears some time after it was accepted.

    Args:
        delay: Seconds between the two.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._records: dict[str, Record] = {}
        self._pending: deque[tuple[float, int, Change]] = deque()
        self._sorted: list[str] | None = None
        self._matrix: tuple[list[Record], Array] | None = None
        self._accepted = 0
        self._indexed = 0

    def write(self, change: Change) -> int:
        """Accepts a change; returns its log sequence number."""
        self._accepted += 1
        self._pending.append((monotonic() + self._delay, self._accepted, change))
        return self._accepted

    @property
    def records(self) -> Mapping[str, Record]:
        """What reads see now."""
        while self._pending and self._pending[0][0] <= monotonic():
            _, self._indexed, change = self._pending.popleft()
            change(self._records)
            self._sorted = self._matrix = None
        return self._records

    @property
    def indexed(self) -> int:
        """The log sequence number of the last write that reads see."""
        _ = self.records
        return self._indexed

    def matching(self, match: Match | None) -> list[Record]:
        """The records that match, every one without a filter."""
        return [record for record in self.records.values() if match is None or match(record.metadata)]

    def page(self, after: str, prefix: str, limit: int) -> list[str]:
        """The next ids beyond ``after`` that start with a prefix, in their order."""
        records = self.records
        if self._sorted is None:
            self._sorted = sorted(records)
        start = bisect_right(self._sorted, after) if after >= prefix else bisect_left(self._sorted, prefix)
        return [id for id in self._sorted[start : start + limit] if id.startswith(prefix)]

    def search(self, metric: str, query: Record, match: Match | None, k: int) -> list[tuple[Record, float]]:
        """The best ``k`` records and their scores, best first, by exact search."""
        _ = self.records
        if self._matrix is None:
            self._matrix = _stacked(list(self._records.values()))
        candidates, matrix = self._matrix
        if match is not None:
            rows = [row for row, record in enumerate(candidates) if match(record.metadata)]
            candidates, matrix = [candidates[row] for row in rows], matrix[rows]
        scores = _scores(metric, matrix, query.values)
        if query.sparse:
            scores += np.array([_product(record.sparse, query.sparse) for record in candidates], np.float32)
        order = np.argsort(scores if metric == "euclidean" else -scores, kind="stable")[:k]
        return [(candidates[row], float(scores[row])) for row in order]


def _stacked(records: list[Record]) -> tuple[list[Record], Array]:
    width = max((len(record.values) for record in records if record.values is not None), default=0)
    matrix = np.zeros((len(records), width), np.float32)
    for row, record in enumerate(records):
        if record.values is not None:
            matrix[row] = record.values
    return records, matrix


def _scores(metric: str, matrix: Array, query: Array | None) -> Array:
    if query is None or not len(matrix):
        return np.zeros(len(matrix), np.float32)
    if metric == "euclidean":
        squares: Array = np.square(matrix - query).sum(axis=1)
        return squares
    products: Array = matrix @ query
    if metric == "dotproduct":
        return products
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
    np.divide(products, lengths, out=products, where=lengths > 0)
    return products


def _product(left: Mapping[int, float], right: Mapping[int, float]) -> float:
    return sum(value * left.get(index, 0.0) for index, value in right.items())
