"""Arrow to Milvus's protobuf messages and back, a column at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from pymilvus.grpc_gen import common_pb2, schema_pb2

from vecbridge import records
from vecbridge.driver import Columns
from vecbridge.query import FloatArray, Unfit
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import scalars
from vecbridge.stores.milvus.layout import DYNAMIC, Column, Keys, Layout
from vecbridge.stores.milvus.scalars import DataType

_PLACEHOLDER: Final = "$0"
_PACKED_FLOATS: Final = b"\x0a"  # field 1, length-delimited, as FloatArray holds them

JsonRow = dict[str, Any]


def pairs(values: Mapping[str, Any]) -> list[Any]:
    """A mapping as requests take it; what is no text is JSON."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }
    return [common_pb2.KeyValuePair(key=key, value=text) for key, text in texts.items()]


def with_dynamic_field(
    spec: CollectionSpec, layout: Layout, batch: pa.RecordBatch, *, with_nulls: bool
) -> pa.RecordBatch:
    """The rows with their dynamic field encoded, a column of JSON objects in place of those that go there.

    Args:
        spec: The collection's spec.
        layout: Where its columns are.
        batch: Checked.
        with_nulls: Whether a null is said; else its key is left out.
    """
    typed = [column.name for column in layout.columns.values() if not column.dynamic]
    rows = batch.select(["id", *(field.name for field in spec.vectors), *typed])
    if not layout.has_dynamic:
        return rows
    objects = [orjson.dumps(row) for row in _dynamic_rows(layout, batch, with_nulls=with_nulls)]
    return rows.append_column(DYNAMIC, pa.array(objects, pa.binary()))


def upsert_fields(spec: CollectionSpec, layout: Layout, keys: Keys, batch: pa.RecordBatch) -> list[Any]:
    """The fields of an upsert request.

    Args:
        spec: The collection's spec.
        layout: Where its columns are.
        keys: The namespace's primary keys.
        batch: As :func:`with_dynamic_field` makes it.
    """
    source = DataType.VarChar if layout.pk_type == "string" else DataType.Int64
    fields = [scalars.keys_field(layout.pk, source, keys.encode(batch.column("id")))]
    fields += [_vector_field(field.name, records.vectors(batch, field.name)) for field in spec.vectors]
    fields += [
        scalars.typed_field(column, batch.column(column.name))
        for column in layout.columns.values()
        if not column.dynamic
    ]
    if layout.has_dynamic:
        field = schema_pb2.FieldData(type=DataType.JSON, field_name=DYNAMIC, is_dynamic=True)
        field.scalars.json_data.data.extend(batch.column(DYNAMIC).to_pylist())
        fields.append(field)
    return fields


def key_list(ids: Any) -> list[str] | list[int]:
    """Primary keys of a search answer."""
    return list(ids.str_id.data) if ids.WhichOneof("id_field") == "str_id" else list(ids.int_id.data)


class Answer:
    """Rows of a query or a search, by field.

    Args:
        fields: The ``fields_data`` of the answer.
        pk: The primary key's field.
    """

    def __init__(self, fields: Iterable[Any], pk: str) -> None:
        self._fields = {DYNAMIC if field.is_dynamic else field.field_name: field for field in fields}
        self._pk = pk
        self._dynamic: list[JsonRow] | None = None

    def keys(self) -> list[str] | list[int]:
        """The primary keys."""
        field = self._fields.get(self._pk)
        kind = None if field is None else field.scalars.WhichOneof("data")
        return [] if field is None or kind is None else list(getattr(field.scalars, kind).data)

    def batch(
        self, spec: CollectionSpec, keys: Keys, columns: Columns, ids: pa.Array | None = None
    ) -> pa.RecordBatch:
        """The rows as records, with the ids given or those of the answer.

        Raises:
            InvalidRecordError: Rows that it cannot hold; :meth:`fitting` leaves them out.
        """
        batch, unfit = self.fitting(spec, keys, columns, ids)
        if unfit:
            raise records.unfit_rows(unfit)
        return batch

    def fitting(
        self, spec: CollectionSpec, keys: Keys, columns: Columns, ids: pa.Array | None = None
    ) -> tuple[pa.RecordBatch, dict[str | int, Unfit]]:
        """The rows that a batch can hold, and by id why it cannot hold the others."""
        layout = keys.layout
        ids = keys.decode(self.keys()) if ids is None else ids
        reasons: dict[int, Unfit] = {}
        arrays = [ids]
        for name in columns:
            if (column := layout.columns.get(name)) is not None:
                arrays.append(self._scalars(column, layout, len(ids)))
            else:
                dim = spec.vector_field(name).dim
                arrays.append(records.vector_array(self._vectors(name, dim)))
                reasons |= {row: Unfit.of_vector(name, 0, dim) for row in self._without_vector(name)}
        batch = pa.RecordBatch.from_arrays(arrays, schema=records.arrow_schema(spec, columns))
        if not reasons:
            return batch, {}
        kept = [row for row in range(len(ids)) if row not in reasons]
        return batch.take(pa.array(kept, pa.int64())), {
            ids[row].as_py(): reason for row, reason in reasons.items()
        }

    def _without_vector(self, name: str) -> list[int]:
        """Positions of the rows whose vector is null, where a field allows that."""
        valid = () if (field := self._fields.get(name)) is None else field.valid_data
        return [row for row, there in enumerate(valid) if not there]

    def _vectors(self, name: str, dim: int) -> FloatArray:
        """Vectors of shape (n, dim); zeros stand for nulls."""
        if (field := self._fields.get(name)) is None:
            return np.empty((0, dim), np.float32)
        packed = field.vectors.float_vector.SerializeToString()
        size = len(field.vectors.float_vector.data) * 4
        flat = np.frombuffer(packed, "<f4", offset=len(packed) - size)  # behind the tag and the length
        values = flat.reshape(-1, dim)
        valid = np.array(field.valid_data, bool)
        if len(valid) in (0, len(values)):  # milvus-lite sends a placeholder for a null
            return values
        whole = np.zeros((len(valid), dim), np.float32)
        whole[valid] = values  # a server sends none
        return whole

    def _scalars(self, column: Column, layout: Layout, rows: int) -> pa.Array:
        if column.name == layout.extra:
            known = {other.key for other in layout.columns.values() if other.dynamic}
            rest = [
                {key: value for key, value in row.items() if key not in known}
                for row in self._dynamic_rows(rows)
            ]
            texts = [records.canonical_json(json.dumps(row)) if row else None for row in rest]
            return scalars.of_json(texts, column)
        if column.dynamic:
            return scalars.of_json([row.get(column.key) for row in self._dynamic_rows(rows)], column)
        if (field := self._fields.get(column.key)) is None:
            return pa.nulls(rows, records.arrow_type(column.type))
        return scalars.of_typed_field(field, column)

    def _dynamic_rows(self, rows: int) -> list[JsonRow]:
        if self._dynamic is None:
            field = self._fields.get(DYNAMIC)
            texts = [] if field is None else field.scalars.json_data.data
            self._dynamic = [orjson.loads(text) if text else {} for text in texts] or [{}] * rows
        return self._dynamic


def output_fields(layout: Layout, columns: Columns) -> list[str]:
    """What to ask for, so that :meth:`Answer.batch` has those columns."""
    fields = [layout.pk]
    for name in columns:
        column = layout.columns.get(name)
        if column is None:
            fields.append(name)
        else:
            fields.append(DYNAMIC if name == layout.extra else column.key)
    return fields


def _dynamic_rows(layout: Layout, batch: pa.RecordBatch, *, with_nulls: bool) -> list[JsonRow]:
    rows: list[JsonRow] = [{} for _ in range(batch.num_rows)]
    if layout.extra is not None:
        for row, text in zip(rows, batch.column(layout.extra).to_pylist(), strict=True):
            if text is not None:
                row.update(orjson.loads(text))
    for column in layout.columns.values():
        if not column.dynamic or column.name == layout.extra:
            continue
        key = column.key
        for row, value in zip(rows, scalars.json_values(batch.column(column.name)), strict=True):
            if with_nulls or value is not None:
                row[key] = value
    return rows


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


def schema_message(spec: CollectionSpec, layout: Layout, id_bytes: int, typed: Sequence[Any] = ()) -> Any:
    """The Milvus schema of a collection that vecbridge makes, with the fields of its typed columns."""
    key = schema_pb2.FieldSchema(name=layout.pk, is_primary_key=True, data_type=DataType.Int64)
    if layout.pk_type == "string":
        key.data_type = DataType.VarChar
        key.type_params.extend(pairs({"max_length": str(id_bytes)}))
    vectors = [
        schema_pb2.FieldSchema(
            name=field.name, data_type=DataType.FloatVector, type_params=pairs({"dim": str(field.dim)})
        )
        for field in spec.vectors
    ]
    return schema_pb2.CollectionSchema(
        name=spec.name,
        fields=[key, *vectors, *typed],
        enable_dynamic_field=True,
        description="made by vecbridge",
    )


def query(
    expression: str, fields: Sequence[str], *, level: int, limit: int | None = None, sealed_only: bool = False
) -> dict[str, Any]:
    """The fields of a query request; with a limit its rows come in the order of their primary keys."""
    params: dict[str, Any] = {"ignore_growing": str(sealed_only), "reduce_stop_for_best": "False"}
    if limit is not None:
        params |= {"limit": str(limit), "iterator": "True"}
    return {
        "expr": expression, "output_fields": fields, "query_params": params, **_consistency(level)
    }  # fmt: skip


def search(
    field: str, vectors: FloatArray, k: int, params: Mapping[str, Any], expression: str,
    fields: Sequence[str], *, metric: str, level: int,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a search request: one vector field, by float32 vectors of shape (n, dim)."""
    rows = [row.tobytes() for row in np.ascontiguousarray(vectors, dtype="<f4")]
    value = common_pb2.PlaceholderValue(
        tag=_PLACEHOLDER, type=common_pb2.PlaceholderType.FloatVector, values=rows
    )
    search_params = {
        "anns_field": field, "topk": k, "metric_type": metric, "params": dict(params),
        "round_decimal": -1, "ignore_growing": "False",
    }  # fmt: skip
    return {
        "dsl": expression,
        "dsl_type": common_pb2.DslType.BoolExprV1,
        "placeholder_group": common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString(),
        "nq": len(vectors),
        "output_fields": fields,
        "search_params": search_params,
        **_consistency(level),
    }


def _consistency(level: int) -> dict[str, Any]:
    """The consistency of a read, both as its level and as the timestamp that older servers look at."""
    levels = common_pb2.ConsistencyLevel
    timestamps = {levels.Strong: 0, levels.Bounded: 2, levels.Eventually: 1}
    return {
        "consistency_level": level,
        "guarantee_timestamp": timestamps[level],
        "use_default_consistency": False,
    }
