"""Which fields a source has that its collection lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.schema import FieldType
from vecbridge.sources.inference import Observed, arrow_field_type


def arrow_types(batch: pa.RecordBatch, names: Iterable[str]) -> dict[str, FieldType]:
    """The types of columns by their Arrow types, as far as they hold a value.

    Args:
        batch: A batch of the source.
        names: Which columns.
    """
    found: dict[str, FieldType] = {}
    for name in names:
        column = batch.column(name)
        if column.null_count < len(column):
            # a timestamp without a time zone stays one, so that its rows are refused for that
            as_time: FieldType | None = "timestamp" if pa.types.is_timestamp(column.type) else None
            found[name] = arrow_field_type(column.type) or as_time or "json"
    return found


def value_types(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, FieldType]:
    """The types of columns by their Python values, as far as there are any; json where they are mixed."""
    found: dict[str, FieldType] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        if values:
            found[name] = _value_type(values)
    return found


def _value_type(values: Sequence[Any]) -> FieldType:
    if all(isinstance(value, datetime) and value.tzinfo is not None for value in values):
        return "timestamp"
    observed = Observed()
    for value in values:
        observed.add(value.item() if isinstance(value, np.generic) else value)
    return observed.type
