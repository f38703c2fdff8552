"""Metadata filters: checked when they arrive, then matched record by record.

The language is https://docs.pinecone.io/guides/index-data/indexing-overview#metadata-filter-expressions.
What it leaves open, whether ``$ne`` and ``$nin`` match a record without the field, is yes here: an adapter
that means no has to say ``$exists``, and then is right either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any

from vecbridge.testing.pinecone.errors import invalid
from vecbridge.testing.pinecone.limits import FILTER_VALUES

Match = Callable[[Mapping[str, Any]], bool]

_ORDER: dict[str, Callable[[float, float], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


def compiled(condition: Mapping[str, Any]) -> Match:
    """What tells whether a record's metadata match.

    Raises:
        ApiError: The filter is not one that the service takes.
    """
    try:
        return _object(condition)
    except RecursionError:
        raise invalid("The filter is nested too deeply") from None


def _object(condition: Any) -> Match:
    if not isinstance(condition, Mapping):
        raise invalid(f"Illegal condition for filter: {condition!r} is not an object")
    parts = [_part(key, value) for key, value in condition.items()]
    return lambda metadata: all(part(metadata) for part in parts)


def _part(key: str, value: Any) -> Match:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise invalid(f"{key} must be a list of at least one condition")
        parts = [_object(item) for item in value]
        every = all if key == "$and" else any
        return lambda metadata: every(part(metadata) for part in parts)
    if key.startswith("$"):
        raise invalid(f"{key} is not a valid operator")
    if not isinstance(value, Mapping):
        return _comparison(key, "$eq", value)
    if not value:
        raise invalid(f"Illegal condition for field {key}: no operator")
    parts = [_comparison(key, operator, operand) for operator, operand in value.items()]
    return lambda metadata: all(part(metadata) for part in parts)


def _comparison(field: str, operator: str, operand: Any) -> Match:
    match operator:
        case "$eq" | "$in":
            wanted = _operands(field, operator, operand)
            return lambda metadata: not wanted.isdisjoint(_stored(metadata, field))
        case "$ne" | "$nin":
            unwanted = _operands(field, operator, operand)
            return lambda metadata: unwanted.isdisjoint(_stored(metadata, field))
        case "$exists":
            if not isinstance(operand, bool):
                raise invalid(f"$exists of field {field} must be a boolean")
            return lambda metadata: (field in metadata) is operand
        case "$gt" | "$gte" | "$lt" | "$lte":
            if type(operand) not in (int, float):
                raise invalid(f"{operator} of field {field} must be a number")
            compare = _ORDER[operator]
            return lambda metadata: type(metadata.get(field)) is float and compare(metadata[field], operand)
    raise invalid(f"{operator} is not a valid operator")


def _operands(field: str, operator: str, operand: Any) -> set[tuple[type, Any]]:
    single = operator in ("$eq", "$ne")
    values = [operand] if single else operand
    if not isinstance(values, list):
        raise invalid(f"{operator} of field {field} must be a list")
    if len(values) > FILTER_VALUES:
        raise invalid(f"{operator} of field {field} has {len(values)} values, the limit is {FILTER_VALUES}")
    if not all(type(value) in ((str, int, float, bool) if single else (str, int, float)) for value in values):
        raise invalid(f"{operator} of field {field} must be a string, number{' or boolean' * single}")
    return {_typed(value) for value in values}


def _stored(metadata: Mapping[str, Any], field: str) -> list[tuple[type, Any]]:
    if field not in metadata:
        return []
    value = metadata[field]
    return [_typed(item) for item in value] if isinstance(value, list) else [_typed(value)]


def _typed(value: Any) -> tuple[type, Any]:
    """With its type, since to Python ``True == 1.0``; every number is a float64."""
    return (float, float(value)) if type(value) in (int, float) else (type(value), value)
