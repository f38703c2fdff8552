"""Collections that vecbridge did not make: their schema as a spec, and what of it has no name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymilvus.grpc_gen import schema_pb2

from vecbridge.capabilities import Gap
from vecbridge.driver import Described, Identity
from vecbridge.errors import SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType, Metric, VectorField
from vecbridge.stores.milvus import index_params
from vecbridge.stores.milvus.layout import DYNAMIC, Column, Layout

_DataType: Final = schema_pb2.DataType
_TYPES: Final[Mapping[int, FieldType]] = {
    _DataType.Bool: "bool",
    _DataType.Int8: "int64",
    _DataType.Int16: "int64",
    _DataType.Int32: "int64",
    _DataType.Int64: "int64",
    _DataType.Float: "float64",
    _DataType.Double: "float64",
    _DataType.VarChar: "string",
    _DataType.JSON: "json",
    _DataType.Timestamptz: "timestamp",
}
_LISTS: Final[Mapping[FieldType, FieldType]] = {
    "int64": "list<int64>",
    "float64": "list<float64>",
    "string": "list<string>",
}
_EXTRA: Final = "extra"


def introspected(
    schema: Any, indexes: Mapping[str, Mapping[str, str]], identity: Identity, *, merges_upserts: bool
) -> Described:
    """A foreign collection, with its layout as the state.

    Args:
        schema: ``schema_pb2.CollectionSchema``.
        indexes: By field, what ``DescribeIndex`` says of it.
        identity: Which collection it is.
        merges_upserts: As of the server's dialect.

    Raises:
        SchemaError: Nothing in it that can be searched.
    """
    vectors: list[VectorField] = []
    columns: list[Column] = []
    losses: list[Gap] = []
    pk: Any = None
    for field in schema.fields:
        if field.is_primary_key:
            pk = field
        elif field.is_dynamic or field.name == DYNAMIC:
            continue
        elif field.data_type == _DataType.FloatVector:
            _add_vector(field, indexes.get(field.name, {}), vectors, losses)
        elif (column := _column(field)) is not None:
            columns.append(column)
        else:
            losses.append(_loss(field))
    if not vectors:
        raise SchemaError(
            f"collection {schema.name!r} has no float vectors with a metric that vecbridge has: "
            + ("; ".join(f"{gap.subject}: {gap.detail}" for gap in losses) or "no vector field")
        )
    losses += [
        Gap(f"field:{function.name}", function.name, "computed by the server", blocking=False)
        for function in schema.functions
    ]
    extra = _extra_name([column.name for column in columns]) if schema.enable_dynamic_field else None
    if extra is not None:
        columns.append(Column(extra, DYNAMIC, "json"))
    key_type: IdType = "string" if pk.data_type == _DataType.VarChar else "int64"
    read_only = ""
    if pk.autoID:
        read_only = "its primary keys are made by the server (auto_id)"
    elif losses:
        read_only = f"it has fields that vecbridge cannot fill: {', '.join(gap.subject for gap in losses)}"
    elif extra is not None and merges_upserts:
        read_only = "keys of a row's dynamic field that are not written again would stay"
    fields = tuple(Field(column.name, column.type) for column in columns)
    return Described(
        schema.name,
        CollectionSpec.foreign(schema.name, tuple(vectors), fields, key_type),
        identity,
        tuple(losses),
        read_only,
        extra,
        Layout(pk.name, key_type, key_type, False, {column.name: column for column in columns}, extra),
    )


def _add_vector(
    field: Any, described: Mapping[str, str], vectors: list[VectorField], losses: list[Gap]
) -> None:
    index, metric = index_params.from_milvus(described)
    if described and metric is None:
        detail = f"compared by {described.get('metric_type', 'something else')}"
        losses.append(Gap(f"vector:{field.name}", field.name, detail, blocking=False))
        return
    dim = next(int(pair.value) for pair in field.type_params if pair.key == "dim")
    vectors.append(VectorField(field.name, dim, metric or Metric.COSINE, index))


def _column(field: Any) -> Column | None:
    type = _TYPES.get(field.data_type)
    if field.data_type == _DataType.Array and (element := _TYPES.get(field.element_type)) is not None:
        type = _LISTS.get(element)
    if type is None:
        return None
    name = f"field_{field.name}" if field.name.lower() == "id" else field.name
    return Column(
        name, field.name, type, dynamic=False, nullable=field.nullable, source=field.data_type,
        element=field.element_type,
    )  # fmt: skip


def _loss(field: Any) -> Gap:
    kind = _DataType.Name(field.data_type)
    if field.data_type == _DataType.SparseFloatVector:
        return Gap("sparse", field.name, "sparse vectors are not read", blocking=False)
    what = "vector" if kind.endswith("Vector") else "field"
    if field.data_type == _DataType.Array:
        kind = f"Array of {_DataType.Name(field.element_type)}"
    return Gap(f"{what}:{field.name}", field.name, f"{kind} has no type here", blocking=False)


def _extra_name(taken: Sequence[str]) -> str:
    name = _EXTRA
    while name.lower() in {other.lower() for other in taken}:
        name += "_"
    return name
