"""Filters as Pinecone's metadata filters, with the contract's meaning of null.

Whether ``$ne`` and ``$nin`` match a record without the key is left open by the service: what means "has a
value, and not so" says ``$exists`` beside them, and is right either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from vecbridge.errors import UnsupportedError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or
from vecbridge.stores.pinecone import integers, scalars
from vecbridge.stores.pinecone.layout import Column, Layout
from vecbridge.stores.pinecone.limits import FILTER_VALUES

Condition: TypeAlias = dict[str, Any]


def compiled(filter: Filter, layout: Layout) -> Condition:
    """A normalized filter, neither always nor never true, as the service takes it.

    Raises:
        UnsupportedError: A filter on the ``extra`` column, which is no key of its own, on ids of which the
            records have no copy, or on empty lists of an index made elsewhere.
    """
    match filter:
        case And(items):
            return _joined("$and", [compiled(item, layout) for item in items])
        case Or(items):
            return _joined("$or", [compiled(item, layout) for item in items])
        case IsNull(name):
            return _absent(_column(name, layout))
        case Not(IsNull(name)):
            return _exists(_column(name, layout))
        case IsEmpty(name):
            return _there(_list_column(name, layout).second_key)
        case Not(IsEmpty(name)):
            return _there(_list_column(name, layout).key)
        case Cmp(name, op, value):
            column, [literal] = _operands(name, [value], layout)
            return _comparison(column, op, literal)
        case In(name, values):
            return _among(*_operands(name, values, layout))
        case Not(In(name, values)):
            return _not_among(*_operands(name, values, layout))
        case Contains(name, value):
            column, [literal] = _operands(name, [value], layout)
            return {column.key: {"$eq": literal}}
        case Not(Contains(name, value)):
            column, [literal] = _operands(name, [value], layout)
            return _lacks(column, literal)
        case _:
            raise UnsupportedError("pinecone", f"the filter {filter}")


def _column(name: str, layout: Layout) -> Column:
    if name == layout.extra:
        raise UnsupportedError("pinecone", f"a filter on {name!r}", "it holds what the other columns do not")
    return layout.columns[name]


def _list_column(name: str, layout: Layout) -> Column:
    """A list whose empty values have a key of their own."""
    column = _column(name, layout)
    if not column.second_key:
        hint = "Pinecone has no filter for empty lists, and other programs do not mark them: read the column"
        raise UnsupportedError("pinecone", f"is_empty on {name!r} of an index made elsewhere", hint)
    return column


def _operands(name: str, values: Sequence[Any], layout: Layout) -> tuple[Column, list[Any]]:
    """A column, or the copy of the id, and what it is compared with, as metadata have it."""
    if name != "id":
        column = _column(name, layout)
        return column, [scalars.literal(column, value) for value in values]
    if not layout.id_key:
        hint = "its records have no copy of the id among their metadata: fetch() and delete() take ids, and "
        raise UnsupportedError(
            "pinecone",
            "a filter on the id of this index",
            hint + "a new collection of vecbridge's filters on them",
        )
    return Column("id", layout.id_key, "string"), [layout.key(value) for value in values]


def _there(key: str, there: bool = True) -> dict[str, Any]:
    return {key: {"$exists": there}}


def _keys(column: Column) -> list[str]:
    """The keys of which one is there when the column has a value."""
    return [column.key, column.second_key] if column.is_list and column.second_key else [column.key]


def _exists(column: Column) -> Condition:
    return _joined("$or", [_there(key) for key in _keys(column)])


def _absent(column: Column) -> Condition:
    return _joined("$and", [_there(key, False) for key in _keys(column)])


def _comparison(column: Column, op: Any, value: Any) -> Condition:
    match column.type:
        case "int64" | "timestamp":
            return integers.comparison(column.key, column.second_key, op, value)
        case "float64":
            return integers.number(column.key, op, value)
        case "bool":
            return {column.key: {"$eq": value if op == "==" else not value}}
        case _ if op == "==":
            return {column.key: {"$eq": value}}
        case _:
            return {"$and": [_there(column.key), {column.key: {"$ne": value}}]}


def _among(column: Column, values: Sequence[Any]) -> Condition:
    listed, others = _divided(column, values)
    parts = [{column.key: {"$in": part}} for part in _parts(listed)]
    return _joined("$or", [*parts, *(_comparison(column, "==", value) for value in others)])


def _not_among(column: Column, values: Sequence[Any]) -> Condition:
    listed, others = _divided(column, values)
    parts = [{column.key: {"$nin": part}} for part in _parts(listed)]
    compared = [_comparison(column, "!=", value) for value in others]
    return _joined("$and", [_exists(column), *parts, *compared])


def _divided(column: Column, values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The values that ``$in`` can take, and those to be compared one by one: it takes no bools."""
    if column.type in scalars.INTEGERS:
        small = [float(value) for value in values if abs(value) < integers.EXACT]
        return small, [value for value in values if abs(value) >= integers.EXACT]
    return ([], values) if column.type == "bool" else (values, [])


def _lacks(column: Column, value: str) -> Condition:
    full = {"$and": [_there(column.key), {column.key: {"$nin": [value]}}]}
    return {"$or": [full, _there(column.second_key)]} if column.second_key else full


def _parts(values: Sequence[Any]) -> list[list[Any]]:
    return [list(values[start : start + FILTER_VALUES]) for start in range(0, len(values), FILTER_VALUES)]


def _joined(operator: str, parts: Sequence[Condition]) -> Condition:
    """Conditions, at least one, under ``$and`` or ``$or``."""
    return parts[0] if len(parts) == 1 else {operator: list(parts)}
