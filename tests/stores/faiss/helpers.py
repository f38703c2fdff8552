"""What the tests of the FAISS store share: small collections, and the truth by brute force."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.collection import Collection
from vecbridge.query import FloatArray, Query
from vecbridge.records import batch, vectors
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.store import Store
from vecbridge.stores.faiss.driver import FaissDriver
from vecbridge.stores.faiss.view import Reader
from vecbridge.testing import driver_of

DIM = 8


def faiss_store(root: Path, **options: Any) -> Store:
    """A store in a directory."""
    store = connect(f"faiss://{root}", **options)
    assert isinstance(driver_of(store), FaissDriver)
    return store


def reader_of(collection: Collection) -> Reader:
    """What the driver of a collection has read."""
    reader = driver_of(collection).reader
    assert isinstance(reader, Reader)
    return reader


def small(name: str = "photos", **changes: Any) -> CollectionSpec:
    """A spec of eight dimensions with a number and a text."""
    return CollectionSpec.single(
        name, **({"dim": DIM, "metric": "l2", "fields": {"n": "int64", "s": "string"}} | changes)
    )


def random_vectors(count: int, dim: int = DIM, seed: int = 0) -> FloatArray:
    """Normally distributed vectors, not of length one."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def rows(spec: CollectionSpec, ids: Sequence[Any], values: FloatArray | None = None) -> pa.RecordBatch:
    """Records whose fields follow from their position."""
    values = random_vectors(len(ids), spec.vector.dim) if values is None else values
    columns: dict[str, Any] = {"id": ids, "vector": values}
    if spec.fields:
        columns |= {"n": list(range(len(ids))), "s": [f"text {each}" for each in ids]}
    return batch(spec, **columns)


def names(count: int, start: int = 0) -> list[str]:
    """Ids in order."""
    return [f"r{number:06d}" for number in range(start, start + count)]


def contents(collection: Collection) -> list[dict[str, Any]]:
    """Every record, by id; fails where an id comes twice."""
    found = [record for page in collection.scan() for record in page.batch.to_pylist()]
    assert len({each["id"] for each in found}) == len(found)
    assert collection.count() == len(found)
    return sorted(found, key=lambda each: each["id"])


def scanned(collection: Collection, **options: Any) -> list[Any]:
    """Ids in the order of a scan."""
    return [key for page in collection.scan(include=[], **options) for key in page.batch["id"].to_pylist()]


def best(metric: str, queries: FloatArray, stored: FloatArray, ids: Sequence[Any], k: int) -> list[list[Any]]:
    """The ids of the k best rows of each query, in float64."""
    q, x = queries.astype(np.float64), stored.astype(np.float64)
    if metric == Metric.L2:
        keys = ((q[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    else:
        keys = -(q @ x.T)
    if metric == Metric.COSINE:
        keys /= np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None, :]
    return [[ids[place] for place in line[:k]] for line in np.argsort(keys, axis=1, kind="stable").tolist()]


def true_score(metric: str, query: FloatArray, stored: FloatArray) -> float:
    """What the metric says of two vectors, in float64."""
    q, x = query.astype(np.float64), stored.astype(np.float64)
    if metric == Metric.L2:
        return float(((q - x) ** 2).sum())
    dot = float(q @ x)
    return dot / float(np.linalg.norm(q) * np.linalg.norm(x)) if metric == Metric.COSINE else dot


def found(collection: Collection, queries: FloatArray, k: int, **options: Any) -> list[list[Any]]:
    """The ids of the hits."""
    return [list(hits.ids) for hits in collection.search(Query(queries, k, **options))]


def recall(answers: Iterable[Sequence[Any]], truth: Iterable[Sequence[Any]]) -> float:
    """The share of the true neighbours that was found."""
    pairs = list(zip(answers, truth, strict=True))
    return sum(len(set(a) & set(t)) for a, t in pairs) / sum(len(t) for _, t in pairs)


def digest(root: Path) -> dict[str, str]:
    """A hash of every file but the lock."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def one(root: Path, pattern: str) -> Path:
    """The only file below a directory that matches."""
    [path] = root.rglob(pattern)
    return path


def vectors_of(collection: Collection, ids: Sequence[Any]) -> FloatArray:
    """Stored vectors, in the order asked."""
    return vectors(collection.fetch(ids))
