"""Filters as Weaviate's protobuf messages, with the contract's meaning of null.

``not_equal`` and ``contains_none`` match rows without a value, so each of them asks for a value as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsNull, Not, Or, Scalar
from vecbridge.stores.weaviate.layout import Column, Layout
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


def of_uuids(uuids: Iterable[str]) -> Any:
    """The rows of some UUIDs, of which there must be one."""
    values = base_pb2.TextArray(values=uuids)
    return _leaf(_UUID, _Filters.OPERATOR_CONTAINS_ANY, value_text_array=values)


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
            if column.codec in _TEXTS:
                return _not_null(column, _listed(column, values, _Filters.OPERATOR_CONTAINS_NONE))
            return _not_null(column, *(_plain(column, "!=", value) for value in values))
        case Contains(name, value):
            return _listed(layout.columns[name], [value], _Filters.OPERATOR_CONTAINS_ANY)
        case Not(Contains(name, value)):
            column = layout.columns[name]
            return _not_null(column, _listed(column, [value], _Filters.OPERATOR_CONTAINS_NONE))
        case _:
            raise UnsupportedError("weaviate", f"the filter {filter!r}")


def ordered_text(value: int) -> str:
    """An int64 as 20 digits, in the order of the numbers."""
    return f"{value + 2**63:020d}"


def encode_text(value: str) -> str:
    r"""Stores ``~text\0``, because Weaviate trims white space and takes ``""`` for null."""
    return f"~{value}\0"


_TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    "text": encode_text,
    "texts": encode_text,
    "ordered": ordered_text,
    "raw": str,
    "raws": str,
}


def _comparison(column: Column, op: str, value: Scalar) -> Any:
    condition = _plain(column, op, value)
    return _not_null(column, condition) if op == "!=" else condition


def _plain(column: Column, op: str, value: Scalar) -> Any:
    _require_comparable(column)
    return _leaf(column.key, _OPERATORS[op], **_value(column, value))


def _in(column: Column, values: Sequence[Scalar]) -> Any:
    if column.codec in _TEXTS:
        return _listed(column, values, _Filters.OPERATOR_CONTAINS_ANY)
    return _joined(_Filters.OPERATOR_OR, [_plain(column, "==", value) for value in values])


def _not_null(column: Column, *conditions: Any) -> Any:
    return _joined(_Filters.OPERATOR_AND, [_null(column, False), *conditions])


def _listed(column: Column, values: Iterable[Any], operator: int) -> Any:
    _require_comparable(column)
    texts = base_pb2.TextArray(values=map(_TEXTS[column.codec], values))
    return _leaf(column.key, operator, value_text_array=texts)


def _null(column: Column, wanted: bool) -> Any:
    if not column.tells_null:
        raise UnsupportedError(
            "weaviate", f"asking whether {column.name!r} is null", "the class was made without indexNullState"
        )
    if column.presence:
        return _leaf(column.presence, _Filters.OPERATOR_EQUAL, value_boolean=not wanted)
    return _leaf(column.key, _Filters.OPERATOR_IS_NULL, value_boolean=wanted)


def _value(column: Column, value: Scalar) -> dict[str, Any]:
    match column.codec:
        case "bool":
            return {"value_boolean": value}
        case "number":
            return {"value_number": value}
        case "int":
            return {"value_int": value}
        case _:
            return {"value_text": _TEXTS[column.codec](value)}


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
