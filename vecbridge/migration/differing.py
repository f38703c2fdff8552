"""Two rows that should be the same, field by field: what differs, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.migration.proof import Finding, shown
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec


def row_findings(
    source: pa.RecordBatch,
    target: pa.RecordBatch,
    spec: CollectionSpec,
    namespace: str,
    vector_owners: Mapping[bytes, str | int],
) -> Iterator[Finding]:
    """What differs between two rows, a finding a column; nothing if they hold the same.

    Args:
        source: One row, in the schema of the target.
        target: The row with its id.
        spec: Of the target.
        namespace: At the target.
        vector_owners: Ids of other rows of the source by their vectors, to recognise vectors that were
            swapped.
    """
    key = target.column("id")[0].as_py()
    for field in spec.vectors:
        mine, theirs = _vector(source, field.name), _vector(target, field.name)
        if mine is None or theirs is None:
            if mine is not theirs:
                side = "source" if mine is None else "target"
                yield Finding("vector", f"the {side} has none", namespace, key, field.name)
        elif (detail := _vector_difference(mine, theirs)) is not None:
            owner = vector_owners.get(theirs.tobytes())
            if owner is not None and owner != key:
                detail += f"; it is the vector of row {owner!r}"
            yield Finding("vector", detail, namespace, key, field.name, shown(mine), shown(theirs))
    for column in spec.fields:
        left, right = source.column(column.name)[0].as_py(), target.column(column.name)[0].as_py()
        if not _same(left, right):
            detail = _value_difference(left, right)
            yield Finding("value", detail, namespace, key, column.name, shown(left), shown(right))


def vector_bytes(batch: pa.RecordBatch, spec: CollectionSpec) -> Iterator[tuple[bytes, str | int]]:
    """Each vector of some rows as bytes, with the id of its row."""
    for field in spec.vectors:
        column = batch.column(field.name)
        if not column.null_count:
            for key, vector in zip(
                batch.column("id").to_pylist(), records.vectors(batch, field.name), strict=True
            ):
                yield (vector + np.float32(0)).tobytes(), key


def _vector(row: pa.RecordBatch, name: str) -> FloatArray | None:
    if row.column(name).null_count:
        return None
    vector: FloatArray = records.vectors(row, name)[0] + np.float32(0)  # -0.0 becomes 0.0
    return vector


def _vector_difference(left: FloatArray, right: FloatArray) -> str | None:
    """How two vectors differ; None if their bits are the same."""
    if left.shape != right.shape:
        return f"it has {len(right)} numbers, and {len(left)} at the source"
    places = np.flatnonzero(left.view(np.uint32) != right.view(np.uint32))
    if not len(places):
        return None
    gaps = np.abs(left[places].astype(np.float64) - right[places])
    return (
        f"{len(places):,} of {len(left):,} numbers differ, the first at position {places[0]}, "
        f"by {np.nanmax(gaps, initial=0):.3g} at most"
    )


def _value_difference(left: Any, right: Any) -> str:
    if right is None:
        return "the value is lost: it is null"
    if left is None:
        return "null became a value"
    return "another value"


def _same(left: Any, right: Any) -> bool:
    """Whether two values of a field are the same; 0 and False are not, nor are null and nothing."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and (left == right or (left != left and right != right))
