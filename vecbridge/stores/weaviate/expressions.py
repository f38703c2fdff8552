"""Filters as Weaviate's protobuf messages, with the contract's meaning of null.

``not_equal`` and ``contains_none`` match rows without a value, so each of them asks for a value as well.
What is always true or never needs no message: it is folded away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

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

#: True is every row, False is none.
Compiled: TypeAlias = Any


def of_uuids(uuids: Iterable[str]) -> Any:
    """The rows of some UUIDs, of which there must be one."""
    values = base_pb2.TextArray(values=uuids)
    return _leaf(_UUID, _Filters.OPERATOR_CONTAINS_ANY, value_text_array=values)


def any_uuid() -> Any:
    """Every row that the inverted index knows, found there and not among the objects."""
    return _leaf(_UUID, _Filters.OPERATOR_GREATER_THAN_EQUAL, value_text=FIRST_UUID)


def both(one: Compiled, other: Compiled) -> Compiled:
    """What satisfies two conditions."""
    return _all([one, other])


def compiled(filter: Filter, layout: Layout) -> Compiled:
    """A normalized filter as a message, or True or False where it is always or never satisfied."""
    match filter:
        case And(items):
            return _all([compiled(each, layout) for each in items])
        case Or(items):
            return _any([compiled(each, layout) for each in items])
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
            negated = [_comparison(column, "!=", each) for each in values]
            if column.codec in ("text", "ordered", "raw") and values:
                negated = [_listed(column, values, _Filters.OPERATOR_CONTAINS_NONE)]
            return _all([_null(column, False), *negated])
        case Contains(name, value):
            return _listed(layout.columns[name], [value], _Filters.OPERATOR_CONTAINS_ANY)
        case Not(Contains(name, value)):
            column = layout.columns[name]
            return _all([_null(column, False), _listed(column, [value], _Filters.OPERATOR_CONTAINS_NONE)])
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
    _require_comparable(column)
    plain = _leaf(column.key, _OPERATORS[op], **_value(column, value))
    return _all([_null(column, False), plain]) if op == "!=" else plain


def _in(column: Column, values: Sequence[Scalar]) -> Compiled:
    if not values:
        return False
    if column.codec in _TEXTS:
        return _listed(column, values, _Filters.OPERATOR_CONTAINS_ANY)
    return _any([_comparison(column, "==", each) for each in values])


def _listed(column: Column, values: Iterable[Any], operator: int) -> Any:
    _require_comparable(column)
    texts = base_pb2.TextArray(values=map(_TEXTS[column.codec], values))
    return _leaf(column.key, operator, value_text_array=texts)


def _null(column: Column, wanted: bool) -> Any:
    if not column.tells_null:
        raise UnsupportedError(
            "weaviate", f"asking whether {column.name!r} is null", "the class was made without indexNullState"
        )
    if column.witness:
        return _leaf(column.witness, _Filters.OPERATOR_EQUAL, value_boolean=not wanted)
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


def _all(items: Sequence[Compiled]) -> Compiled:
    if any(each is False for each in items):
        return False
    return _joined(_Filters.OPERATOR_AND, [each for each in items if each is not True], True)


def _any(items: Sequence[Compiled]) -> Compiled:
    if any(each is True for each in items):
        return True
    return _joined(_Filters.OPERATOR_OR, [each for each in items if each is not False], False)


def _joined(operator: int, items: list[Any], empty: bool) -> Compiled:
    if len(items) < 2:
        return items[0] if items else empty
    return _Filters(operator=operator, filters=items)
