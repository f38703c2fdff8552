"""Arrow to Milvus's protobuf messages and back, a column at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from vecbridge import records
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, FieldType
from vecbridge.stores.milvus.layout import DYNAMIC, Column, Keys, Layout

DataType: Final = schema_pb2.DataType
_PLACEHOLDER: Final = "$0"
_PACKED_FLOATS: Final = b"\x0a"  # field 1, length-delimited, as FloatArray holds them

JsonRow = dict[str, Any]


def pairs(values: Mapping[str, Any]) -> list[Any]:
    """Key-value pairs as most requests take them."""
    return [
        common_pb2.KeyValuePair(
            key=key, value=value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        )
        for key, value in values.items()
    ]


def upsert_fields(
    spec: CollectionSpec, layout: Layout, keys: Keys, batch: pa.RecordBatch, dynamic: Sequence[bytes]
) -> list[Any]:
    """The fields of an upsert request.

    Args:
        spec: The collection's spec.
        layout: Where its columns are.
        keys: The namespace's primary keys.
        batch: Checked.
        dynamic: The dynamic field of each row, as :func:`dynamic_rows` makes it.
    """
    fields = [_key_field(layout, keys.encode(batch.column("id")))]
    fields += [_vector_field(each.name, records.vectors(batch, each.name)) for each in spec.vectors]
    for column in layout.columns.values():
        if not column.dynamic:
            fields.append(_typed_field(column, batch.column(column.name)))
    if layout.has_dynamic:
        json_data = schema_pb2.JSONArray(data=dynamic)
        fields.append(
            schema_pb2.FieldData(
                type=DataType.JSON,
                field_name=DYNAMIC,
                is_dynamic=True,
                scalars=schema_pb2.ScalarField(json_data=json_data),
            )
        )
    return fields


def dynamic_rows(layout: Layout, batch: pa.RecordBatch, *, with_nulls: bool) -> list[bytes]:
    """The dynamic field of each row: a JSON object.

    Args:
        layout: Where columns are.
        batch: Checked.
        with_nulls: Whether a null is said; else its key is left out.
    """
    columns = [each for each in layout.columns.values() if each.dynamic and each.name != layout.extra]
    rows: list[JsonRow] = [{} for _ in range(batch.num_rows)]
    if layout.extra is not None:
        for row, text in zip(rows, batch.column(layout.extra).to_pylist(), strict=True):
            if text is not None:
                row.update(orjson.loads(text))
    for column in columns:
        key = column.key
        for row, value in zip(rows, batch.column(column.name).to_pylist(), strict=True):
            if with_nulls or value is not None:
                row[key] = value
    return [orjson.dumps(row) for row in rows]


def query_vectors(vectors: FloatArray) -> bytes:
    """Query vectors of shape (n, dim) as a search takes them."""
    rows = [row.tobytes() for row in np.ascontiguousarray(vectors, dtype="<f4")]
    value = common_pb2.PlaceholderValue(
        tag=_PLACEHOLDER, type=common_pb2.PlaceholderType.FloatVector, values=rows
    )
    placed: bytes = common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString()
    return placed


def key_list(ids: Any) -> list[str] | list[int]:
    """Primary keys of a search answer."""
    return list(ids.str_id.data) if ids.WhichOneof("id_field") == "str_id" else list(ids.int_id.data)


class Answer:
    """Rows of a query or a search, by field.

    Args:
        fields: The ``fields_data`` of the answer.
        layout: Where columns are.
    """

    def __init__(self, fields: Iterable[Any], layout: Layout) -> None:
        self._fields = {}
        self._layout = layout
        self._dynamic: list[JsonRow] | None = None
        for each in fields:
            self._fields[DYNAMIC if each.is_dynamic else each.field_name] = each

    def keys(self) -> list[str] | list[int]:
        """The primary keys."""
        if (field := self._fields.get(self._layout.pk)) is None:
            return []
        scalars = field.scalars
        if self._layout.pk_type == "string":
            return list(scalars.string_data.data)
        return list(scalars.long_data.data)

    def vectors(self, name: str, dim: int) -> FloatArray:
        """Vectors of shape (n, dim)."""
        if (field := self._fields.get(name)) is None:
            return np.empty((0, dim), np.float32)
        packed = field.vectors.float_vector.SerializeToString()
        size = len(field.vectors.float_vector.data) * 4
        values = np.frombuffer(packed, "<f4", offset=len(packed) - size)  # behind the tag and the length
        return values.reshape(-1, dim)

    def column(self, column: Column, rows: int) -> pa.Array:
        """A scalar column of ``rows`` rows."""
        wanted = records.arrow_type(column.type)
        if column.name == self._layout.extra:
            known = {each.key for each in self._layout.columns.values() if each.dynamic}
            rest = [
                {key: value for key, value in row.items() if key not in known}
                for row in self._dynamic_rows(rows)
            ]
            return pa.array(
                [records.canonical_json(json.dumps(row)) if row else None for row in rest], wanted
            )
        if column.dynamic:
            return pa.array([row.get(column.key) for row in self._dynamic_rows(rows)], wanted)
        field = self._fields.get(column.key)
        return (
            pa.nulls(rows, wanted) if field is None else pa.array(_typed_values(field, column.type), wanted)
        )

    def batch(
        self, spec: CollectionSpec, keys: Keys, include: Sequence[str] | None, ids: pa.Array | None = None
    ) -> pa.RecordBatch:
        """The rows as records, with the ids given or those of the answer."""
        schema = records.arrow_schema(spec, include)
        ids = keys.decode(self.keys()) if ids is None else ids
        columns: list[pa.Array] = []
        for name in schema.names:
            if name == "id":
                columns.append(ids)
            elif name in self._layout.columns:
                columns.append(self.column(self._layout.columns[name], len(ids)))
            else:
                columns.append(records.vector_array(self.vectors(name, spec.vector_field(name).dim)))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _dynamic_rows(self, rows: int) -> list[JsonRow]:
        if self._dynamic is None:
            field = self._fields.get(DYNAMIC)
            texts = [] if field is None else field.scalars.json_data.data
            self._dynamic = [orjson.loads(text) if text else {} for text in texts] or [{}] * rows
        return self._dynamic


def output_fields(layout: Layout, spec: CollectionSpec, include: Sequence[str] | None) -> list[str]:
    """What to ask for, so that :meth:`Answer.batch` can make those records."""
    wanted = records.arrow_schema(spec, include).names[1:]
    fields = [layout.pk]
    for name in wanted:
        column = layout.columns.get(name)
        if column is None:
            fields.append(name)
        elif column.name == layout.extra:
            fields.append(DYNAMIC)
        else:
            fields.append(column.key)
    return fields


def _key_field(layout: Layout, keys: list[str] | list[int]) -> Any:
    if layout.pk_type == "string":
        scalars = schema_pb2.ScalarField(string_data=schema_pb2.StringArray(data=keys))
        return schema_pb2.FieldData(type=DataType.VarChar, field_name=layout.pk, scalars=scalars)
    scalars = schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=keys))
    return schema_pb2.FieldData(type=DataType.Int64, field_name=layout.pk, scalars=scalars)


def _vector_field(name: str, vectors: FloatArray) -> Any:
    packed = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    floats = schema_pb2.FloatArray.FromString(_PACKED_FLOATS + _varint(len(packed)) + packed)
    field = schema_pb2.VectorField(dim=vectors.shape[1], float_vector=floats)
    return schema_pb2.FieldData(type=DataType.FloatVector, field_name=name, vectors=field)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


_SCALAR: Final[dict[int, tuple[str, Any]]] = {
    DataType.Bool: ("bool_data", schema_pb2.BoolArray),
    DataType.Int8: ("int_data", schema_pb2.IntArray),
    DataType.Int16: ("int_data", schema_pb2.IntArray),
    DataType.Int32: ("int_data", schema_pb2.IntArray),
    DataType.Int64: ("long_data", schema_pb2.LongArray),
    DataType.Float: ("float_data", schema_pb2.FloatArray),
    DataType.Double: ("double_data", schema_pb2.DoubleArray),
    DataType.VarChar: ("string_data", schema_pb2.StringArray),
}


def _typed_field(column: Column, values: pa.Array) -> Any:
    """A typed field of a collection that vecbridge did not make."""
    field = schema_pb2.FieldData(type=column.source, field_name=column.key)
    if column.nullable:
        field.valid_data.extend(values.is_valid().to_pylist())
        values = values.drop_null()
    listed = values.to_pylist()
    if column.source == DataType.JSON:
        field.scalars.json_data.data.extend(text.encode() for text in listed)
    elif column.source == DataType.Array:
        field.scalars.array_data.element_type = DataType.VarChar
        for each in listed:
            field.scalars.array_data.data.add().string_data.data.extend(each)
    else:
        name, kind = _SCALAR[column.source]
        getattr(field.scalars, name).CopyFrom(kind(data=listed))
    return field


def _typed_values(field: Any, type: FieldType) -> list[Any]:
    scalars = field.scalars
    kind = scalars.WhichOneof("data")
    if kind == "array_data":
        values: list[Any] = [list(each.string_data.data) for each in scalars.array_data.data]
    elif kind == "json_data":
        values = [records.canonical_json(each.decode()) for each in scalars.json_data.data if each]
    else:
        values = [] if kind is None else list(getattr(scalars, kind).data)
    valid = list(field.valid_data)
    if not valid:
        return values
    if len(values) == len(valid):
        return [value if known else None for value, known in zip(values, valid, strict=True)]
    rest = iter(values)
    return [next(rest) if known else None for known in valid]


def schema_message(spec: CollectionSpec, layout: Layout, id_bytes: int) -> Any:
    """The Milvus schema of a collection that vecbridge makes."""
    if layout.pk_type == "string":
        key = schema_pb2.FieldSchema(
            name=layout.pk, is_primary_key=True, data_type=DataType.VarChar,
            type_params=pairs({"max_length": str(id_bytes)}),
        )  # fmt: skip
    else:
        key = schema_pb2.FieldSchema(name=layout.pk, is_primary_key=True, data_type=DataType.Int64)
    vectors = [
        schema_pb2.FieldSchema(
            name=each.name, data_type=DataType.FloatVector, type_params=pairs({"dim": str(each.dim)})
        )
        for each in spec.vectors
    ]
    return schema_pb2.CollectionSchema(
        name=spec.name, fields=[key, *vectors], enable_dynamic_field=True, description="made by vecbridge"
    )


def query_request(
    name: str, expression: str, fields: Sequence[str], *, level: int, limit: int | None = None,
    sealed_only: bool = False,
) -> Any:  # fmt: skip
    """A query; with a limit its rows come in the order of their primary keys."""
    more: dict[str, Any] = {"ignore_growing": str(sealed_only), "reduce_stop_for_best": "False"}
    if limit is not None:
        more |= {"limit": str(limit), "iterator": "True"}
    return milvus_pb2.QueryRequest(
        collection_name=name,
        expr=expression,
        output_fields=fields,
        query_params=pairs(more),
        **consistency(level),
    )


def search_request(
    name: str, field: str, vectors: FloatArray, k: int, params: Mapping[str, Any], expression: str,
    fields: Sequence[str], *, metric: str, level: int,
) -> Any:  # fmt: skip
    """A search of one vector field."""
    return milvus_pb2.SearchRequest(
        collection_name=name,
        dsl=expression,
        dsl_type=common_pb2.DslType.BoolExprV1,
        placeholder_group=query_vectors(vectors),
        nq=len(vectors),
        output_fields=fields,
        search_params=pairs(
            {
                "anns_field": field, "topk": k, "metric_type": metric, "params": dict(params),
                "round_decimal": -1, "ignore_growing": "False",
            }
        ),
        **consistency(level),
    )  # fmt: skip


def consistency(level: int) -> dict[str, Any]:
    """The consistency of a read, both as its level and as the timestamp that older servers look at.

    Args:
        level: Of ``common_pb2.ConsistencyLevel``.
    """
    timestamps = {
        common_pb2.ConsistencyLevel.Strong: 0,
        common_pb2.ConsistencyLevel.Bounded: 2,
        common_pb2.ConsistencyLevel.Eventually: 1,
    }
    return {
        "consistency_level": level,
        "guarantee_timestamp": timestamps[level],
        "use_default_consistency": False,
    }
