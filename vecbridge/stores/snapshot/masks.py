"""Filters over the columns of a batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import kernels, records
from vecbridge.filters import Filter, Scalar


def mask(filter: Filter, batch: pa.RecordBatch) -> pa.BooleanArray:
    """Which rows match, without nulls.

    Args:
        filter: Normalized.
        batch: Rows in canonical form, with the columns that the filter is on.
    """
    return kernels.matching(filter, _Columns(batch), "snapshot")


class _Columns:
    """The columns of a batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self.rows: int = batch.num_rows

    def column(self, name: str) -> pa.Array:
        return self._batch.column(name)

    def contains(self, name: str, value: Scalar) -> pa.BooleanArray:
        column = self.column(name)
        elements = column.flatten()
        equal = records.booleans(pc.equal(elements, pa.scalar(value, elements.type)))
        parents = records.numbers(pc.list_parent_indices(column))
        containing = np.zeros(len(column), np.bool_)
        containing[parents[equal]] = True
        return pa.array(containing)
