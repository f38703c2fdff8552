"""What the tests of the suite share: sample data, comparisons, the exact top k."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from numpy.typing import ArrayLike

from vecbridge import records
from vecbridge.capabilities import Capabilities
from vecbridge.filters import Filter
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Hits, Query
from vecbridge.schema import CollectionSpec, FieldType, Metric
from vecbridge.store import Collection
from vecbridge.testing.cases import StoreCase

FIELDS: Final[dict[str, FieldType]] = {
    "flag": "bool",
    "year": "int64",
    "price": "float64",
    "title": "string",
    "tags": "list<string>",
    "extra": "json",
}
INDEXES: Final[dict[str, IndexParams]] = {
    "auto": Auto(),
    "flat": Flat(),
    "ivf_flat": IVFFlat(nlist=16),
    "ivf_sq8": IVFSQ8(nlist=16),
    "ivf_pq": IVFPQ(nlist=16, m=8, nbits=4),
    "hnsw": HNSW(m=16, ef_construction=100),
}


def supported_fields(capabilities: Capabilities) -> dict[str, FieldType]:
    """A field of each type that the store keeps."""
    return {name: type for name, type in FIELDS.items() if type in capabilities.field_types}


def examples(case: StoreCase) -> settings:
    """How a property test runs: the same examples every time, as many as the case affords."""
    return settings(
        max_examples=case.examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def points(rows: int, dim: int = 4, *, seed: int = 0) -> FloatArray:
    """Gaussian vectors: float32, shape (rows, dim)."""
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


def clusters(rows: int, dim: int, count: int, *, seed: int = 0) -> FloatArray:
    """Vectors around ``count`` centres: float32, shape (rows, dim)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(count, size=rows)
    centres = rng.standard_normal((count, dim)) * 2
    found: FloatArray = (centres[labels] + rng.standard_normal((rows, dim)) * 0.7).astype(np.float32)
    return found


def query(vectors: Any, k: int = 10, **options: Any) -> Query:
    """A query, from vectors in any form and options in a dict."""
    return Query(vectors, k, **options)


def numbers(hits: Hits) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The ids of hits from a collection with int64 ids."""
    assert isinstance(hits.ids, np.ndarray)
    return hits.ids


def put(collection: Collection, **columns: Any) -> None:
    """Writes columns and makes them visible; vectors are drawn if none are given."""
    rows = len(columns["id"])
    for each in collection.spec.vectors:
        columns.setdefault(each.name, points(rows, each.dim, seed=rows))
    report = collection.upsert(records.batch(collection.spec, **columns))
    assert (report.written, report.failed) == (rows, 0)
    collection.flush()


def read(
    collection: Collection, include: Sequence[str] | None = None, filter: Filter | None = None
) -> dict[str | int, dict[str, Any]]:
    """Everything that a scan finds, by id; each id once."""
    found: dict[str | int, dict[str, Any]] = {}
    for page in collection.scan(include=include, filter=filter):
        for record in page.batch.to_pylist():
            assert record["id"] not in found
            found[record["id"]] = record
    return found


def ids_of(collection: Collection, filter: Filter | None = None) -> set[str | int]:
    """The ids that a scan finds."""
    return set(read(collection, [], filter))


def assert_same_rows(actual: pa.RecordBatch, expected: pa.RecordBatch, capabilities: Capabilities) -> None:
    """The same rows in the same order: scalars exactly, vectors bit by bit where the store promises it."""
    assert actual.schema.equals(expected.schema), actual.schema
    for name in expected.schema.names:
        if not pa.types.is_fixed_size_list(expected.schema.field(name).type):
            assert actual.column(name).to_pylist() == expected.column(name).to_pylist()
            continue
        mine, theirs = records.vectors(actual, name), records.vectors(expected, name)
        if capabilities.lossless_vectors:
            assert mine.tobytes() == theirs.tobytes()
        else:
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def exact_scores(stored: FloatArray, query: FloatArray, metric: Metric) -> np.ndarray[Any, Any]:
    """Scores of one query in float64, shape (len(stored),)."""
    matrix, wanted = stored.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((matrix - wanted) ** 2).sum(axis=1))
    dots = matrix @ wanted
    if metric is Metric.DOT:
        return np.asarray(dots)
    return np.asarray(dots / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)))


def exact_top(
    stored: FloatArray, query: FloatArray, metric: Metric, k: int, rows: Iterable[int]
) -> list[int]:
    """Numbers of the k best of the given rows, best first."""
    among = np.fromiter(rows, np.int64)
    scores = exact_scores(stored[among], query, metric)
    order = np.argsort(-scores if metric.higher_is_better else scores, kind="stable")
    return [int(each) for each in among[order[:k]]]


def assert_best_first(hits: Hits, metric: Metric) -> None:
    """Scores never get better down the list."""
    steps = np.diff(hits.scores)
    assert (steps <= 0).all() if metric.higher_is_better else (steps >= 0).all()


def assert_same_scores(actual: ArrayLike, expected: ArrayLike) -> None:
    """|error| <= 1e-4 * max(1, |score|), the contract for an index that is not quantised."""
    wanted = np.asarray(expected, np.float64)
    error = np.abs(np.asarray(actual, np.float64) - wanted)
    assert (error <= 1e-4 * np.maximum(1, np.abs(wanted))).all(), (actual, expected)


def raw_batch(spec: CollectionSpec, **columns: Any) -> pa.RecordBatch:
    """A batch that nobody checked: Arrow arrays as they are, lists converted as Arrow likes."""
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray):
            values = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        arrays[name] = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.RecordBatch.from_pydict(arrays)


def run_elsewhere(code: str, case: StoreCase, **values: Any) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process; it finds ``values`` and the case's ``options`` as variables."""
    preamble = "import json, sys; globals().update(json.load(sys.stdin))\nimport vecbridge as vb\n"
    return subprocess.run(
        [sys.executable, "-c", preamble + code],
        input=json.dumps(values | {"options": dict(case.options)}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
