"""Arrow to Weaviate's protobuf messages and back, a column at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records, timestamps
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import layout as layouts
from vecbridge.stores.weaviate.expressions import NO_ELEMENTS, TEXTS
from vecbridge.stores.weaviate.layout import ID, Codec, Column, Layout
from vecbridge.stores.weaviate.stubs import (
    aggregate_pb2,
    base_pb2,
    base_search_pb2,
    batch_pb2,
    search_get_pb2,
)

_SIGN: Final = np.uint64(1 << 63)
_BEYOND_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+")
_text_elements: Final[Callable[[Any], Sequence[str]]] = attrgetter("text_values.values")
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
_READ_FROM: Final[Mapping[str, str]] = {
    "bool": "bool_value",
    "number": "number_value",
    "int": "int_value",
    "raw": "text_value",
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


class Answer:
    """Rows of a search, in its order.

    Args:
        results: Its ``results``.
        layout: Where columns are.
    """

    def __init__(self, results: Sequence[Any], layout: Layout) -> None:
        self._results = results
        self._layout = layout
        self._properties = [row.properties.non_ref_props.fields for row in results]

    def __len__(self) -> int:
        return len(self._results)

    @property
    def last_uuid(self) -> str:
        """That of its last row."""
        return str(self._results[-1].metadata.id)

    def uuids(self) -> list[str]:
        """UUIDs."""
        return [row.metadata.id for row in self._results]

    def id_texts(self) -> list[str]:
        """Ids, as texts."""
        if not self._layout.own_ids:
            return self.uuids()
        return [properties[ID].text_value for properties in self._properties]

    def distances(self) -> FloatArray:
        """Distances to the vector that was asked for."""
        return np.array([row.metadata.distance for row in self._results], np.float32)

    def vectors(self, name: str, dim: int) -> FloatArray:
        """Vectors of shape (n, dim)."""
        source = self._layout.vectors[name]
        parts = [_vector(row.metadata, source) for row in self._results]
        return np.frombuffer(b"".join(parts), "<f4").reshape(-1, dim)

    def batch(self, spec: CollectionSpec, columns: Sequence[str] | None) -> pa.RecordBatch:
        """The rows as records: the id and some columns; None is all of them."""
        schema = records.arrow_schema(spec, columns)
        arrays: list[pa.Array] = []
        for name in schema.names:
            if name == "id":
                arrays.append(layouts.id_array(self._layout, self.id_texts()))
            elif name in self._layout.columns:
                arrays.append(self._column(self._layout.columns[name]))
            else:
                arrays.append(records.vector_array(self.vectors(name, spec.vector_field(name).dim)))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def take(self, positions: Sequence[int]) -> Answer:
        """Some of the rows."""
        return Answer([self._results[position] for position in positions], self._layout)

    def _column(self, column: Column) -> pa.Array:
        values = [properties.get(column.key) for properties in self._properties]
        type = records.arrow_type(column.type)
        match column.codec:
            case "json":
                return pa.array(_texts(values), pa.string())
            case "text":
                return _decoded(pa.array(_texts(values), pa.string()))
            case "ordered":
                return _integers(_texts(values)).cast(type)
            case "texts":
                return _decoded_lists(_lists(values, _text_elements), _decoded)
            case "integers" | "floats":
                return _decoded_lists(
                    _lists(values, _text_elements), lambda texts: texts.cast(type.value_type)
                )
            case "raws":
                return _lists(values, _text_elements)
            case "ints":
                return _lists(values, _int_elements, type.value_type)
            case "numbers":
                return _lists(values, _number_elements, type.value_type)
            case "date":
                return pa.array([_moment(text) for text in _plain(values, "date_value")], type)
            case codec:
                return pa.array(_plain(values, _READ_FROM[codec]), type)


def _near(name: str, vector: bytes) -> Any:
    vectors = [base_pb2.Vectors(vector_bytes=vector)]
    if not name:
        return base_search_pb2.NearVector(vectors=vectors)
    return base_search_pb2.NearVector(
        vector_for_targets=[base_search_pb2.VectorForTarget(name=name, vectors=vectors)],
        targets=base_search_pb2.Targets(target_vectors=[name]),
    )


def _vector(metadata: Any, name: str) -> bytes:
    """The vector of a name; "" is the one without."""
    if not name:
        return bytes(metadata.vector_bytes)
    return next((bytes(vector.vector_bytes) for vector in metadata.vectors if vector.name == name), b"")


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
    shifted = records.numbers(numbers).view(np.uint64) ^ _SIGN
    texts = pc.utf8_lpad(pa.array(shifted).cast(pa.string()), width=20, padding="0")
    ordered: list[str | None] = pc.if_else(values.is_valid(), texts, None).to_pylist()
    return ordered


def _integers(texts: Sequence[str | None]) -> pa.Array:
    """What :func:`_ordered` has encoded."""
    shifted = pa.array(texts, pa.string()).cast(pa.uint64())
    numbers = (records.numbers(pc.fill_null(shifted, 0)) ^ _SIGN).view(np.int64)
    return pc.if_else(shifted.is_valid(), pa.array(numbers), pa.scalar(None, pa.int64()))


def _texts(values: Sequence[Any]) -> list[str | None]:
    """Texts, of which none is empty."""
    return [None if value is None else value.text_value or None for value in values]


def _plain(values: Sequence[Any], attribute: str) -> list[Any]:
    return [
        getattr(value, attribute) if value is not None and value.WhichOneof("kind") == attribute else None
        for value in values
    ]


def _lists(
    values: Sequence[Any], elements_of: Callable[[Any], Sequence[Any]], type: pa.DataType | None = None
) -> pa.Array:
    """Lists; a value that is absent is null, and one without elements an empty list.

    Args:
        values: Messages.
        elements_of: The elements of a list's message.
        type: Of the elements; None is texts.
    """
    flat: list[Any] = []
    ends, missing = [0], []
    for value in values:
        elements = () if value is None else elements_of(value.list_value)
        flat.extend(elements)
        ends.append(len(flat))
        missing.append(not elements and (value is None or value.WhichOneof("kind") != "list_value"))
    offsets = pa.array(np.array(ends, np.int32), mask=np.array([*missing, False]))
    return pa.ListArray.from_arrays(offsets, pa.array(flat, type or pa.string()))


def _int_elements(message: Any) -> list[int]:
    numbers: list[int] = np.frombuffer(message.int_values.values, "<i8").tolist()
    return numbers


def _number_elements(message: Any) -> list[float]:
    numbers: list[float] = np.frombuffer(message.number_values.values, "<f8").tolist()
    return numbers


def _moment(text: str | None) -> datetime | None:
    """A DATE to the microsecond; None where its year is none from 1 to 9999."""
    if text is not None:
        with suppress(ValueError):
            return timestamps.utc(_BEYOND_MICROSECONDS.sub(r"\1", text))
    return None


def _decoded(texts: pa.Array) -> pa.Array:
    """What :func:`.expressions.encode_text` has encoded."""
    return pc.utf8_slice_codeunits(texts, 1, -1)


def _decoded_lists(lists: pa.Array, decode: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Lists of decoded texts, without the element that stands for the empty list."""
    texts = lists.flatten()
    real = pc.not_equal(texts, NO_ELEMENTS)
    kept = np.concatenate([[0], np.cumsum(records.booleans(real))])
    offsets = kept[
        np.concatenate([[0], np.cumsum(records.numbers(pc.fill_null(pc.list_value_length(lists), 0)))])
    ]
    ends = pa.array(offsets, pa.int32(), mask=np.append(records.booleans(lists.is_null()), False))
    return pa.ListArray.from_arrays(ends, decode(texts.filter(real)))
