"""Arrow to Weaviate's protobuf messages and back, a column at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import layout as layouts
from vecbridge.stores.weaviate.expressions import encode_text
from vecbridge.stores.weaviate.layout import ID, Codec, Column, Layout
from vecbridge.stores.weaviate.stubs import (
    aggregate_pb2,
    base_pb2,
    base_search_pb2,
    batch_pb2,
    search_get_pb2,
)

_NO_ELEMENTS: Final = "!"
_SIGN: Final = np.uint64(1 << 63)


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
    vectors = []
    for each in spec.vectors:
        values = (changed or {}).get(each.name)
        values = records.vectors(batch, each.name) if values is None else values
        vectors.append((layout.vectors[each.name], np.ascontiguousarray(values, dtype="<f4")))
    objects = []
    for row, uuid in enumerate(uuids):
        made = batch_pb2.BatchObject(uuid=uuid, collection=layout.class_name, tenant=tenant)
        for name, values in vectors:
            if name:
                made.vectors.add(name=name, vector_bytes=values[row].tobytes())
            else:
                made.vector_bytes = values[row].tobytes()
        objects.append(made)
    if layout.own_ids:
        _fill(objects, ID, "json", batch.column("id").cast(pa.string()).to_pylist())
    for column in layout.columns.values():
        held = encoded(column.codec, batch.column(column.name))
        _fill(objects, column.key, column.codec, held)
        if column.witness:
            _fill(objects, column.witness, "bool", [each is not None for each in held])
    return batch_pb2.BatchObjectsRequest(objects=objects)


def encoded(codec: Codec, values: pa.Array) -> list[Any]:
    """Values of a column as properties hold them; None is null."""
    match codec:
        case "ordered":
            return _ordered(values)
        case "text":
            return [None if each is None else encode_text(each) for each in values.to_pylist()]
        case "texts":
            return [
                None if each is None else [encode_text(item) for item in each] or [_NO_ELEMENTS]
                for each in values.to_pylist()
            ]
        case _:
            listed: list[Any] = values.to_pylist()
            return listed


def search_request(
    layout: Layout, tenant: str, *, limit: int, columns: Sequence[str] | None = (), filters: Any = None,
    after: str = "", near: tuple[str, bytes] | None = None, uuid: bool = True,
) -> Any:  # fmt: skip
    """A request for rows.

    Args:
        layout: Where columns are.
        tenant: The namespace's; "" without.
        limit: Rows, at most.
        columns: Which columns to return beside the id; None asks for nothing but UUIDs.
        filters: Which rows, as a message; None is all of them.
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
    if filters is not None:
        request.filters.CopyFrom(filters)
    if near is not None:
        request.near_vector.CopyFrom(_near(layout.vectors[near[0]], near[1]))
    return request


def count_request(layout: Layout, tenant: str, filters: Any = None) -> Any:
    """A request for the number of rows."""
    request = aggregate_pb2.AggregateRequest(collection=layout.class_name, tenant=tenant, objects_count=True)
    if filters is not None:
        request.filters.CopyFrom(filters)
    return request


class Answer:
    """Rows of a search, in its order.

    Args:
        results: Its ``results``.
        layout: Where columns are.
    """

    def __init__(self, results: Sequence[Any], layout: Layout) -> None:
        self._results = results
        self._layout = layout
        self._properties = [each.properties.non_ref_props.fields for each in results]

    def __len__(self) -> int:
        return len(self._results)

    @property
    def last_uuid(self) -> str:
        """That of its last row."""
        return str(self._results[-1].metadata.id)

    def uuids(self) -> list[str]:
        """UUIDs."""
        return [each.metadata.id for each in self._results]

    def id_texts(self) -> list[str]:
        """Ids, as texts."""
        if not self._layout.own_ids:
            return self.uuids()
        return [each[ID].text_value for each in self._properties]

    def distances(self) -> FloatArray:
        """Distances to the vector that was asked for."""
        return np.array([each.metadata.distance for each in self._results], np.float32)

    def vectors(self, name: str, dim: int) -> FloatArray:
        """Vectors of shape (n, dim)."""
        source = self._layout.vectors[name]
        if source:
            parts = [_named(each.metadata, source) for each in self._results]
        else:
            parts = [each.metadata.vector_bytes for each in self._results]
        return np.frombuffer(b"".join(parts), "<f4").reshape(-1, dim)

    def batch(self, spec: CollectionSpec, include: Sequence[str] | None) -> pa.RecordBatch:
        """The rows as records."""
        schema = records.arrow_schema(spec, include)
        arrays: list[pa.Array] = []
        for name in schema.names:
            if name == "id":
                arrays.append(layouts.id_array(self._layout, self.id_texts()))
            elif name in self._layout.columns:
                arrays.append(self._column(self._layout.columns[name]))
            else:
                arrays.append(records.vector_array(self.vectors(name, spec.vector_field(name).dim)))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def take(self, places: Sequence[int]) -> Answer:
        """Some of the rows."""
        return Answer([self._results[place] for place in places], self._layout)

    def _column(self, column: Column) -> pa.Array:
        key, wanted = column.key, records.arrow_type(column.type)
        found = [each.get(key) for each in self._properties]
        match column.codec:
            case "bool":
                return pa.array(_plain(found, "bool_value"), wanted)
            case "number":
                return pa.array(_plain(found, "number_value"), wanted)
            case "int":
                return pa.array(_plain(found, "int_value"), wanted)
            case "raw":
                return pa.array(_plain(found, "text_value"), wanted)
            case "raws":
                return _lists(found)
            case "json":
                return pa.array([each.text_value or None if each else None for each in found], wanted)
            case "text":
                return _opened(
                    pa.array([each.text_value or None if each else None for each in found], wanted)
                )
            case "texts":
                return _opened_lists(_lists(found))
            case "ordered":
                return _unordered([each.text_value or None if each else None for each in found])


def _near(name: str, vector: bytes) -> Any:
    if not name:
        return base_search_pb2.NearVector(vectors=[base_pb2.Vectors(vector_bytes=vector)])
    return base_search_pb2.NearVector(
        vector_for_targets=[
            base_search_pb2.VectorForTarget(name=name, vectors=[base_pb2.Vectors(vector_bytes=vector)])
        ],
        targets=base_search_pb2.Targets(target_vectors=[name]),
    )


def _fill(objects: Sequence[Any], key: str, codec: Codec, values: Sequence[Any]) -> None:
    """Sets one property of every row that has it."""
    if codec in ("texts", "raws"):
        for made, value in zip(objects, values, strict=True):
            if value:
                made.properties.text_array_properties.add(prop_name=key, values=value)
            elif value is not None:
                made.properties.empty_list_props.append(key)
        return
    attribute = {"bool": "bool_value", "number": "number_value", "int": "number_value"}.get(
        codec, "string_value"
    )
    for made, value in zip(objects, values, strict=True):
        if value is not None:
            setattr(made.properties.non_ref_properties.fields[key], attribute, value)


def _ordered(values: pa.Array) -> list[str | None]:
    """int64 as 20 digits of v + 2^63."""
    filled = records.numbers(pc.fill_null(values, 0)).view(np.uint64) ^ _SIGN
    texts = pc.utf8_lpad(pa.array(filled).cast(pa.string()), width=20, padding="0")
    listed: list[str | None] = texts.to_pylist()
    if values.null_count:
        valid = values.is_valid().to_pylist()
        listed = [text if known else None for text, known in zip(listed, valid, strict=True)]
    return listed


def _unordered(texts: Sequence[str | None]) -> pa.Array:
    shifted = pa.array(texts, pa.string()).cast(pa.uint64())
    numbers = (records.numbers(pc.fill_null(shifted, 0)) ^ _SIGN).view(np.int64)
    return pc.if_else(shifted.is_valid(), pa.array(numbers), pa.scalar(None, pa.int64()))


def _plain(found: Sequence[Any], attribute: str) -> list[Any]:
    return [
        getattr(each, attribute) if each is not None and each.WhichOneof("kind") == attribute else None
        for each in found
    ]


def _lists(found: Sequence[Any]) -> pa.Array:
    texts: list[str] = []
    ends, missing = [0], []
    for each in found:
        held = () if each is None else each.list_value.text_values.values
        texts.extend(held)
        ends.append(len(texts))
        missing.append(not held and (each is None or each.WhichOneof("kind") != "list_value"))
    offsets = pa.array(np.array(ends, np.int32), mask=np.array([*missing, False]))
    return pa.ListArray.from_arrays(offsets, pa.array(texts, pa.string()))


def _opened(texts: pa.Array) -> pa.Array:
    return pc.utf8_slice_codeunits(texts, 1, -1)


def _opened_lists(lists: pa.Array) -> pa.Array:
    """Lists of opened texts; in the one that stands for the empty list is none."""
    texts = lists.flatten()
    real = pc.not_equal(texts, _NO_ELEMENTS)
    kept = np.concatenate([[0], np.cumsum(records.booleans(real))])
    offsets = kept[
        np.concatenate([[0], np.cumsum(records.numbers(pc.fill_null(pc.list_value_length(lists), 0)))])
    ]
    ends = pa.array(offsets, pa.int32(), mask=np.append(records.booleans(lists.is_null()), False))
    return pa.ListArray.from_arrays(ends, _opened(texts.filter(real)))


def _named(metadata: Any, name: str) -> bytes:
    for each in metadata.vectors:
        if each.name == name:
            return bytes(each.vector_bytes)
    return b""


def joined(one: Answer, other: Answer) -> Answer:
    """The rows of two answers about the same collection."""
    return Answer([*one._results, *other._results], one._layout)
