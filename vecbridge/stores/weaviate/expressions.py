"""Filters as Weaviate's protobuf messages, with the contract's meaning of null.

``not_equal`` and ``contains_none`` match rows without a value, so each of them asks for a value as well.
``is_null`` misses the rows that are older than their property, so null is asked for as "not: has a value".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from vecbridge import timestamps
from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or, Scalar
from vecbridge.stores.weaviate.layout import NO_UUID, Column, Layout, uuids
from vecbridge.stores.weaviate.stubs import base_pb2

_Filters: Final = base_pb2.Filters
_OPERATORS: Final = {
    "==": _Filters.OPERATOR_EQUAL,
    "!=": _Filters.OPERATOR_NOT_EQUAL,
    "<": _Filters.OPERATOR_LESS_THAN,
    "<=": _Filters.OPERATOR_LESS_THAN_EQUAL,
    ">": _Filters.OPERATOR_GREATER_THAN,
    ">=": _Filters.OPERATOR_GREATER_THAN_EQUAL,
}
_UUID: Final = "_id"
FIRST_UUID: Final = "00000000-0000-0000-0000-000000000000"
#: The element of a list that has no elements.
NO_ELEMENTS: Final = "!"
_DATES_IN_ORDER: Final = (1678, 2261)  # whole years that an int64 of nanoseconds has


def of_uuids(uuids: Iterable[str], operator: int = _Filters.OPERATOR_CONTAINS_ANY) -> Any:
    """The rows of some UUIDs, of which there must be one."""
    return _leaf(_UUID, operator, value_text_array=base_pb2.TextArray(values=uuids))


def any_uuid() -> Any:
    """Every row that the inverted index knows, found there and not among the objects."""
    return _leaf(_UUID, _Filters.OPERATOR_GREATER_THAN_EQUAL, value_text=FIRST_UUID)


def both(one: Any, other: Any) -> Any:
    """What satisfies two conditions; None is none."""
    return one if other is None else _joined(_Filters.OPERATOR_AND, [one, other])


def compiled(filter: Filter, layout: Layout) -> Any:
    """A normalized filter as a message."""
    match filter:
        case And(items):
            return _joined(_Filters.OPERATOR_AND, [compiled(item, layout) for item in items])
        case Or(items):
            return _joined(_Filters.OPERATOR_OR, [compiled(item, layout) for item in items])
        case Cmp("id", op, value) if op in ("==", "!="):
            return _ids(layout, [value], negated=op == "!=")
        case In("id", values):
            return _ids(layout, values)
        case Not(In("id", values)):
            return _ids(layout, values, negated=True)
        case IsNull(name):
            return _null(layout.columns[name], True)
        case Not(IsNull(name)):
            return _null(layout.columns[name], False)
        case Cmp(name, op, value):
            return _comparison(layout.columns[name], op, value)
        case In(name, values):
            return _in(layout.columns[name], values)
        case Not(In(name, values)):
            column = layout.columns[name]
            if column.codec in TEXTS:
                return _not_null(column, _listed(column, values, _Filters.OPERATOR_CONTAINS_NONE))
            return _not_null(column, *(_plain(column, "!=", value) for value in values))
        case Contains(name, value):
            return _listed(layout.columns[name], [value], _Filters.OPERATOR_CONTAINS_ANY)
        case Not(Contains(name, value)):
            column = layout.columns[name]
            return _not_null(column, _listed(column, [value], _Filters.OPERATOR_CONTAINS_NONE))
        case IsEmpty(name):
            return _empty(layout.columns[name])
        case Not(IsEmpty(name)):
            return _filled(layout.columns[name])
        case _:
            raise UnsupportedError("weaviate", f"the filter {filter}")


def ordered_text(value: int | datetime) -> str:
    """An int64, or the microseconds of a timestamp, as 20 digits, in the order of the numbers."""
    number = timestamps.microseconds(value) if isinstance(value, datetime) else value
    return f"{number + 2**63:020d}"


def encode_text(value: str) -> str:
    r"""Stores ``~text\0``, because Weaviate trims white space and takes ``""`` for null."""
    return f"~{value}\0"


#: How a value, or an element of a list, is written, by codec, where that is as text.
TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    "text": encode_text,
    "texts": encode_text,
    "integers": str,
    "floats": repr,
    "ordered": ordered_text,
    "date": timestamps.text,
    "raw": str,
    "raws": str,
}


def _ids(layout: Layout, ids: Sequence[Scalar], *, negated: bool = False) -> Any:
    """The rows of some ids, or all others; an id may be one that no row can have."""
    wanted = [uuid for uuid in uuids(layout, pa.array(ids)) if uuid]
    operator = _Filters.OPERATOR_CONTAINS_NONE if negated else _Filters.OPERATOR_CONTAINS_ANY
    return of_uuids(wanted or [NO_UUID], operator)


def _comparison(column: Column, op: str, value: Scalar) -> Any:
    condition = _plain(column, op, value)
    return _not_null(column, condition) if op == "!=" else condition


def _plain(column: Column, op: str, value: Scalar) -> Any:
    _require_comparable(column)
    if column.codec == "date" and op not in ("==", "!="):
        _require_in_order(column, value)
    return _leaf(column.key, _OPERATORS[op], **_value(column, value))


def _in(column: Column, values: Sequence[Scalar]) -> Any:
    if column.codec in TEXTS:
        return _listed(column, values, _Filters.OPERATOR_CONTAINS_ANY)
    return _joined(_Filters.OPERATOR_OR, [_plain(column, "==", value) for value in values])


def _not_null(column: Column, *conditions: Any) -> Any:
    return _joined(_Filters.OPERATOR_AND, [_null(column, False), *conditions])


def _listed(column: Column, values: Iterable[Any], operator: int) -> Any:
    _require_comparable(column)
    match column.codec:
        case "ints":
            return _leaf(column.key, operator, value_int_array=base_pb2.IntArray(values=values))
        case "numbers":
            return _leaf(column.key, operator, value_number_array=base_pb2.NumberArray(values=values))
        case codec:
            texts = base_pb2.TextArray(values=map(TEXTS[codec], values))
            return _leaf(column.key, operator, value_text_array=texts)


def _empty(column: Column) -> Any:
    if column.codec in ("raws", "ints", "numbers"):
        raise UnsupportedError(
            "weaviate", f"asking whether {column.name!r} is empty", "its index takes [] for null"
        )
    return _marked_empty(column, _Filters.OPERATOR_CONTAINS_ANY)


def _filled(column: Column) -> Any:
    if column.codec in ("raws", "ints", "numbers"):
        return _null(column, False)
    return _not_null(column, _marked_empty(column, _Filters.OPERATOR_CONTAINS_NONE))


def _marked_empty(column: Column, operator: int) -> Any:
    return _leaf(column.key, operator, value_text_array=base_pb2.TextArray(values=[NO_ELEMENTS]))


def _null(column: Column, wanted: bool) -> Any:
    if not column.tells_null:
        raise UnsupportedError(
            "weaviate", f"asking whether {column.name!r} is null", "the class was made without indexNullState"
        )
    if column.presence:
        present = _leaf(column.presence, _Filters.OPERATOR_EQUAL, value_boolean=True)
    else:
        present = _leaf(column.key, _Filters.OPERATOR_IS_NULL, value_boolean=False)
    return _Filters(operator=_Filters.OPERATOR_NOT, filters=[present]) if wanted else present


def _value(column: Column, value: Scalar) -> dict[str, Any]:
    match column.codec:
        case "bool":
            return {"value_boolean": value}
        case "number":
            return {"value_number": value}
        case "int":
            return {"value_int": value}
        case _:
            return {"value_text": TEXTS[column.codec](value)}


def _require_in_order(column: Column, value: Any) -> None:
    first, last = _DATES_IN_ORDER
    if not first <= value.year <= last:
        raise UnsupportedError(
            "weaviate",
            f"comparing {column.name!r} with the year {value.year}",
            f"it is a DATE, which Weaviate orders in the years {first} to {last}",
        )


def _require_comparable(column: Column) -> None:
    if not column.comparable:
        raise UnsupportedError(
            "weaviate",
            f"filters on {column.name!r}",
            "it has no filterable index that compares whole values (tokenization field)",
        )


def _leaf(key: str, operator: int, **value: Any) -> Any:
    return _Filters(operator=operator, target=base_pb2.FilterTarget(property=key), **value)


def _joined(operator: int, items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else _Filters(operator=operator, filters=items)
