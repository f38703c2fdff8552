"""Which fields a source has that its collection lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.schema import FieldType
from vecbridge.sources.inference import Observed


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
            found[name] = _arrow_type(column.type)
    return found


def value_types(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, FieldType]:
    """The types of columns by their Python values, as far as there are any; json where they are mixed."""
    found: dict[str, FieldType] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        if values:
            found[name] = _value_type(values)
    return found


def _arrow_type(type: pa.DataType) -> FieldType:
    if pa.types.is_dictionary(type):
        type = type.value_type
    if pa.types.is_timestamp(type):
        return "timestamp"
    if pa.types.is_boolean(type):
        return "bool"
    if pa.types.is_integer(type):
        return "int64"
    if pa.types.is_floating(type):
        return "float64"
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return "string"
    if pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_list_view(type):
        inner = _arrow_type(type.value_type)
        lists: dict[FieldType, FieldType] = {
            "string": "list<string>", "int64": "list<int64>", "float64": "list<float64>",
        }  # fmt: skip
        return lists.get(inner, "json")
    return "json"


def _value_type(values: Sequence[Any]) -> FieldType:
    if all(isinstance(value, datetime) and value.tzinfo is not None for value in values):
        return "timestamp"
    if all(isinstance(value, list) for value in values) and any(values):
        elements = {type(element) for value in values for element in value}
        if elements <= {int, float}:
            return "list<int64>" if elements == {int} else "list<float64>"
    observed = Observed()
    for value in values:
        observed.add(value.item() if isinstance(value, np.generic) else value)
    return observed.type
