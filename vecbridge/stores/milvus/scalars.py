"""Values of scalar columns as Milvus's messages hold them, and back.

In the dynamic field a value is what JSON has for it, and a timestamp is its microseconds since 1970: whole
numbers and doubles come back exactly from there, and are compared exactly. In a typed field of ours a
timestamp is INT64, the same number; in one of a collection made elsewhere it is ISO 8601 text (TIMESTAMPTZ).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
from pymilvus.grpc_gen import schema_pb2

from vecbridge import records, timestamps
from vecbridge.stores.milvus.layout import Column

DataType: Final = schema_pb2.DataType
_HOLDERS: Final[dict[int, str]] = {
    DataType.Bool: "bool_data",
    DataType.Int8: "int_data",
    DataType.Int16: "int_data",
    DataType.Int32: "int_data",
    DataType.Int64: "long_data",
    DataType.Float: "float_data",
    DataType.Double: "double_data",
    DataType.VarChar: "string_data",
    DataType.Timestamptz: "string_data",
}


def json_values(values: pa.Array) -> list[Any]:
    """The values of a column as the dynamic field holds them, None for null."""
    plain = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
    listed: list[Any] = plain.to_pylist()
    return listed


def of_json(values: Sequence[Any], column: Column) -> pa.Array:
    """The column whose values the dynamic field held."""
    return pa.array(values, records.arrow_type(column.type))


def keys_field(name: str, source: int, keys: Sequence[Any]) -> Any:
    """The field of the primary keys."""
    field = schema_pb2.FieldData(type=source, field_name=name)
    _holder(field.scalars, source).extend(keys)
    return field


def typed_field(column: Column, values: pa.Array) -> Any:
    """A typed field: the values that are not null, and which rows have one where it can be null."""
    field = schema_pb2.FieldData(type=column.source, field_name=column.key)
    if column.nullable:
        field.valid_data.extend(values.is_valid().to_pylist())
        values = values.drop_null()
    if pa.types.is_timestamp(values.type) and not column.has_zone:
        values = values.cast(pa.int64())
    listed = values.to_pylist()
    if column.source == DataType.JSON:
        field.scalars.json_data.data.extend(text.encode() for text in listed)
    elif column.source == DataType.Array:
        field.scalars.array_data.element_type = column.element
        for elements in listed:
            _holder(field.scalars.array_data.data.add(), column.element).extend(elements)
    elif column.has_zone:
        _holder(field.scalars, column.source).extend(map(timestamps.text, listed))
    else:
        _holder(field.scalars, column.source).extend(listed)
        getattr(field.scalars, _HOLDERS[column.source]).SetInParent()  # even where every value is null
    return field


def of_typed_field(field: Any, column: Column) -> pa.Array:
    """The column that a typed field of an answer holds."""
    scalars = field.scalars
    kind = scalars.WhichOneof("data")
    if kind == "array_data":
        values: list[Any] = [list(_holder(row, column.element)) for row in scalars.array_data.data]
    elif kind == "json_data":
        values = [records.canonical_json(text.decode()) for text in scalars.json_data.data if text]
    else:
        values = [] if kind is None else list(getattr(scalars, kind).data)
        if column.has_zone and kind == "string_data":
            values = [timestamps.utc(text) if text else None for text in values]
    return pa.array(_spread(values, list(field.valid_data)), records.arrow_type(column.type))


def _holder(scalars: Any, source: int) -> Any:
    """Where a ``ScalarField`` has the values of a type."""
    return getattr(scalars, _HOLDERS[source]).data


def _spread(values: list[Any], valid: list[bool]) -> list[Any]:
    """Values at their rows; a server may send those of null rows, or leave them out."""
    if not valid:
        return values
    if len(values) == len(valid):
        return [value if known else None for value, known in zip(values, valid, strict=True)]
    rest = iter(values)
    return [next(rest) if known else None for known in valid]
