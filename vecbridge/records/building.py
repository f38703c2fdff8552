"""Batches from Python columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import timestamps
from vecbridge.errors import InvalidRecordError
from vecbridge.records.arrow import arrow_schema, vector_array
from vecbridge.records.checking import cast_column, check, invalid, require_known, whole_batch
from vecbridge.records.jsontext import encode_json
from vecbridge.schema import (
    CollectionSpec,
    VectorField,
)
from vecbridge.texts import shown

_CONVERSION_ERRORS: Final = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    TypeError,
    ValueError,
)


def batch(spec: CollectionSpec, /, **columns: Any) -> pa.RecordBatch:
    """Builds a batch from columns and checks it.

    Args:
        spec: The collection's spec.
        **columns: ``id`` and every vector column are needed; a scalar column left out is null. Vectors are
            arrays of shape (n, dim); the others are lists, NumPy arrays or Arrow arrays. In a json column
            a str is JSON text, None is null, and anything else is encoded.

    Returns:
        A batch of n rows in canonical form.

    Raises:
        InvalidRecordError: Names each row at fault; a column that does not fit names them all.

    Example:
        >>> spec = CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
        >>> batch(spec, id=["a", "b"], vector=[[1, 0], [0, 1]], year=[2020, None]).num_rows
        2
    """
    if "id" not in columns:
        raise InvalidRecordError("column 'id' is missing", [])
    columns = {name: _sized(name, values) for name, values in columns.items()}
    ids = columns["id"]
    require_known(spec, columns, len(ids))
    types = {column.name: column.type for column in arrow_schema(spec)}
    vectors = {field.name for field in spec.vectors}
    jsons = {field.name for field in spec.fields if field.type == "json"}
    arrays = {}
    for name, values in columns.items():
        if name in vectors:
            arrays[name] = _vector_column(spec.vector_field(name), values, len(ids))
        else:
            if name in jsons and not isinstance(values, pa.Array | pa.ChunkedArray):
                values = _json_texts(name, values, ids)
            arrays[name] = _scalar_column(name, values, types[name], ids)
        if len(arrays[name]) != len(ids):
            problem = f"column {name!r} has {len(arrays[name])} rows, and 'id' {len(ids)}"
            raise whole_batch(problem, len(ids))
    return check(pa.RecordBatch.from_pydict(arrays), spec)


def _sized(name: str, values: Any) -> Any:
    """A column that can be counted and read twice."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidRecordError(
            f"column {name!r} is {shown(values)}: a list or an array, one value a row", []
        )
    return values if hasattr(values, "__len__") else list(values)


def _vector_column(field: VectorField, values: Any, rows: int) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(values, list) and any(value is None for value in values):
        return pa.array(values, pa.list_(pa.float32()))  # check() names the rows that have none
    try:
        with np.errstate(over="ignore"):  # an overflow becomes Inf, and check() names its row
            array = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise whole_batch(f"vector {field.name!r}: {exc}", rows) from exc
    if array.shape == (0,) and rows == 0:
        array = array.reshape(0, field.dim)
    if array.ndim != 2 or array.shape[1] != field.dim:
        raise whole_batch(f"vector {field.name!r} has shape {array.shape}, not ({rows}, {field.dim})", rows)
    return vector_array(array)


def _scalar_column(name: str, values: Any, wanted: pa.DataType, ids: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    try:
        if isinstance(values, np.ndarray) and values.dtype != object:
            array = pa.array(values)  # check() looks at timestamps, whose time zone and unit may be wrong
            return array if pa.types.is_timestamp(wanted) else cast_column(name, array, wanted, len(ids))
        return _arrow(values, wanted)
    except _CONVERSION_ERRORS as exc:
        raise _column_error(name, values, wanted, ids, exc) from exc


def _arrow(values: Iterable[Any], wanted: pa.DataType) -> pa.Array:
    _refuse_coercion(values, wanted)
    if pa.types.is_timestamp(wanted):
        values = [None if value is None else timestamps.utc(value) for value in values]
    return pa.array(values, wanted)


def _refuse_coercion(values: Iterable[Any], wanted: pa.DataType) -> None:
    """Arrow takes True for 1, b"a" for "a" and an inexact int for a float; the contract does not."""
    for value in values:
        if isinstance(value, bool | np.bool_) and not pa.types.is_boolean(wanted):
            raise TypeError(f"{value!r} is a bool")
        if isinstance(value, bytes):
            raise TypeError(f"{value!r} is bytes, not str")
        if pa.types.is_string(wanted) and isinstance(value, int | float | np.number):
            raise TypeError(f"{value!r} is a number, not str")
        if pa.types.is_list(wanted) and value is not None:
            if isinstance(value, str):
                raise TypeError(f"{value!r} is a str, not a list of them")
            _refuse_coercion(value, wanted.value_type)
        if pa.types.is_float64(wanted) and isinstance(value, int) and int(float(value)) != value:
            raise TypeError(f"{value!r} has no exact float64")
        if pa.types.is_int64(wanted) and isinstance(value, float | np.floating):
            raise TypeError(f"{value!r} is a float")


def _column_error(
    name: str, values: Any, wanted: pa.DataType, ids: Any, exc: Exception
) -> InvalidRecordError:
    """Finds the rows of a Python column that Arrow cannot take."""
    problems: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            _arrow([value], wanted)
        except _CONVERSION_ERRORS as problem:
            problems[row] = f"column {name!r} is {wanted}: {problem}"
    if not problems:
        return whole_batch(f"column {name!r}: {exc}", len(values))
    return invalid(problems, None if name == "id" else ids)


def _json_texts(name: str, values: Iterable[Any], ids: Any) -> list[str | None]:
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    for row, value in enumerate(values):
        if value is None or isinstance(value, str):
            texts.append(value)
            continue
        try:
            texts.append(encode_json(value))
        except (TypeError, ValueError, RecursionError) as exc:
            problems[row] = f"field {name!r} is no JSON: {exc}"
    if problems:
        raise invalid(problems, ids)
    return texts
