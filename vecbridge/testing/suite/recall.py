"""Recall at default knobs: what the contract promises of every index without a quantizer."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

from vecbridge.filters import Filter, field
from vecbridge.indexes import HNSW, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray
from vecbridge.schema import Metric
from vecbridge.store import Collection
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import points, query, write
from vecbridge.testing.maker import Maker, Undeclared

K: Final = 10
QUERIES: Final = 100
LEAST: Final = 0.95
SHARES: Final = (0.9, 0.5, 0.2, 0.1, 0.01, 0.001)
RANDOM_ROWS: Final = 3_000
_STUDENT: Final = 1.6604  # one-sided 95 % quantile of Student's t with QUERIES - 1 degrees of freedom

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A filter, and what it must find.

    Attributes:
        name: What it keeps, for a failure's message.
        condition: The filter, or None.
        allowed: The numbers of the rows that match.
        best: For each query the nearest of them; shape (queries, min(K, matches)).
    """

    name: str
    condition: Filter | None
    allowed: Numbers
    best: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows, queries of the same distribution that are not among them, and the exact answers.

    Attributes:
        metric: Of the collection.
        stored: The vectors.
        queries: The query vectors.
        columns: By name, a number for each row; each of SHARES lies below some number. "anywhere" is
            drawn without regard to the vectors, "region" follows them along a direction of the space. There
            are few numbers, because some servers look at each one that occurs.
        asked: No filter, and each share of each column.
    """

    metric: Metric
    stored: FloatArray
    queries: FloatArray
    columns: dict[str, Numbers]
    asked: tuple[Asked, ...]


@cache
def random_vectors(rows: int) -> Sample:
    """Gaussian vectors of 48 dimensions; a region is one side of a hyperplane."""
    rows = min(rows, RANDOM_ROWS)
    stored = points(rows, 48, seed=31)
    return _sample(Metric.COSINE, stored, points(QUERIES, 48, seed=32), stored[:, 0])


@cache
def clustered_vectors(rows: int) -> Sample:
    """64 clusters in 128 dimensions; a region is some neighbouring clusters, or a part of one."""
    rng = np.random.default_rng(33)
    centres = 2 * rng.standard_normal((64, 128))
    centres = centres[np.argsort(centres[:, 0])]
    labels = rng.integers(64, size=rows + QUERIES)
    vectors = (centres[labels] + 0.7 * rng.standard_normal((len(labels), 128))).astype(np.float32)
    order = labels[:rows] + rng.random(rows)
    return _sample(Metric.L2, vectors[:rows], vectors[rows:], order)


def _sample(metric: Metric, stored: FloatArray, queries: FloatArray, along: np.ndarray) -> Sample:
    rows = len(stored)
    ranks = {
        "anywhere": np.random.default_rng(34).permutation(rows),
        "region": np.argsort(np.argsort(along)),
    }
    kept = [max(1, round(share * rows)) for share in SHARES]
    columns: dict[str, Numbers] = {
        name: len(SHARES) - np.count_nonzero(some[:, None] < kept, axis=1) for name, some in ranks.items()
    }
    distances = _distances(metric, stored, queries)
    asked = [_asked("no filter", None, np.arange(rows), distances)]
    for name, numbers in columns.items():
        for place, share in enumerate(SHARES):
            condition = field(name) < len(SHARES) - place
            allowed = np.flatnonzero(numbers < len(SHARES) - place)
            asked.append(_asked(f"{100 * share:g} % {name}", condition, allowed, distances))
    return Sample(metric, stored, queries, columns, tuple(asked))


def _asked(name: str, condition: Filter | None, allowed: Numbers, distances: np.ndarray) -> Asked:
    some = distances[:, allowed]
    best = np.argpartition(some, min(K, len(allowed)) - 1, axis=1)[:, :K]
    return Asked(name, condition, allowed, allowed[best])


def _distances(metric: Metric, stored: FloatArray, queries: FloatArray) -> np.ndarray:
    """In float64, ordered as the metric orders the rows of each query; shape (queries, rows)."""
    rows, wanted = stored.astype(np.float64), queries.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray((rows**2).sum(axis=1) - 2 * wanted @ rows.T)
    return np.asarray(-(wanted @ rows.T) / np.linalg.norm(rows, axis=1))


def indexes(rows: int) -> dict[str, IndexParams]:
    """The indexes without a quantizer at their defaults.

    The default number of lists is for more rows: 4 * sqrt(rows) is usual, and k-means wants 39 rows a list.
    """
    lists = min(round(4 * rows**0.5), rows // 39)
    return {"auto": Auto(), "flat": Flat(), "ivf_flat": IVFFlat(nlist=lists), "hnsw": HNSW()}


def measured(collection: Collection, sample: Sample) -> Iterator[tuple[Asked, float, float]]:
    """Recall of each filter and its lower 95 % bound.

    The bound is one-sided, from Student's t over the recalls of the queries: hits of one query are not
    independent of each other.
    """
    for asked in sample.asked:
        found = collection.search(query(sample.queries, k=K, filter=asked.condition))
        allowed, shares = set(asked.allowed.tolist()), []
        for hits, best in zip(found, asked.best.tolist(), strict=True):
            ids = set(np.asarray(hits.ids).tolist())
            assert ids <= allowed, f"{asked.name}: rows that do not match"
            shares.append(len(ids & set(best)) / len(best))
        recall = float(np.mean(shares))
        yield asked, recall, recall - _STUDENT * float(np.std(shares, ddof=1)) / QUERIES**0.5


class TestDefaultRecall:
    """search() without knobs, beside the exact answer, while rows are growing and when they are indexed."""

    @pytest.mark.parametrize("drawn", [random_vectors, clustered_vectors], ids=lambda each: each.__name__)
    @pytest.mark.parametrize("kind", indexes(RANDOM_ROWS))
    def test_default_knobs_find_the_nearest_rows_under_every_filter(
        self, make: Maker, store_case: StoreCase, kind: str, drawn: Callable[[int], Sample]
    ) -> None:
        if store_case.exact:
            raise Undeclared("an index that could lose rows, since every row is compared")
        sample = drawn(store_case.recall_rows)
        rows, dim = sample.stored.shape
        collection = make(
            dim=dim,
            metric=sample.metric,
            index=indexes(rows)[kind],
            id_type="int64",
            fields=dict.fromkeys(sample.columns, "int64"),
        )
        write(collection, id=range(rows), vector=sample.stored, **sample.columns)
        if collection.capabilities.consistency != "strong":
            collection.flush()  # until then rows may be invisible, which is no matter of recall
        lines = [("growing", *line) for line in measured(collection, sample)]
        collection.flush()
        collection.wait_ready()
        lines += [("indexed", *line) for line in measured(collection, sample)]
        missed = [
            f"{state}, {asked.name}: {recall:.3f}, lower bound {bound:.3f}"
            for state, asked, recall, bound in lines
            if bound < LEAST
        ]
        assert not missed, f"recall@{K} below {LEAST}:\n" + "\n".join(missed)
