"""Typed columns: a nullable Milvus field for each scalar column, in place of a key in the dynamic field.

Milvus filters a typed column without reading JSON, and can index it. Nullable fields came with 2.5;
milvus-lite has them too. Which columns of a collection are typed is what its Milvus schema says, so that
collections made without them, and columns that are added later, stay in the dynamic field.

A timestamp is INT64, microseconds since 1970: exact, and older than TIMESTAMPTZ. Columns of type json stay in
the dynamic field, where null and the JSON value ``null`` are different things.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymilvus.grpc_gen import schema_pb2

from vecbridge.schema import CollectionSpec, FieldType
from vecbridge.stores.milvus import layout
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.layout import Column, Layout, Source

_DataType: Final = schema_pb2.DataType
_SOURCES: Final[Mapping[FieldType, Source]] = {
    "bool": Source(_DataType.Bool),
    "int64": Source(_DataType.Int64),
    "float64": Source(_DataType.Double),
    "string": Source(_DataType.VarChar),
    "timestamp": Source(_DataType.Int64),
    "list<string>": Source(_DataType.Array, _DataType.VarChar),
    "list<int64>": Source(_DataType.Array, _DataType.Int64),
    "list<float64>": Source(_DataType.Array, _DataType.Double),
}
_MOST_FIELDS: Final = 64  # of a collection (proxy.maxFieldNum), the primary key and vectors among them
_MOST_BYTES: Final = 65_535  # of a VARCHAR


def planned(spec: CollectionSpec) -> Layout:
    """The layout of a collection that is made with typed columns; without any where they are too many."""
    sources = {
        layout.milvus_name(field.name): _SOURCES[field.type]
        for field in spec.fields
        if field.type in _SOURCES
    }
    fits = 1 + len(spec.vectors) + len(sources) <= _MOST_FIELDS
    return layout.of_spec(spec, sources if fits else {})


def of_schema(spec: CollectionSpec, fields: Iterable[Any]) -> Layout:
    """The layout of a collection of ours, by the fields of its Milvus schema (``schema_pb2.FieldSchema``)."""
    return layout.of_spec(spec, {field.name: Source(field.data_type, field.element_type) for field in fields})


def field_schemas(where: Layout, dialect: Dialect) -> list[Any]:
    """The Milvus fields of the typed columns."""
    return [_field_schema(column, dialect) for column in where.columns.values() if not column.dynamic]


def index_params(column: Column, dialect: Dialect) -> dict[str, str] | None:
    """How the scalar index of a typed column is asked for; None where Milvus has none for its type."""
    if column.dynamic or (column.source == _DataType.Array and not dialect.indexes_arrays):
        return None
    return {"index_type": "INVERTED"}


def _field_schema(column: Column, dialect: Dialect) -> Any:
    from vecbridge.stores.milvus.wire import pairs

    params: dict[str, str] = {}
    if _DataType.VarChar in (column.source, column.element):
        params["max_length"] = str(_MOST_BYTES)
    if column.source == _DataType.Array and dialect.list_elements is not None:
        params["max_capacity"] = str(dialect.list_elements)
    return schema_pb2.FieldSchema(
        name=column.key, data_type=column.source, element_type=column.element, nullable=True,
        type_params=pairs(params),
    )  # fmt: skip
