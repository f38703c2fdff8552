"""Arrow to metadata and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from vecbridge import records
from vecbridge.query import Unfit
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import integers, scalars
from vecbridge.stores.pinecone.layout import Layout
from vecbridge.stores.pinecone.limits import ID_BYTES, METADATA_BYTES
from vecbridge.stores.pinecone.planes import Payloads, Row


def payloads(layout: Layout, batch: pa.RecordBatch) -> Payloads:
    """The ids and the metadata of a checked batch, row by row."""
    keys = [layout.key(id) for id in batch.column("id").to_pylist()]
    rows: list[dict[str, Any]] = [{} for _ in keys]
    if layout.id_key:
        rows = [{layout.id_key: key} for key in keys]
    if layout.extra is not None:
        for row, text in zip(rows, batch.column(layout.extra).to_pylist(), strict=True):
            row.update(_object(text) or {})
    for column in layout.columns.values():
        for name, values in scalars.keyed(column, batch.column(column.name)).items():
            for row, value in zip(rows, values, strict=True):
                if value is not None:
                    row[name] = value
    return Payloads(keys, rows, [orjson.dumps(row) if row else b"" for row in rows])


def problems(layout: Layout, batch: pa.RecordBatch, payloads: Payloads) -> dict[int, str]:
    """By row, why the service would refuse a record of a checked batch.

    Args:
        layout: Where columns are.
        batch: The records.
        payloads: Their ids and metadata, whose size the service limits as JSON, on either transport.
    """
    refused = {
        row: f"its fields take {len(text):,} bytes as JSON, and Pinecone keeps {METADATA_BYTES:,}"
        for row, text in enumerate(payloads.texts)
        if len(text) > METADATA_BYTES
    }
    for row, key in enumerate(payloads.keys):
        if len(key) > ID_BYTES:
            refused[row] = f"its id takes {len(key)} bytes of ASCII, and Pinecone's have {ID_BYTES}"
        elif not key.isascii():
            refused[row] = "the index was made elsewhere, and Pinecone's ids are ASCII"
    return refused if layout.extra is None else refused | _bad_extras(layout, batch)


def is_key(key: str) -> bool:
    """Whether a record can have that id."""
    return 0 < len(key) <= ID_BYTES and key.isascii()


def _bad_extras(layout: Layout, batch: pa.RecordBatch) -> dict[int, str]:
    """Rows of an index made elsewhere whose ``extra`` is not what other keys could hold."""
    refused: dict[int, str] = {}
    columns = [(column.key, batch.column(column.name)) for column in layout.columns.values()]
    for row, text in enumerate(batch.column(layout.extra).to_pylist()):
        value = _object(text)
        if value is None:
            refused[row] = f"{layout.extra!r} is no JSON object"
        elif bad := [key for key, item in value.items() if not key or key[0] == "$" or not _storable(item)]:
            refused[row] = f"{layout.extra!r}: Pinecone has no type for {bad[0]!r}"
        elif twice := [key for key, column in columns if key in value and column[row].is_valid]:
            refused[row] = f"{layout.extra!r} has {twice[0]!r}, which is a column"
    return refused


def _object(text: str | None) -> dict[str, Any] | None:
    """What ``extra`` holds: other keys and their values; None if it is no JSON object."""
    value = {} if text is None else json.loads(text)
    return value if isinstance(value, dict) else None


def _storable(value: Any) -> bool:
    match value:
        case str() | bool():
            return True
        case int():
            return abs(value) <= integers.EXACT
        case float():
            return math.isfinite(value)
        case list():
            return all(isinstance(item, str) for item in value)
    return False


def fitting(
    layout: Layout, spec: CollectionSpec, rows: Sequence[Row], include: Sequence[str] | None
) -> tuple[Sequence[Row], dict[str | int, Unfit]]:
    """The records that :func:`batch` can hold, and by id why it cannot hold the others."""
    name = spec.vector.name
    if include is not None and name not in include:
        return rows, {}
    reasons = records.unfit_lengths(name, [len(row.values) for row in rows], spec.vector.dim)
    if not reasons:
        return rows, {}
    fit = [row for place, row in enumerate(rows) if place not in reasons]
    return fit, {layout.id(rows[place].key): reason for place, reason in reasons.items()}


def batch(
    layout: Layout, spec: CollectionSpec, rows: Sequence[Row], include: Sequence[str] | None
) -> pa.RecordBatch:
    """Records of an answer.

    Raises:
        InvalidRecordError: A batch cannot hold some of them, which :func:`fitting` names.
    """
    if unfit := fitting(layout, spec, rows, include)[1]:
        raise records.unfit_rows(unfit)
    schema = records.arrow_schema(spec, include)
    arrays = []
    for name in schema.names:
        if name == "id":
            arrays.append(layout.id_array([row.key for row in rows]))
        elif name == spec.vector.name:
            arrays.append(_vectors(spec, rows))
        elif name == layout.extra:
            arrays.append(pa.array([_extra(layout, row.metadata) for row in rows], pa.string()))
        else:
            column = layout.columns[name]
            values = [scalars.taken(column, row.metadata) for row in rows]
            arrays.append(pa.array(values, schema.field(name).type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _vectors(spec: CollectionSpec, rows: Sequence[Row]) -> pa.Array:
    values = np.empty((len(rows), spec.vector.dim), np.float32)
    for place, row in enumerate(rows):
        values[place] = row.values
    return records.vector_array(values)


def _extra(layout: Layout, held: Mapping[str, Any]) -> str | None:
    taken = {column.key for column in layout.columns.values() if scalars.taken(column, held) is not None}
    # every number is a float64 at the service, and one transport may tell it as 1, the other as 1.0
    rest = {
        key: float(value) if type(value) is int else value for key, value in held.items() if key not in taken
    }
    return records.canonical_json(json.dumps(rest)) if rest else None
