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


def listed(column: Column, values: pa.Array) -> list[Any]:
    """The values of a column as :func:`put` takes them; a null is None."""
    plain: list[Any] = (values.cast(pa.int64()) if column.type == "timestamp" else values).to_pylist()
    return plain


def put(held: dict[str, Any], column: Column, value: Any) -> None:
    """Adds a value that is not null to the metadata of a record."""
    if column.type in INTEGERS:
        held[column.key], rest = integers.split(value)
        if rest:
            held[column.second_key] = float(rest)
    elif column.is_list and not value and column.second_key:
        held[column.second_key] = _EMPTY_LIST
    elif column.is_list:
        held[column.key] = [literal(column, item) for item in value]
    else:
        held[column.key] = value


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
