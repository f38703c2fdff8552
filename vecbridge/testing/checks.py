"""What the tests of the suite share: sample data and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from numpy.typing import ArrayLike

from vecbridge import records
from vecbridge.capabilities import Capabilities
from vecbridge.filters import AnyFilter
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray, Hits, Include, Query
from vecbridge.schema import CollectionSpec, FieldType, Metric
from vecbridge.store import Collection
from vecbridge.testing.cases import StoreCase

FIELDS: Final[dict[str, FieldType]] = {
    "flag": "bool",
    "year": "int64",
    "price": "float64",
    "title": "string",
    "taken": "timestamp",
    "tags": "list<string>",
    "sizes": "list<int64>",
    "ratios": "list<float64>",
    "extra": "json",
}
ARROW_TYPES: Final[dict[FieldType, pa.DataType]] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
    "list<int64>": pa.list_(pa.int64()),
    "list<float64>": pa.list_(pa.float64()),
    "json": pa.string(),
}
INDEXES: Final[dict[str, IndexParams]] = {
    "auto": Auto(),
    "flat": Flat(),
    "ivf_flat": IVFFlat(nlist=16),
    "ivf_sq8": IVFSQ8(nlist=16),
    "ivf_pq": IVFPQ(nlist=16, m=8, nbits=4),
    "hnsw": HNSW(m=16, ef_construction=100),
    "scann": SCANN(nlist=16),
    "diskann": DISKANN(),
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
    write(collection, **columns)
    collection.flush()


def write(collection: Collection, **columns: Any) -> None:
    """Writes columns, and does not flush; vectors are drawn if none are given."""
    rows = len(columns["id"])
    for each in collection.spec.vectors:
        columns.setdefault(each.name, points(rows, each.dim, seed=rows))
    report = collection.upsert(records.batch(collection.spec, **columns))
    assert (report.written, report.failed) == (rows, 0)


def read(
    collection: Collection, include: Include = "all", filter: AnyFilter | None = None
) -> dict[str | int, dict[str, Any]]:
    """Everything that a scan finds, by id; each id once."""
    found: dict[str | int, dict[str, Any]] = {}
    for page in collection.scan(include=include, filter=filter):
        for record in page.batch.to_pylist():
            assert record["id"] not in found
            found[record["id"]] = record
    return found


def ids_of(collection: Collection, filter: AnyFilter | None = None) -> set[str | int]:
    """The ids that a scan finds."""
    return set(read(collection, [], filter))


def assert_same_batch(
    actual: pa.RecordBatch, expected: Sequence[Mapping[str, Any]], collection: Collection
) -> None:
    """Every column of the collection, and in them the same records in the same order."""
    spec = collection.spec
    item = pa.field("item", pa.float32(), nullable=False)
    types = {each.name: pa.list_(item, each.dim) for each in spec.vectors}
    types |= {each.name: ARROW_TYPES[each.type] for each in spec.fields}
    assert actual.schema.names == ["id", *types]
    assert actual.schema.field("id").type == ARROW_TYPES[spec.id_type]
    for name, type in types.items():
        assert actual.schema.field(name).type == type, name
    assert_same_records(actual.to_pylist(), expected, collection)


def assert_same_records(
    actual: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]], collection: Collection
) -> None:
    """The same records in the same order: scalars exactly, vectors bit by bit where the store promises it."""
    for name in collection.spec.column_names:
        mine, theirs = [record[name] for record in actual], [record[name] for record in expected]
        if all(name != each.name for each in collection.spec.vectors):
            shown = [repr([_in_utc(value) for value in values]) for values in (mine, theirs)]
            assert shown[0] == shown[1], name  # == holds True and 1, 0.0 and -0.0 for the same
            continue
        for one, other in zip(mine, theirs, strict=True):
            if collection.capabilities.lossless_vectors:
                assert np.array(one, np.float32).tobytes() == np.array(other, np.float32).tobytes()
            else:
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def _in_utc(value: Any) -> Any:
    """A time with Python's own UTC, which has other names too; any other value as it is."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def assert_deleted(collection: Collection, answer: int | None, rows: int) -> None:
    """What ``delete`` said: how many rows there were, or None where the capabilities do not promise that.

    Args:
        collection: It was deleted from.
        answer: What ``delete`` returned.
        rows: How many of those asked for there were.
    """
    if collection.capabilities.counts_deletes:
        assert answer == rows
    else:  # what needs no request, such as no ids, is 0 everywhere
        assert answer is None or answer == rows == 0


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
