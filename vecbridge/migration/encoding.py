"""Rows as bytes, such that two rows have the same bytes exactly if they hold the same.

The bytes of a row are a head of fixed width and, behind it, whatever has no fixed width::

    head                                                tail
    signature │ vector, there │ number, there │ length  text │ list
        8       4 · dim   1       8       1       8     ............ in the order of the names of the columns

The signature is a digest of the names and types of the columns. The length of a text or a list stands in the
head, and is -1 for null, so that null, "" and [] differ and no two rows run into each other. Everything is
done a column at a time: the head is a NumPy record, and Arrow joins head and tail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records

Offsets: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_BLOCK: Final = 1 << 20  # bytes that are encoded at a time: they stay in the processor's cache


def encoded(batch: pa.RecordBatch) -> Iterator[tuple[memoryview, list[int]]]:
    """The rows of a batch as bytes, some at a time; the id is left out.

    Args:
        batch: Rows of any collection; text and JSON are taken as they stand.

    Yields:
        Bytes, and where each row starts, and where the last one ends; valid until the next ones.
    """
    batch = batch.select(sorted(name for name in batch.schema.names if name != "id"))
    values, tail = _columns(batch)
    width = max(1, batch.nbytes // max(batch.num_rows, 1))
    rows = max(1, min(batch.num_rows, _BLOCK // width))
    heads = np.zeros(rows, _head(batch.schema))  # once, since new memory costs more than what is done with it
    heads["signature"] = _signature(batch.schema)
    for start in range(0, batch.num_rows, rows):
        head = heads[: batch.num_rows - start]
        for name, numbers in values.items():
            np.add(numbers[start : start + rows], 0, out=head[name], casting="unsafe")  # -0.0 becomes 0.0
        joined = _large_binary(head, np.arange(len(head) + 1) * head.itemsize)
        if tail:
            joined = pc.binary_join_element_wise(joined, *(each.slice(start, rows) for each in tail), _EMPTY)
        data, offsets = _text(joined)
        yield memoryview(data), offsets.tolist()


def id_bytes(ids: pa.Array) -> tuple[memoryview, list[int]]:
    """Ids as bytes: the UTF-8 of text, or eight bytes a number; and where each one starts and ends."""
    if pa.types.is_integer(ids.type):
        numbers = records.numbers(ids.cast(pa.int64())).astype("<i8")
        return memoryview(numbers.tobytes()), list(range(0, 8 * len(ids) + 1, 8))
    data, offsets = _text(ids.cast(pa.large_string()))
    return memoryview(data), offsets.tolist()


def _signature(schema: pa.Schema) -> Array:
    """A digest of names and types; uint64, shape (1,)."""
    text = "".join(f"{name}\0{_kind(type)}\0" for name, type in zip(schema.names, schema.types, strict=True))
    return np.frombuffer(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "<u8"
    )


def _kind(type: pa.DataType) -> str:
    """A type by what it holds, however Arrow lays it out."""
    if pa.types.is_fixed_size_list(type):
        return f"vector of {type.list_size}"
    if _is_list(type):
        return f"list of {_kind(type.value_type)}"
    return "string" if _is_text(type) else str(type)


def _is_list(type: pa.DataType) -> bool:
    return bool(pa.types.is_list(type) or pa.types.is_large_list(type))


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type))


def _head(schema: pa.Schema) -> np.dtype[np.void]:
    """The fixed part of a row; the columns are numbered, since NumPy does not take every name."""
    fields: list[Any] = [("signature", "<u8")]
    for number, type in enumerate(schema.types):
        if pa.types.is_fixed_size_list(type):
            fields += [(f"value{number}", "<f4", (type.list_size,)), (f"there{number}", "u1")]
        elif _is_list(type) or _is_text(type):
            fields += [(f"length{number}", "<i8")]
        else:
            fields += [(f"value{number}", _number_type(type)), (f"there{number}", "u1")]
    return np.dtype(fields, align=True)


def _number_type(type: pa.DataType) -> str:
    return "<f8" if pa.types.is_floating(type) else "<i8"


def _columns(batch: pa.RecordBatch) -> tuple[dict[str, Array], list[pa.Array]]:
    """What stands in the head, by the names of :func:`_head`, and the columns of the tail."""
    head: dict[str, Array] = {}
    tail: list[pa.Array] = []
    for number, column in enumerate(batch.columns):
        type = column.type
        if _is_list(type):
            head[f"length{number}"] = lengths = _lengths(column, pc.list_value_length)
            tail.append(_list_bytes(column, lengths))
        elif _is_text(type):
            head[f"length{number}"] = _lengths(column, pc.binary_length)
            tail.append(_text_bytes(column))
        else:
            is_vector = pa.types.is_fixed_size_list(type)
            head[f"value{number}"] = _vectors(column) if is_vector else _numbers(column)
            head[f"there{number}"] = _there(column)
    return head, tail


def _vectors(column: pa.Array) -> Array:
    """float32, shape (n, dim); zeros for null, which a foreign source may have."""
    if column.null_count:
        column = column.fill_null(pa.scalar([0.0] * column.type.list_size, column.type))
    return records.numbers(column.flatten()).reshape(len(column), column.type.list_size)


def _numbers(column: pa.Array) -> Array:
    """int64 or float64, shape (n,); 0 for null."""
    if pa.types.is_boolean(column.type):
        return records.booleans(_filled(column, False))
    type = pa.float64() if pa.types.is_floating(column.type) else pa.int64()
    return records.numbers(_filled(_cast(column, type), 0))


def _list_bytes(column: pa.Array, lengths: Offsets) -> pa.Array:
    """The elements of each list; large_binary without nulls."""
    ends = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0))])
    elements = column.flatten()  # of this slice, and nothing that lies below a null
    if _is_text(elements.type):
        sizes = _lengths(elements, pc.binary_length)
        first = _large_binary(sizes, np.arange(len(sizes) + 1) * sizes.itemsize)
        data, starts = _text(pc.binary_join_element_wise(first, _text_bytes(elements), _EMPTY))
        return _large_binary(data, starts[ends])
    numbers = np.zeros(len(elements), [("value", _number_type(elements.type)), ("there", "u1")])
    numbers["value"] = _numbers(elements)
    numbers["value"] += 0  # -0.0 becomes 0.0
    numbers["there"] = _there(elements)
    return _large_binary(numbers, ends * numbers.itemsize)


def _text_bytes(column: pa.Array) -> pa.Array:
    """The UTF-8 of text, b"" for null; large_binary."""
    return _filled(column, "").cast(pa.large_binary())


def _lengths(column: pa.Array, length: Any) -> Offsets:
    """The length of each value; -1 for null."""
    lengths: Offsets = records.numbers(_filled(length(column), -1)).astype(np.int64)
    return lengths


def _there(column: pa.Array) -> Array:
    """1 where there is a value, 0 for null; uint8, shape (n,)."""
    if not column.null_count:
        return np.ones(len(column), np.uint8)
    return records.booleans(column.is_valid()).view(np.uint8)


def _filled(column: pa.Array, value: Any) -> pa.Array:
    """A column without nulls."""
    return column.fill_null(value) if column.null_count else column


def _cast(column: pa.Array, type: pa.DataType) -> pa.Array:
    return column if column.type == type else column.cast(type)


def _large_binary(data: Any, offsets: Offsets) -> pa.Array:
    """One value from each offset to the next."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _text(column: pa.Array) -> tuple[Any, Offsets]:
    """Data and offsets of a large_string or large_binary array without nulls."""
    offsets = np.frombuffer(column.buffers()[1] or b"\0" * 8, np.int64)
    return column.buffers()[2] or b"", offsets[column.offset : column.offset + len(column) + 1]


_EMPTY: Final = pa.scalar(b"", pa.large_binary())
