"""Filters as Arrow kernels over columns in memory."""

from __future__ import annotations

from functools import reduce
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or, Scalar

_FEW: Final = 4  # values up to which comparisons beat a hash table
_KERNELS: Final = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


class Columns(Protocol):
    """Some rows, by column.

    Attributes:
        rows: How many.
    """

    rows: int

    def column(self, name: str) -> pa.Array:
        """One column, in canonical form."""

    def contains(self, name: str, value: Scalar) -> pa.BooleanArray:
        """Which lists of a column hold a value; false or null where there is no list."""


def matching(filter: Filter, columns: Columns, backend: str) -> pa.BooleanArray:
    """Which rows match, without nulls; strings compare as bytes of UTF-8, which is the order of code points.

    Args:
        filter: Normalized.
        columns: The rows, with the columns that the filter is on.
        backend: For the message.

    Raises:
        UnsupportedError: A filter of a kind that is not known here.
    """
    match filter:
        case And(items):
            return _combined(pc.and_, items, columns, backend, empty=True)
        case Or(items):
            return _combined(pc.or_, items, columns, backend, empty=False)
        case IsNull(name):
            return pc.is_null(columns.column(name))
        case Not(IsNull(name)):
            return pc.is_valid(columns.column(name))
        case Cmp(name, op, value):
            column = columns.column(name)
            return pc.fill_null(_KERNELS[op](column, pa.scalar(value, column.type)), False)
        case In(name, values):
            return _is_in(columns.column(name), values)
        case Not(In(name, values)):
            column = columns.column(name)
            return pc.and_not(pc.is_valid(column), _is_in(column, values))
        case IsEmpty(name):
            return pc.fill_null(pc.equal(pc.list_value_length(columns.column(name)), 0), False)
        case Not(IsEmpty(name)):
            return pc.fill_null(pc.greater(pc.list_value_length(columns.column(name)), 0), False)
        case Contains(name, value):
            return pc.fill_null(columns.contains(name, value), False)
        case Not(Contains(name, value)):
            containing = pc.fill_null(columns.contains(name, value), False)
            return pc.and_not(pc.is_valid(columns.column(name)), containing)
        case _:
            raise UnsupportedError(backend, f"the filter {filter}")


def _combined(
    kernel: pc.Function, items: tuple[Filter, ...], columns: Columns, backend: str, *, empty: bool
) -> pa.BooleanArray:
    if not items:
        return pa.array(np.full(columns.rows, empty))
    return reduce(kernel, (matching(item, columns, backend) for item in items))


def _is_in(column: pa.Array, values: tuple[Scalar, ...]) -> pa.BooleanArray:
    if 0 < len(values) <= _FEW:
        equal = (pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False) for value in values)
        return reduce(pc.or_, equal)
    return pc.is_in(column, value_set=pa.array(values, column.type), skip_nulls=True)
