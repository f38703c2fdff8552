"""Filters as Arrow kernels over the columns of a batch."""

from __future__ import annotations

from functools import reduce
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or, Scalar

_KERNELS: Final = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def mask(filter: Filter, batch: pa.RecordBatch) -> pa.BooleanArray:
    """Which rows match, without nulls; strings compare as bytes of UTF-8, which is the order of code points.

    Args:
        filter: Normalized.
        batch: Rows in canonical form, with the columns that the filter is on.
    """
    match filter:
        case And(items):
            return _combined(pc.and_, items, batch, empty=True)
        case Or(items):
            return _combined(pc.or_, items, batch, empty=False)
        case IsNull(name):
            return pc.is_null(batch.column(name))
        case Not(IsNull(name)):
            return pc.is_valid(batch.column(name))
        case Cmp(name, op, value):
            column = batch.column(name)
            return pc.fill_null(_KERNELS[op](column, pa.scalar(value, column.type)), False)
        case In(name, values):
            return _is_in(batch.column(name), values)
        case Not(In(name, values)):
            column = batch.column(name)
            return pc.and_not(pc.is_valid(column), _is_in(column, values))
        case IsEmpty(name):
            return pc.fill_null(pc.equal(pc.list_value_length(batch.column(name)), 0), False)
        case Not(IsEmpty(name)):
            return pc.fill_null(pc.greater(pc.list_value_length(batch.column(name)), 0), False)
        case Contains(name, value):
            return _contains(batch.column(name), value)
        case Not(Contains(name, value)):
            column = batch.column(name)
            return pc.and_not(pc.is_valid(column), _contains(column, value))
        case _:
            raise UnsupportedError("snapshot", f"the filter {filter!r}")


def _combined(
    kernel: pc.Function, items: tuple[Filter, ...], batch: pa.RecordBatch, *, empty: bool
) -> pa.BooleanArray:
    if not items:
        return pa.array(np.full(batch.num_rows, empty))
    return reduce(kernel, (mask(item, batch) for item in items))


def _is_in(column: pa.Array, values: tuple[Scalar, ...]) -> pa.BooleanArray:
    return pc.is_in(column, value_set=pa.array(values, column.type), skip_nulls=True)


def _contains(column: pa.ListArray, value: Scalar) -> pa.BooleanArray:
    elements = column.flatten()
    equal = records.booleans(pc.equal(elements, pa.scalar(value, elements.type)))
    parents = records.numbers(pc.list_parent_indices(column))
    containing = np.zeros(len(column), np.bool_)
    containing[parents[equal]] = True
    return pa.array(containing)
