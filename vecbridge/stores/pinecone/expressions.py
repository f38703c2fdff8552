"""Filters as Pinecone's metadata filters, with the contract's meaning of null.

Whether ``$ne`` and ``$nin`` match a record without the key is left open by the service: what means "has a
value, and not so" says ``$exists`` beside them, and is right either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsNull, Not, Or, Scalar
from vecbridge.stores.pinecone import integers
from vecbridge.stores.pinecone.layout import Column, Layout
from vecbridge.stores.pinecone.limits import FILTER_VALUES

Condition = dict[str, Any] | bool


def compiled(filter: Filter, layout: Layout) -> Condition:
    """A normalized filter as the service takes it; True keeps every record, False none.

    Raises:
        UnsupportedError: A filter on the ``extra`` column, which is no key of its own.
    """
    match filter:
        case And(items):
            return _joined("$and", [compiled(each, layout) for each in items], neutral=True)
        case Or(items):
            return _joined("$or", [compiled(each, layout) for each in items], neutral=False)
        case IsNull(name):
            return _absent(_column(name, layout))
        case Not(IsNull(name)):
            return _exists(_column(name, layout))
        case Cmp(name, op, value):
            return _comparison(_column(name, layout), op, value)
        case In(name, values):
            return _among(_column(name, layout), values)
        case Not(In(name, values)):
            return _not_among(_column(name, layout), values)
        case Contains(name, value):
            return {_column(name, layout).key: {"$eq": value}}
        case Not(Contains(name, value)):
            return _lacks(_column(name, layout), value)
        case _:
            raise UnsupportedError("pinecone", f"the filter {filter!r}")


def _column(name: str, layout: Layout) -> Column:
    if name == layout.extra:
        raise UnsupportedError("pinecone", f"a filter on {name!r}", "it holds what the other columns do not")
    return layout.columns[name]


def _there(key: str, there: bool = True) -> dict[str, Any]:
    return {key: {"$exists": there}}


def _keys(column: Column) -> list[str]:
    """The keys of which one is there when the column has a value."""
    return [column.key, column.aside] if column.type == "list<string>" and column.aside else [column.key]


def _exists(column: Column) -> Condition:
    return _joined("$or", [_there(key) for key in _keys(column)], neutral=False)


def _absent(column: Column) -> Condition:
    return _joined("$and", [_there(key, False) for key in _keys(column)], neutral=True)


def _comparison(column: Column, op: Any, value: Any) -> Condition:
    match column.type:
        case "int64":
            return integers.comparison(column.key, column.aside, op, value)
        case "float64":
            return integers.number(column.key, op, value)
        case "bool":
            return {column.key: {"$eq": value if op == "==" else not value}}
        case _ if op == "==":
            return {column.key: {"$eq": value}}
        case _:
            return {"$and": [_there(column.key), {column.key: {"$ne": value}}]}


def _among(column: Column, values: Sequence[Scalar]) -> Condition:
    listed, others = _divided(column, values)
    return _joined("$or", [*({column.key: {"$in": part}} for part in _parts(listed)), *others], neutral=False)


def _not_among(column: Column, values: Sequence[Scalar]) -> Condition:
    listed: Sequence[Any] = values
    others: list[Condition] = []
    if column.type == "int64":
        listed = [float(value) for value in values if abs(int(value)) < integers.EXACT]
        others = [_comparison(column, "!=", value) for value in values if abs(int(value)) >= integers.EXACT]
    elif column.type == "bool":  # $nin takes no bools
        listed, others = [], [_comparison(column, "!=", value) for value in values]
    parts = [{column.key: {"$nin": part}} for part in _parts(listed)]
    return _joined("$and", [_exists(column), *parts, *others], neutral=True)


def _divided(column: Column, values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Condition]]:
    """What ``$in`` can take, and conditions for the rest; it takes no bools."""
    if column.type == "int64":
        return integers.among(column.key, column.aside, values)
    if column.type == "bool":
        return [], [_comparison(column, "==", value) for value in values]
    return values, []


def _lacks(column: Column, value: str) -> Condition:
    full = {"$and": [_there(column.key), {column.key: {"$nin": [value]}}]}
    return {"$or": [full, _there(column.aside)]} if column.aside else full


def _parts(values: Sequence[Any]) -> list[list[Any]]:
    return [list(values[start : start + FILTER_VALUES]) for start in range(0, len(values), FILTER_VALUES)]


def _joined(operator: str, parts: Sequence[Condition], *, neutral: bool) -> Condition:
    """Conditions under ``$and`` (of which True is the neutral one) or ``$or``."""
    if (not neutral) in parts:
        return not neutral
    kept = [each for each in parts if not isinstance(each, bool)]
    if not kept:
        return neutral
    return kept[0] if len(kept) == 1 else {operator: kept}
