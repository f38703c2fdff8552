"""How a value of each type stands in metadata and in filters; a null is a key that is not there.

A bool, a float64, a string and a json text stand as they are. An int64 and the microseconds of a timestamp
are pairs of numbers (:mod:`.integers`). The service has lists of strings alone: in a list of numbers each
stands as its shortest text, ``7`` or ``0.5``, which is the same for equal numbers, so that a filter finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from vecbridge import timestamps
from vecbridge.schema import FieldType
from vecbridge.stores.pinecone import integers
from vecbridge.stores.pinecone.layout import Column

INTEGERS: Final[frozenset[FieldType]] = frozenset({"int64", "timestamp"})
_EMPTY_LIST: Final = "[]"
_TEXT: Final[dict[FieldType, Callable[[Any], str]]] = {
    "list<string>": str,
    "list<int64>": str,
    "list<float64>": repr,
}
_ELEMENT: Final[dict[FieldType, Callable[[Any], Any]]] = {
    "list<string>": str,
    "list<int64>": int,
    "list<float64>": float,
}


def keyed(column: Column, values: pa.Array) -> dict[str, list[Any]]:
    """The values of a column by the metadata keys that hold them, row by row; None is no such key."""
    if column.type in INTEGERS:
        nearest, rest = integers.split_all(values.cast(pa.int64()))
        return {column.key: nearest} if rest is None else {column.key: nearest, column.second_key: rest}
    plain: list[Any] = values.to_pylist()
    if not column.is_list:
        return {column.key: plain}
    empty: list[Any] = [None] * len(plain)
    if column.second_key:
        empty = [_EMPTY_LIST if value is not None and not value else None for value in plain]
        plain = [value or None for value in plain]
    if column.type != "list<string>":
        text = _TEXT[column.type]
        plain = [None if value is None else [text(item) for item in value] for value in plain]
    return {column.key: plain, column.second_key: empty} if any(empty) else {column.key: plain}


def taken(column: Column, held: Mapping[str, Any]) -> Any:
    """The value of a column, a timestamp in microseconds; None where there is none of its type."""
    value: Any = held.get(column.key)
    match column.type:
        case "int64" | "timestamp" if _is_number(value):
            return integers.joined(value, held.get(column.second_key, 0))
        case "float64" if _is_number(value):
            return float(value)
        case "bool" if isinstance(value, bool):
            return value
        case "string" | "json" if isinstance(value, str):
            return value
        case "list<string>" | "list<int64>" | "list<float64>" if isinstance(value, list):
            try:
                return [_ELEMENT[column.type](item) for item in value]
            except ValueError:  # texts of another program
                return None
    return [] if column.is_list and column.second_key in held else None


def literal(column: Column, value: Any) -> Any:
    """What a filter compares with the values, or with the elements, of a column."""
    if isinstance(value, datetime):
        return timestamps.microseconds(value)
    return _TEXT[column.type](value) if column.is_list else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
