"""Recall at default knobs, and what a filter costs: the rows, the filters, the exact answers, the figures."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

import vecbridge as vb
from support.harness import Samples
from vecbridge import field
from vecbridge.filters import Filter
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.store import Collection

K = 10
LEAST = 0.95
SHARES = (0.9, 0.5, 0.2, 0.1, 0.01, 0.001)
CLUSTERS = 64
_NUMBERS = 1000  # distinct values of a filtered column
_WARM = 2  # uses of a filter that are not in its p50
LEAST_TIMED = 4  # queries asked alone, so that something is left of them without the first
_STUDENT = 1.66  # one-sided 95 % quantile of Student's t for a hundred queries; 1.645 for many
_SEED = 151


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to search among.

    Attributes:
        name: "random" or "clusters", and the dimension.
        promised: Whether recall must reach LEAST; else it is reported.
        vectors: float32 (rows, dim).
        queries: From everywhere, none of them stored.
        outside: From the half of the space that is furthest from the regions that filters keep.
        columns: "random" is drawn without regard to the vectors, "region" follows them; 0 to 999.
    """

    name: str
    promised: bool
    vectors: FloatArray
    queries: FloatArray
    outside: FloatArray
    columns: dict[str, np.ndarray]


def drawn(name: str, rows: int, queries: int) -> Data:
    """Seeded data by name: "random-48", "random-128", "clusters-128".

    Random vectors are Gaussian, and a region is what lies on one side of a hyperplane. Clusters are 64
    Gaussians numbered along one direction, and a region is some neighbours, or a part of one.
    """
    kind, _, dim = name.partition("-")
    random = np.random.default_rng([_SEED, int(dim)])
    count = rows + queries
    if kind == "random":
        vectors = random.standard_normal((count, int(dim)), np.float32)
        along = vectors[:, 0]
        outside = random.standard_normal((queries, int(dim)), np.float32)
        outside[:, 0] = np.abs(outside[:, 0])
    else:
        centres = 2 * random.standard_normal((CLUSTERS, int(dim)), np.float32)
        centres = centres[np.argsort(centres[:, 0])]
        labels = random.integers(CLUSTERS, size=count)
        vectors = _around(centres, labels, random)
        along = labels + random.random(count)
        outside = _around(centres, random.integers(CLUSTERS // 2, CLUSTERS, size=queries), random)
    ranks = {"random": random.permutation(rows), "region": np.argsort(np.argsort(along[:rows]))}
    columns = {key: some * _NUMBERS // rows for key, some in ranks.items()}
    promised = kind != "random" or int(dim) <= 48
    return Data(name, promised, vectors[:rows], vectors[rows:], outside, columns)


def _around(centres: FloatArray, labels: np.ndarray, random: np.random.Generator) -> FloatArray:
    noise = random.standard_normal((len(labels), centres.shape[1]), np.float32)
    return centres[labels] + np.float32(0.7) * noise


@dataclass(frozen=True, slots=True)
class Asked:
    """A filter and its queries.

    Attributes:
        where: "all" (no filter), "random", "region" or "outside".
        share: Of the rows that match.
        condition: The filter, or None.
        matches: How many rows match.
        queries: float32 (n, dim).
        best: For each query the rows of the K nearest matches.
    """

    where: str
    share: float
    condition: Filter | None
    matches: int
    queries: FloatArray
    best: list[set[int]]


def questions(data: Data) -> Iterator[Asked]:
    """No filter, then each share in each way; outside of a region only where half of the space is."""
    rows = np.arange(len(data.vectors))
    yield Asked("all", 1.0, None, len(rows), data.queries, nearest(data, rows, data.queries))
    for where in ("random", "region", "outside"):
        column = "random" if where == "random" else "region"
        for share in SHARES:
            if where == "outside" and share > 0.5:
                continue
            below = max(1, round(share * _NUMBERS))
            allowed = np.flatnonzero(data.columns[column] < below)
            asked = data.outside if where == "outside" else data.queries
            best = nearest(data, allowed, asked)
            yield Asked(where, share, field(column) < below, len(allowed), asked, best)


def nearest(data: Data, allowed: np.ndarray, queries: FloatArray) -> list[set[int]]:
    """The exact answers under cosine, in float64: numbers of rows among those allowed."""
    rows = data.vectors[allowed].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    k = min(K, len(rows))
    places = np.argpartition(-(queries.astype(np.float64) @ rows.T), k - 1, axis=1)[:, :k]
    return [set(some) for some in allowed[places].tolist()]


def lists(rows: int) -> int:
    """Inverted lists: 4 * sqrt(rows), as usual, with 39 rows a list at least, as k-means wants."""
    return int(min(round(4 * rows**0.5), rows // 39))


def indexes(rows: int) -> dict[str, IndexParams]:
    """Those without a quantizer."""
    return {
        "auto": vb.Auto(),
        "hnsw": vb.HNSW(),
        "ivf_flat": vb.IVFFlat(nlist=lists(rows)),
        "flat": vb.Flat(),
    }


def measured(
    store: vb.Store, data: Data, asked: list[Asked], index: str, timed: int | None, progress: Console
) -> Iterator[dict[str, Any]]:
    """One collection, searched as soon as its rows are visible, and again when its index is ready."""
    rows, dim = data.vectors.shape
    spec = vb.CollectionSpec.single(
        f"bench_{uuid.uuid4().hex[:12]}",
        dim=dim,
        metric="cosine",
        index=indexes(rows)[index],
        id_type="int64",
        fields={"random": "int64", "region": "int64"},
    )
    collection = store.create(spec)
    try:
        start = time.perf_counter()
        for first in range(0, rows, 10_000):
            some = slice(first, min(first + 10_000, rows))
            columns = {name: values[some] for name, values in data.columns.items()}
            numbers = np.arange(some.start, some.stop)
            collection.upsert(vb.batch(spec, id=numbers, vector=data.vectors[some], **columns))
        if collection.capabilities.consistency != "strong":
            collection.flush()
        for state in ("growing", "indexed"):
            if state == "indexed":
                collection.flush()
                collection.wait_ready(600)
            taken = time.perf_counter() - start
            told = collection.status().index
            lines = [figures(collection, each, timed) for each in asked]
            low = min(line["bound"] for line in lines)
            progress.print(f"{data.name}, {rows:,} rows, {index}, {state} ({told}): lowest bound {low:.3f}")
            yield {
                "data": data.name, "rows": rows, "promised": data.promised, "index": index, "state": state,
                "status": told, "seconds": taken, "lines": lines,
            }  # fmt: skip
            start = time.perf_counter()
    finally:
        store.drop(spec.name)


def figures(collection: Collection, asked: Asked, timed: int | None = None) -> dict[str, Any]:
    """Recall, its lower 95 % bound, and the times of one query at a time.

    Every third query is asked without the filter, too, so that a busy moment meets both halves of the ratio.

    Args:
        collection: Where to search.
        asked: The filter, its queries and the exact answers.
        timed: How many queries are asked alone; the rest are asked in one call. None asks each alone.
    """
    alone = len(asked.queries) if timed is None else timed
    answers, filtered, plain = [], [], []
    for number, query in enumerate(asked.queries[:alone]):
        hits, taken = _timed(collection, query, asked.condition)
        answers.append(hits)
        filtered.append(taken)
        if number % 3 == 0:
            plain.append(_timed(collection, query, None)[1])
    if alone < len(asked.queries):
        answers += collection.search(vb.Query(asked.queries[alone:], k=K, filter=asked.condition))
    shares = [
        len(set(np.asarray(hits.ids).tolist()) & best) / len(best)
        for hits, best in zip(answers, asked.best, strict=True)
    ]
    own, other = Samples(tuple(filtered[_WARM:])), Samples(tuple(plain[1:]))
    recall = statistics.mean(shares)
    return {
        "where": asked.where, "share": asked.share, "matches": asked.matches, "recall": recall,
        "bound": recall - _STUDENT * statistics.stdev(shares) / len(shares) ** 0.5, "p50_ms": own.median,
        "highest_ms": max(own.values), "first_ms": filtered[0], "ratio": own.median / other.median,
    }  # fmt: skip


def _timed(collection: Collection, query: FloatArray, condition: Filter | None) -> tuple[vb.Hits, float]:
    asked = vb.Query(query, k=K, filter=condition)
    start = time.perf_counter()
    [hits] = collection.search(asked)
    return hits, 1000 * (time.perf_counter() - start)
