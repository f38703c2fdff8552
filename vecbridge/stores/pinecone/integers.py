"""All of int64 in numbers that are float64.

An integer is stored as the nearest float64, and where that is not exact (beyond 2^53), the rest, at most
512, stands under a second key. Rounding never changes an order, so that integers compare like the pairs of
the two, and below 2^53 a filter is what anybody would write: ``{"year": {"$gt": 2020}}``.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.filters import COMPARE, Op

EXACT: Final = 2**53
OPERATORS: Final[dict[Op, str]] = {
    "==": "$eq",
    "!=": "$ne",
    "<": "$lt",
    "<=": "$lte",
    ">": "$gt",
    ">=": "$gte",
}


def split(value: int) -> tuple[float, int]:
    """The nearest float64 of an int64, and what is left."""
    nearest = float(value)
    return nearest, value - int(nearest)


def split_all(values: pa.Array) -> tuple[list[float | None], list[float | None] | None]:
    """What :func:`split` says of each, None for null; the rests are None for 0, and None if all are exact.

    Args:
        values: int64.
    """
    nearest: list[float | None] = values.cast(pa.float64(), safe=False).to_pylist()
    bounds = pc.min_max(values).as_py()
    if bounds["max"] is None or (bounds["min"] >= -EXACT and bounds["max"] <= EXACT):
        return nearest, None
    rests = [None if value is None else split(value)[1] for value in values.to_pylist()]
    return nearest, [float(rest) if rest else None for rest in rests]


def joined(nearest: float, rest: float) -> int:
    """The integer that :func:`split` took apart."""
    return int(nearest) + int(rest)


def comparison(key: str, rest_key: str, op: Op, value: int) -> dict[str, Any]:
    """A filter on an integer.

    Args:
        key: Where the nearest float64 is.
        rest_key: Where the rest is, if there is one.
        op: The comparison.
        value: What to compare with.
    """
    nearest, rest = split(value)
    if abs(value) < EXACT:
        return number(key, op, nearest)
    same = {"$and": [{key: {"$eq": nearest}}, _rest(rest_key, op, rest)]}
    if op == "==":
        return same
    beyond = number(key, "!=", nearest) if op == "!=" else {key: {OPERATORS[op][:3]: nearest}}
    return {"$or": [beyond, same]}


def number(key: str, op: Op, value: float) -> dict[str, Any]:
    """A filter on a number; only a number matches, also where the service is asked for another one."""
    if op == "!=":
        return {"$or": [{key: {"$lt": value}}, {key: {"$gt": value}}]}
    return {key: {OPERATORS[op]: value}}


def _rest(key: str, op: Op, value: int) -> dict[str, Any]:
    present = number(key, op, float(value))
    return {"$or": [{key: {"$exists": False}}, present]} if COMPARE[op](0, value) else present
