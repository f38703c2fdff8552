"""Collections that vecbridge did not make: their schema as a spec, and what of it has no name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymilvus.grpc_gen import schema_pb2

from vecbridge.capabilities import Gap
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
}
_EXTRA: Final = "extra"


def introspected(
    schema: Any, indexes: Mapping[str, Mapping[str, str]]
) -> tuple[CollectionSpec, Layout, tuple[Gap, ...]]:
    """The spec of a foreign collection, where its columns are, and what was left out.

    Args:
        schema: ``schema_pb2.CollectionSchema``.
        indexes: By field, what ``describe_index`` says of it.

    Raises:
        SchemaError: Nothing in it that can be searched.
    """
    vectors: list[VectorField] = []
    columns: list[Column] = []
    losses: list[Gap] = []
    pk: Any = None
    for each in schema.fields:
        if each.is_primary_key:
            pk = each
        elif each.is_dynamic or each.name == DYNAMIC:
            continue
        elif each.data_type == _DataType.FloatVector:
            _add_vector(each, indexes.get(each.name, {}), vectors, losses)
        elif (column := _column(each)) is not None:
            columns.append(column)
        else:
            losses.append(_loss(each))
    if not vectors:
        raise SchemaError(
            f"collection {schema.name!r} has no float vectors with a metric that vecbridge has: "
            + ("; ".join(f"{each.subject}: {each.detail}" for each in losses) or "no vector field")
        )
    losses += [
        Gap(f"field:{each.name}", each.name, "computed by the server", blocking=False)
        for each in schema.functions
    ]
    extra = _extra_name([each.name for each in columns]) if schema.enable_dynamic_field else None
    if extra is not None:
        columns.append(Column(extra, DYNAMIC, "json"))
    key_type: IdType = "string" if pk.data_type == _DataType.VarChar else "int64"
    read_only = "its primary keys are made by the server (auto_id)" if pk.autoID else ""
    if losses and not read_only:
        read_only = f"it has fields that vecbridge cannot fill: {', '.join(each.subject for each in losses)}"
    layout = Layout(
        pk.name, key_type, key_type, False, {each.name: each for each in columns}, extra, read_only
    )
    fields = tuple(Field(each.name, each.type) for each in columns)
    return CollectionSpec.foreign(schema.name, tuple(vectors), fields, key_type), layout, tuple(losses)


def _add_vector(
    field: Any, described: Mapping[str, str], vectors: list[VectorField], losses: list[Gap]
) -> None:
    index, metric = index_params.from_milvus(described)
    if described and metric is None:
        detail = f"compared by {described.get('metric_type', 'something else')}"
        losses.append(Gap(f"vector:{field.name}", field.name, detail, blocking=False))
        return
    dim = next(int(each.value) for each in field.type_params if each.key == "dim")
    vectors.append(VectorField(field.name, dim, metric or Metric.COSINE, index))


def _column(field: Any) -> Column | None:
    type = _TYPES.get(field.data_type)
    if field.data_type == _DataType.Array and field.element_type == _DataType.VarChar:
        type = "list<string>"
    if type is None:
        return None
    name = f"field_{field.name}" if field.name.lower() == "id" else field.name
    return Column(name, field.name, type, dynamic=False, nullable=field.nullable, source=field.data_type)


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
    while name.lower() in {each.lower() for each in taken}:
        name += "_"
    return name
