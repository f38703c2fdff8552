"""Batches as Arrow holds them: types, views, ids, and cutting by rows and by bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.errors import SchemaError, suggestion
from vecbridge.query import FloatArray
from vecbridge.schema import (
    CollectionSpec,
    FieldType,
)
from vecbridge.texts import shown

_ARROW: Final[dict[FieldType, pa.DataType]] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.field("item", pa.string())),
    "list<int64>": pa.list_(pa.field("item", pa.int64())),
    "list<float64>": pa.list_(pa.field("item", pa.float64())),
    "json": pa.string(),
}


def arrow_type(type: FieldType) -> pa.DataType:
    """The Arrow type of a scalar field."""
    return _ARROW[type]


def arrow_vector_type(dim: int) -> pa.DataType:
    """The Arrow type of a vector column."""
    return pa.list_(pa.field("item", pa.float32(), nullable=False), dim)


def arrow_schema(spec: CollectionSpec, include: Sequence[str] | None = None) -> pa.Schema:
    """The Arrow schema of a batch: ``id``, then the included columns in canonical order.

    Args:
        spec: The collection's spec.
        include: Column names; None is all of them.

    Raises:
        SchemaError: A name that the spec does not have.
    """
    columns = [pa.field("id", pa.string() if spec.id_type == "string" else pa.int64(), nullable=False)]
    for vector in spec.vectors:
        item = pa.field("item", pa.float32(), nullable=False)
        columns.append(pa.field(vector.name, pa.list_(item, vector.dim), nullable=False))
    columns += [pa.field(field.name, _ARROW[field.type]) for field in spec.fields]
    if include is None:
        return pa.schema(columns)
    for name in include:
        if name not in spec.column_names:
            raise SchemaError(
                f"include: {spec.name!r} has no column {name!r}{suggestion(name, spec.column_names)}"
            )
    wanted = {"id", *include}
    return pa.schema([column for column in columns if column.name in wanted])


def vectors(batch: pa.RecordBatch, name: str = "vector") -> FloatArray:
    """The vectors of a batch as a view.

    Args:
        batch: A batch, sliced or not.
        name: The vector column.

    Returns:
        float32, shape (n, dim), sharing memory with the batch; read-only.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> batch = vb.batch(spec, id=["a", "b"], vector=[[1, 0], [0, 1]])
        >>> vb.vectors(batch).shape, vb.vectors(batch.slice(1))[0].tolist()
        ((2, 2), [0.0, 1.0])
    """
    column = batch.column(name)
    # flatten() honours the offset of a slice; .values does not
    view: FloatArray = numbers(column.flatten()).reshape(len(column), column.type.list_size)
    return view


def numbers(array: pa.Array) -> np.ndarray[Any, Any]:
    """Numbers without nulls as a read-only NumPy view.

    Arrow's own ``to_numpy`` imports pandas wherever that is installed: up to a second, once.
    """
    view: np.ndarray[Any, Any] = np.from_dlpack(array)
    return view


def number_array(values: np.ndarray[Any, Any]) -> pa.Array:
    """The inverse of :func:`numbers`: int64 or float32 as an Arrow array, without a copy if contiguous.

    Arrow's own ``pa.array`` imports pandas, too.
    """
    type = pa.float32() if values.dtype == np.float32 else pa.int64()
    flat = np.ascontiguousarray(values, np.float32 if values.dtype == np.float32 else np.int64)
    return pa.Array.from_buffers(type, len(flat), [None, pa.py_buffer(flat)])


def booleans(array: pa.BooleanArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Booleans without nulls, one byte each, ten times as fast as by ``to_numpy``."""
    bits = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    start, stop = array.offset, array.offset + len(array)
    unpacked = np.unpackbits(bits[start // 8 : (stop + 7) // 8], bitorder="little")
    return unpacked[start % 8 : start % 8 + len(array)].view(np.bool_)


def vector_array(values: FloatArray) -> pa.FixedSizeListArray:
    """float32 vectors of shape (n, dim) as an Arrow column, without a copy where they are contiguous."""
    flat = number_array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    item = pa.field("item", pa.float32(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, values.shape[1]))


def python_ids(ids: pa.Array) -> list[str] | np.ndarray[Any, np.dtype[np.int64]]:
    """An id column as Hits carries it: list of str, or int64 array."""
    if pa.types.is_integer(ids.type):
        return numbers(ids)
    texts: list[str] = ids.to_pylist()
    return texts


def id_array(spec: CollectionSpec, ids: Iterable[str | int]) -> pa.Array:
    """Ids that a caller typed, repeats collapsed, as an Arrow array in the order given.

    Raises:
        SchemaError: An id of another type than the collection's.
    """
    if isinstance(ids, str | bytes):
        raise SchemaError(f"ids={shown(ids)}: a list of ids")
    values = ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else list(ids)
    wanted = str if spec.id_type == "string" else (int, np.integer)
    for value in values:
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise SchemaError(f"id {shown(value)}: {spec.name!r} has {spec.id_type} ids")
    try:
        return pa.array(list(dict.fromkeys(values)), pa.string() if spec.id_type == "string" else pa.int64())
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError) as exc:
        raise SchemaError(f"ids: {exc}") from exc


def split(batch: pa.RecordBatch, *, max_rows: int, max_bytes: int | None = None) -> Iterator[pa.RecordBatch]:
    """Cuts a batch by rows and by bytes, without copying.

    Args:
        batch: Any batch.
        max_rows: Rows a part, at most.
        max_bytes: Bytes a part, at most, as Arrow holds them; one row larger than that stands alone.

    Yields:
        Slices, in order, none of them empty.
    """
    for rows in ranges(batch, max_rows=max_rows, max_bytes=max_bytes):
        yield batch.slice(rows.start, len(rows))


def ranges(batch: pa.RecordBatch, *, max_rows: int, max_bytes: int | None = None) -> Iterator[range]:
    """The rows of each part that :func:`split` cuts."""
    if max_bytes is None or batch.nbytes <= max_bytes:
        for start in range(0, batch.num_rows, max_rows):
            yield range(start, min(start + max_rows, batch.num_rows))
        return
    ends = np.cumsum(row_bytes(batch))
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        end = int(np.searchsorted(ends, before + max_bytes, side="right"))
        end = min(max(end, start + 1), start + max_rows, batch.num_rows)
        yield range(start, end)
        start = end


def row_bytes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each row as Arrow holds them; int64, shape (n,)."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        type = column.type
        if pa.types.is_fixed_size_list(type):
            sizes += type.list_size * type.value_type.bit_width // 8
        elif pa.types.is_list(type):
            lengths = numbers(pc.fill_null(pc.list_value_length(column), 0))
            if pa.types.is_primitive(type.value_type):
                sizes += 8 * lengths + 4
                continue
            texts = numbers(pc.fill_null(pc.binary_length(column.flatten()), 0))
            totals = np.concatenate([[0], np.cumsum(texts)])
            ends = np.cumsum(lengths)
            sizes += totals[ends] - totals[ends - lengths] + 4 * lengths + 4
        elif pa.types.is_string(type) or pa.types.is_binary(type):
            sizes += numbers(pc.fill_null(pc.binary_length(column), 0)) + 4
        else:
            sizes += 8
    return sizes
