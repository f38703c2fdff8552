"""From values to fields: which type a column has, and what it may be called."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from vecbridge.errors import SchemaError
from vecbridge.identity import EmbedderIdentity, same_embedder
from vecbridge.indexes import Auto, IndexParams
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType, Metric, VectorField

_EXACT: Final = 2**53
NUMBER_LISTS: Final = frozenset({"list<int64>", "list<float64>"})
_WIDER: Final[dict[frozenset[FieldType], FieldType]] = {
    frozenset({"int64", "float64"}): "float64",
    frozenset({"list<int64>", "list<float64>"}): "list<float64>",
}
_BEYOND_MICROSECONDS: Final = re.compile(r"([.,]\d{6})\d+")


@dataclass(frozen=True, slots=True)
class SourceSchema:
    """What a file of records holds, in vecbridge's types.

    Attributes:
        id_type: "string" or "int64".
        vectors: Vector fields, {name: dim}.
        fields: Scalar fields, {name: type}.
        columns: The file's names where they differ, {column: field}.
        dropped: Columns that are left out, {column: why}.
        embedder: The model that made the vectors, where the file says so.
        untyped: Fields in which no row has a value: any type takes them.
        notes: What became of columns that are kept in another form, a sentence each.
    """

    id_type: IdType
    vectors: Mapping[str, int]
    fields: Mapping[str, FieldType]
    columns: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    embedder: EmbedderIdentity | None = None
    untyped: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def spec(
        self,
        name: str,
        *,
        metric: Metric | str = "cosine",
        index: IndexParams = Auto(),  # noqa: B008 - frozen
    ) -> CollectionSpec:
        """A collection that takes these records.

        Raises:
            SchemaError: A name or dim that no backend takes.
        """
        vectors = tuple(
            VectorField(vector, dim, Metric(metric), index, self.embedder)
            for vector, dim in self.vectors.items()
        )
        fields = tuple(Field(key, type) for key, type in self.fields.items())
        return CollectionSpec(name, vectors, fields, self.id_type)


def merged(schemas: Iterable[SourceSchema]) -> SourceSchema:
    """One schema for several files that go into one collection.

    Fields are united; where their types differ, int64 and float64 give float64, lists of them list<float64>,
    and anything else gives json. A file in which a field is null everywhere has no say about its type.

    Raises:
        SchemaError: Ids or vectors differ, or the files were made with different models.
    """
    files = list(schemas)
    first = files[0]
    fields: dict[str, FieldType] = {}
    untyped: dict[str, FieldType] = {}
    columns: dict[str, str] = {}
    dropped: dict[str, str] = {}
    embedder = first.embedder
    for schema in files:
        if (schema.id_type, schema.vectors) != (first.id_type, first.vectors):
            raise SchemaError(
                f"the files differ: {first.id_type} ids and vectors {dict(first.vectors)}, "
                f"then {schema.id_type} ids and vectors {dict(schema.vectors)}"
            )
        embedder = _common_embedder(embedder, schema.embedder)
        for name, type in schema.fields.items():
            if name in schema.untyped:
                untyped.setdefault(name, type)
                fields.setdefault(name, type)
            elif name in fields and name not in untyped:
                fields[name] = common_type({fields[name], type})
            else:
                fields[name] = type
                untyped.pop(name, None)
        columns |= schema.columns
        dropped |= schema.dropped
    dropped = {name: why for name, why in dropped.items() if columns.get(name, name) not in fields}
    notes = tuple(dict.fromkeys(note for schema in files for note in schema.notes))
    return SourceSchema(
        first.id_type, first.vectors, fields, columns, dropped, embedder, frozenset(untyped), notes
    )


def _common_embedder(one: EmbedderIdentity | None, other: EmbedderIdentity | None) -> EmbedderIdentity | None:
    if one is None and other is None:
        return None
    if one is None or other is None or not same_embedder(one, other):
        raise SchemaError("the files hold vectors of different models")
    return min(one, other, key=lambda each: each.format)  # what is known of the vectors of both


def common_type(types: set[FieldType]) -> FieldType:
    """The type that holds them all; a column that has only nulls is a string."""
    if not types:
        return "string"
    if len(types) == 1:
        return next(iter(types))
    return _WIDER.get(frozenset(types), "json")


def field_types(
    found: Mapping[str, FieldType], existing: CollectionSpec | None, *, vectors_chosen: bool
) -> dict[str, FieldType]:
    """The types that the fields of a file get.

    Args:
        found: The narrowest type of each.
        existing: The collection that they go into: where it has a field, its type holds.
        vectors_chosen: Somebody said which columns are vectors. Where that was guessed, other lists of
            numbers are json: they may be vectors too.
    """
    known = {} if existing is None else {field.name: field.type for field in existing.fields}
    narrow = not vectors_chosen
    guessed: dict[str, FieldType] = {
        name: "json" if narrow and type in NUMBER_LISTS else type for name, type in found.items()
    }
    return {name: known.get(name, type) for name, type in guessed.items()}


def guessed_lists(found: Mapping[str, FieldType]) -> tuple[str, ...]:
    """Notes on the lists of numbers that become json because nobody said which column the vectors are."""
    return tuple(
        f"column {name!r} ({type}) becomes json, because it was guessed which column holds the vectors: "
        f"where --vector names that, it stays {type}"
        for name, type in found.items()
        if type in NUMBER_LISTS
    )


class Observed:
    """The type of a column of JSON values, found by looking at every one of them.

    Whole numbers beside floats make float64 where all of them are exact in it, and so do those in lists. What
    fits nothing else (objects, mixed kinds, integers beyond 64 bits) is json, which loses nothing.
    """

    def __init__(self) -> None:
        self._types: set[FieldType] = set()
        self._exact = True
        self._has_empty_list = False

    def add(self, value: Any) -> None:
        """Looks at one value; None says nothing about the type."""
        if value is None:
            return
        if isinstance(value, list) and not value:  # says nothing about its elements
            self._has_empty_list = True
            return
        found = value_type(value)
        if found == "int64" or found == "list<int64>":
            self._exact &= max(map(abs, value if isinstance(value, list) else [value])) <= _EXACT
        self._types.add(found)

    @property
    def empty(self) -> bool:
        """Whether every value so far was null."""
        return not self._types and not self._has_empty_list

    @property
    def type(self) -> FieldType:
        """The narrowest type for all values so far."""
        types = set(self._types)
        if self._has_empty_list and not any(type.startswith("list<") for type in types):
            types.add("list<string>")
        found = common_type(types)
        return "json" if found in ("float64", "list<float64>") and not self._exact else found


def value_type(value: Any) -> FieldType:
    """The narrowest type of one JSON value that is not null."""
    match value:
        case bool():
            return "bool"
        case int():
            return "int64" if -(2**63) <= value < 2**63 else "json"
        case float():
            return "float64"
        case str():
            return "string"
        case list():
            return _list_type(value)
        case _:
            return "json"


def _list_type(values: list[Any]) -> FieldType:
    if all(isinstance(each, str) for each in values):
        return "list<string>"
    kinds = set(map(type, values))
    if kinds == {float}:
        return "list<float64>"
    if kinds == {int}:
        return "list<int64>" if min(values) >= -(2**63) and max(values) < 2**63 else "json"
    if kinds == {int, float} and all(abs(each) <= _EXACT for each in values if isinstance(each, int)):
        return "list<float64>"
    return "json"


def arrow_field_type(type: pa.DataType) -> FieldType | None:
    """The type of a field that keeps values of an Arrow type as they are; None if no type does."""
    type = plain_type(type)
    if pa.types.is_boolean(type):
        return "bool"
    if pa.types.is_integer(type):
        return "int64"
    if pa.types.is_floating(type):
        return "float64"
    if pa.types.is_timestamp(type) and type.tz is not None:
        return "timestamp"
    if is_text(type):
        return "string"
    if is_list(type):
        element = plain_type(type.value_type)
        if pa.types.is_integer(element):
            return "list<int64>"
        if pa.types.is_floating(element):
            return "list<float64>"
        return "list<string>" if is_text(element) else "json"
    return "json" if pa.types.is_struct(type) or pa.types.is_map(type) else None


def plain_type(type: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary, or the type itself."""
    return type.value_type if pa.types.is_dictionary(type) else type


def is_text(type: pa.DataType) -> bool:
    """Whether a type is text of any layout."""
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def is_list(type: pa.DataType) -> bool:
    """Whether a type is a list of any layout."""
    views = pa.types.is_list_view(type) or pa.types.is_large_list_view(type)
    return bool(
        views or pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    )


def as_type(value: Any, type: FieldType, *, truncate_times: bool = False) -> Any:
    """A JSON value as a column of that type takes it: JSON text for json, itself otherwise.

    A whole number that is written with a point (``2020.0``) fits int64: that is what a column of integers
    becomes in pandas as soon as one of them is missing.

    Args:
        value: A JSON value; None is JSON null.
        type: The column's.
        truncate_times: Cut the text of a timestamp to the microsecond.
    """
    if type == "json":
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if type == "int64" or type == "list<int64>":
        return _as_whole(value)
    if truncate_times and type == "timestamp" and isinstance(value, str):
        return _BEYOND_MICROSECONDS.sub(r"\1", value)
    return value


def _as_whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def field_name(name: str, taken: Iterable[str]) -> str:
    """A legal field name: other characters become ``_``, and a clash (case ignored) gets a number.

    Example:
        >>> field_name("Año de edición", []), field_name("width", ["width"]), field_name("2nd", [])
        ('A_o_de_edici_n', 'width_2', 'f_2nd')
    """
    used = {"id", "vector", *(each.lower() for each in taken)}
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not re.match(r"[A-Za-z]", plain):
        plain = f"f_{plain.lstrip('_')}"
    candidate, number = plain, 1
    while candidate.lower() in used:
        number += 1
        candidate = f"{plain}_{number}"
    return candidate
