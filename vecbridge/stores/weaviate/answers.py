"""Rows of a search, from Weaviate's protobuf messages to Arrow, a column at a time."""

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
from vecbridge.query import FloatArray, Unfit
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import layout as layouts
from vecbridge.stores.weaviate.expressions import NO_ELEMENTS
from vecbridge.stores.weaviate.layout import ID, SIGN, Column, Layout

_FLOAT_BYTES: Final = 4
_BEYOND_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+")
_text_elements: Final[Callable[[Any], Sequence[str]]] = attrgetter("text_values.values")
#: The attribute of a protobuf value, by codec, where it is that of the type itself.
_READ_FROM: Final[Mapping[str, str]] = {
    "bool": "bool_value",
    "number": "number_value",
    "int": "int_value",
    "raw": "text_value",
}


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
        self._vectors: dict[str, list[bytes]] = {}

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

    def vectors(self, name: str) -> list[bytes]:
        """The vectors of a field, as little-endian float32; b"" where an object has none."""
        if name not in self._vectors:
            source = self._layout.vectors[name]
            self._vectors[name] = [_vector(row.metadata, source) for row in self._results]
        return self._vectors[name]

    def fitting(
        self, spec: CollectionSpec, columns: Sequence[str] | None
    ) -> tuple[Answer, dict[str | int, Unfit]]:
        """The rows that :meth:`batch` can hold, and by id why it cannot hold the others."""
        reasons = self._unfit(spec, columns)
        if not reasons:
            return self, {}
        keys = [text or uuid for text, uuid in zip(self.id_texts(), self.uuids(), strict=True)]
        fit = self.take([row for row in range(len(self)) if row not in reasons])
        return fit, {self._id(keys[row]): reason for row, reason in reasons.items()}

    def batch(self, spec: CollectionSpec, columns: Sequence[str] | None) -> pa.RecordBatch:
        """The rows as records: the id and some columns; None is all of them.

        Raises:
            InvalidRecordError: It cannot hold some of them, which :meth:`fitting` names.
        """
        if unfit := self.fitting(spec, columns)[1]:
            raise records.unfit_rows(unfit)
        schema = records.arrow_schema(spec, columns)
        arrays: list[pa.Array] = []
        for name in schema.names:
            if name == "id":
                arrays.append(layouts.id_array(self._layout, self.id_texts()))
            elif name in self._layout.columns:
                arrays.append(self._column(self._layout.columns[name]))
            else:
                floats = np.frombuffer(b"".join(self.vectors(name)), "<f4")
                arrays.append(records.vector_array(floats.reshape(-1, spec.vector_field(name).dim)))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def take(self, positions: Sequence[int]) -> Answer:
        """Some of the rows."""
        return Answer([self._results[position] for position in positions], self._layout)

    def _unfit(self, spec: CollectionSpec, columns: Sequence[str] | None) -> dict[int, Unfit]:
        """By position, why a row cannot stand in a batch of those columns."""
        reasons: dict[int, Unfit] = {}
        for vector in spec.vectors:
            if columns is None or vector.name in columns:
                lengths = [len(part) // _FLOAT_BYTES for part in self.vectors(vector.name)]
                reasons |= records.unfit_lengths(vector.name, lengths, vector.dim)
        if self._layout.own_ids and "" in (texts := self.id_texts()):
            strange = Unfit("row:id", "another program wrote it, without the id that vecbridge keeps")
            reasons |= {row: strange for row, text in enumerate(texts) if not text}
        return reasons

    def _id(self, text: str) -> str | int:
        return int(text) if self._layout.id_type == "int64" and text.lstrip("-").isdecimal() else text

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


def _vector(metadata: Any, name: str) -> bytes:
    """The vector of a name; "" is the one without."""
    if not name:
        return bytes(metadata.vector_bytes)
    return next((bytes(vector.vector_bytes) for vector in metadata.vectors if vector.name == name), b"")


def _integers(texts: Sequence[str | None]) -> pa.Array:
    """What :func:`_ordered` has encoded."""
    shifted = pa.array(texts, pa.string()).cast(pa.uint64())
    numbers = (records.numbers(pc.fill_null(shifted, 0)) ^ SIGN).view(np.int64)
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
