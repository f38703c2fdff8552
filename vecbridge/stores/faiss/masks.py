"""Filters compiled to Arrow kernels over the columns in memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsNull, Not, Or
from vecbridge.stores.faiss.rows import Mask, Snapshot

_PIECE: Final = 1 << 17  # rows that one thread looks at
_FEW: Final = 4  # values up to which comparing with each beats a hash table

_KERNELS: Final = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def mask(filter: Filter, snapshot: Snapshot) -> Mask:
    """Which live rows match; bool (snapshot.total,).

    Args:
        filter: Normalized.
        snapshot: The rows.
    """
    found = np.empty(snapshot.total, np.bool_)

    def fill(start: int, piece: pa.RecordBatch) -> None:
        part = slice(start, start + piece.num_rows)
        matching = _compile(filter, piece).to_numpy(zero_copy_only=False)
        np.logical_and(matching, snapshot.live[part], out=found[part])

    pieces = [
        (start + low, chunk.slice(low, _PIECE))
        for start, chunk in zip(snapshot.starts, snapshot.chunks, strict=False)
        for low in range(0, chunk.num_rows, _PIECE)
    ]
    if snapshot.total <= _PIECE:
        for start, piece in pieces:
            fill(start, piece)
    else:  # Arrow lets go of the interpreter lock
        with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1)) as pool:
            for _ in pool.map(fill, *zip(*pieces, strict=True)):
                pass
    return found


def _compile(filter: Filter, chunk: pa.RecordBatch) -> pa.Array:
    """A boolean array without nulls; strings compare as bytes of UTF-8, which is the order of code points."""
    match filter:
        case And(items):
            return _combined(pc.and_, items, chunk, empty=True)
        case Or(items):
            return _combined(pc.or_, items, chunk, empty=False)
        case IsNull(name):
            return pc.is_null(chunk.column(name))
        case Not(IsNull(name)):
            return pc.is_valid(chunk.column(name))
        case Cmp(name, op, value):
            column = chunk.column(name)
            return pc.fill_null(_KERNELS[op](column, pa.scalar(value, column.type)), False)
        case In(name, values):
            return _is_in(chunk.column(name), values)
        case Not(In(name, values)):
            return pc.and_not(pc.is_valid(chunk.column(name)), _is_in(chunk.column(name), values))
        case Contains(name, value):
            return _contains(chunk.column(name), value)
        case Not(Contains(name, value)):
            return pc.and_not(pc.is_valid(chunk.column(name)), _contains(chunk.column(name), value))
        case _:
            raise UnsupportedError("faiss", f"the filter {filter!r}")


def _combined(
    kernel: pc.Function, items: tuple[Filter, ...], chunk: pa.RecordBatch, *, empty: bool
) -> pa.Array:
    if not items:
        return pa.array(np.full(chunk.num_rows, empty))
    return reduce(kernel, (_compile(each, chunk) for each in items))


def _is_in(column: pa.Array, values: tuple[bool | int | float | str, ...]) -> pa.Array:
    if 0 < len(values) <= _FEW:
        equal = (pc.fill_null(pc.equal(column, pa.scalar(each, column.type)), False) for each in values)
        return reduce(pc.or_, equal)
    return pc.is_in(column, value_set=pa.array(values, column.type), skip_nulls=True)


def _contains(column: pa.ListArray, value: str) -> pa.Array:
    offsets = column.offsets.to_numpy()  # of this slice, into all of column.values
    elements = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    places = np.flatnonzero(pc.equal(elements, value).to_numpy(zero_copy_only=False)) + offsets[0]
    found = np.zeros(len(column), np.bool_)
    found[np.searchsorted(offsets, places, side="right") - 1] = True
    return pc.and_(pa.array(found), pc.is_valid(column))
