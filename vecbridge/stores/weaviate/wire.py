"""Requests to Weaviate as protobuf messages: rows to write, and which rows to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate.expressions import NO_ELEMENTS, TEXTS
from vecbridge.stores.weaviate.layout import ID, SIGN, Codec, Layout
from vecbridge.stores.weaviate.stubs import (
    aggregate_pb2,
    base_pb2,
    base_search_pb2,
    batch_pb2,
    search_get_pb2,
)

#: The attribute of a protobuf value, by codec, where it is not that of texts.
_WRITTEN_TO: Final[Mapping[str, str]] = {
    "bool": "bool_value",
    "number": "number_value",
    "int": "number_value",
}
#: The attribute of an object's properties that takes lists, by codec.
_LISTED_IN: Final[Mapping[str, str]] = {
    "texts": "text_array_properties",
    "integers": "text_array_properties",
    "floats": "text_array_properties",
    "raws": "text_array_properties",
    "ints": "int_array_properties",
    "numbers": "number_array_properties",
}


def batch_request(
    spec: CollectionSpec, layout: Layout, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str],
    changed: Mapping[str, FloatArray] | None = None,
) -> Any:  # fmt: skip
    """A request that writes rows.

    Args:
        spec: The collection's spec.
        layout: Where its columns are.
        tenant: The namespace's; "" without.
        batch: Checked.
        uuids: Of its rows.
        changed: By vector field, vectors to write instead of the batch's.
    """
    vectors = {
        layout.vectors[vector.name]: np.ascontiguousarray(
            records.vectors(batch, vector.name) if changed is None else changed[vector.name], dtype="<f4"
        )
        for vector in spec.vectors
    }
    objects = []
    for row, uuid in enumerate(uuids):
        item = batch_pb2.BatchObject(uuid=uuid, collection=layout.class_name, tenant=tenant)
        for name, floats in vectors.items():
            if name:
                item.vectors.add(name=name, vector_bytes=floats[row].tobytes())
            else:
                item.vector_bytes = floats[row].tobytes()
        objects.append(item)
    if layout.own_ids:
        _fill(objects, ID, "json", batch.column("id").cast(pa.string()).to_pylist())
    for column in layout.columns.values():
        values = encoded(column.codec, batch.column(column.name))
        _fill(objects, column.key, column.codec, values)
        if column.presence:
            _fill(objects, column.presence, "bool", [value is not None for value in values])
    return batch_pb2.BatchObjectsRequest(objects=objects)


def encoded(codec: Codec, values: pa.Array) -> list[Any]:
    """Values of a column as properties hold them; None is null."""
    match codec:
        case "ordered":
            return _ordered(values)
        case "text" | "date":
            encode = TEXTS[codec]
            return [None if value is None else encode(value) for value in values.to_pylist()]
        case "texts" | "integers" | "floats":
            encode = TEXTS[codec]
            return [
                None if elements is None else [encode(each) for each in elements] or [NO_ELEMENTS]
                for elements in values.to_pylist()
            ]
        case _:
            plain: list[Any] = values.to_pylist()
            return plain


def search_request(
    layout: Layout, tenant: str, *, limit: int, columns: Sequence[str] | None = (), condition: Any = None,
    after: str = "", near: tuple[str, bytes] | None = None, uuid: bool = True,
) -> Any:  # fmt: skip
    """A request for rows.

    Args:
        layout: Where columns are.
        tenant: The namespace's; "" without.
        limit: Rows, at most.
        columns: Which columns to return beside the id; None asks for nothing but UUIDs.
        condition: Which rows, as a message; None is all of them.
        after: Only rows beyond this UUID, in the order of UUIDs; goes with no filter.
        near: A vector field and the vector to be near to.
        uuid: Whether to return UUIDs.
    """
    metadata = search_get_pb2.MetadataRequest(uuid=uuid, distance=near is not None)
    properties = []
    if columns is not None:
        properties = [ID] if layout.own_ids else []
        for name in columns:
            if name in layout.columns:
                properties.append(layout.columns[name].key)
            elif layout.vectors.get(name):
                metadata.vectors.append(layout.vectors[name])
            elif name in layout.vectors:
                metadata.vector = True
    request = search_get_pb2.SearchRequest(
        collection=layout.class_name,
        tenant=tenant,
        limit=limit,
        after=after,
        metadata=metadata,
        properties=search_get_pb2.PropertiesRequest(non_ref_properties=properties),
        uses_123_api=True,
        uses_125_api=True,
        uses_127_api=True,
    )
    if condition is not None:
        request.filters.CopyFrom(condition)
    if near is not None:
        request.near_vector.CopyFrom(_near(layout.vectors[near[0]], near[1]))
    return request


def count_request(layout: Layout, tenant: str, condition: Any = None) -> Any:
    """A request for the number of rows."""
    request = aggregate_pb2.AggregateRequest(collection=layout.class_name, tenant=tenant, objects_count=True)
    if condition is not None:
        request.filters.CopyFrom(condition)
    return request


def _near(name: str, vector: bytes) -> Any:
    vectors = [base_pb2.Vectors(vector_bytes=vector)]
    if not name:
        return base_search_pb2.NearVector(vectors=vectors)
    return base_search_pb2.NearVector(
        vector_for_targets=[base_search_pb2.VectorForTarget(name=name, vectors=vectors)],
        targets=base_search_pb2.Targets(target_vectors=[name]),
    )


def _fill(objects: Sequence[Any], key: str, codec: Codec, values: Sequence[Any]) -> None:
    """Sets one property of every row that has it."""
    if codec in _LISTED_IN:
        for item, elements in zip(objects, values, strict=True):
            if elements:
                getattr(item.properties, _LISTED_IN[codec]).add(prop_name=key, values=elements)
            elif elements is not None:
                item.properties.empty_list_props.append(key)
        return
    attribute = _WRITTEN_TO.get(codec, "string_value")
    for item, value in zip(objects, values, strict=True):
        if value is not None:
            setattr(item.properties.non_ref_properties.fields[key], attribute, value)


def _ordered(values: pa.Array) -> list[str | None]:
    """int64, or microseconds of timestamps, as 20 digits of v + 2^63."""
    numbers = pc.fill_null(values.cast(pa.int64()), 0)
    shifted = records.numbers(numbers).view(np.uint64) ^ SIGN
    texts = pc.utf8_lpad(pa.array(shifted).cast(pa.string()), width=20, padding="0")
    ordered: list[str | None] = pc.if_else(values.is_valid(), texts, None).to_pylist()
    return ordered
