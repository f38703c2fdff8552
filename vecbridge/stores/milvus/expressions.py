"""Filters as Milvus expressions: escaped, and with the contract's meaning of null.

A bare ``!=``, ``not in`` or ``not (…)`` matches rows without a value, so each of them asks ``exists`` first.
A conjunction or disjunction is a tree that nests as little as it can: a flat one of 3,000 terms takes a
server 22 seconds, and milvus-lite reads no more than some 90 parentheses inside each other.

An id is compared as its primary key. Among the keys of a namespace texts are in the order of their ids, and
numbers are not, since they are text there: ``<`` on them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from vecbridge import timestamps
from vecbridge.errors import UnsupportedError
from vecbridge.filters import INT64_MIN, And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or, Scalar
from vecbridge.stores.milvus.layout import Column, Keys, Layout

#: How many parentheses of And and Or are inside each other, and the text.
Term: TypeAlias = tuple[int, str]

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def literal(value: Scalar) -> str:
    """A value as Milvus reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, datetime):
        return str(timestamps.microseconds(value))
    return repr(value)


def everything(layout: Layout) -> str:
    """What every row satisfies; some servers take no empty expression."""
    return f'{layout.pk} != ""' if layout.pk_type == "string" else f"{layout.pk} <= 9223372036854775807"


def nothing(layout: Layout) -> str:
    """What no row satisfies."""
    pk = layout.pk
    return f'{pk} == ""' if layout.pk_type == "string" else f"(({pk} < 0) and ({pk} > 0))"


def of_keys(layout: Layout, keys: Iterable[str | int]) -> str:
    """The rows of some primary keys."""
    return _in(layout.pk_column, list(keys))


def after_key(layout: Layout, key: str | int) -> str:
    """The rows beyond a primary key."""
    return f"{layout.pk} > {literal(key)}" if key != INT64_MIN else f"{layout.pk} >= {INT64_MIN + 1}"


def scoped(layout: Layout, keys: Keys, condition: Filter | None, *more: str) -> str:
    """The rows of a namespace that match a normalized filter and some expressions; "" is every row."""
    terms = [(0, text) for text in more]
    if (bounds := keys.bounds) is not None:
        first, beyond = bounds
        terms += [(0, f"{layout.pk} >= {literal(first)}"), (0, f"{layout.pk} < {literal(beyond)}")]
    if condition is not None:
        terms.append(_term(condition, keys))
    return _joined("and", terms)[1] if terms else ""


def compiled(filter: Filter, keys: Keys) -> str:
    """A normalized filter as an expression."""
    return _term(filter, keys)[1]


def _term(filter: Filter, keys: Keys) -> Term:
    match filter:
        case And(items):
            return _joined("and", [_term(item, keys) for item in items])
        case Or(items):
            return _joined("or", [_term(item, keys) for item in items])
        case Cmp("id") | In("id") | Not(In("id")):
            return 0, _id_leaf(filter, keys)
        case _:
            return 0, _leaf(filter, keys.layout)


def _id_leaf(filter: Filter, keys: Keys) -> str:
    layout = keys.layout
    match filter:
        case Cmp(_, op, value):
            if op not in ("==", "!=") and layout.id_type != layout.pk_type:
                hint = "compare them by == != in, or keep the number in a field too"
                raise UnsupportedError("milvus", f"{op} on the numeric ids of a namespace", hint)
            return _comparison(layout.pk_column, op, keys.of_id(value), layout)
        case In(_, values):
            return _in(layout.pk_column, [keys.of_id(value) for value in values])
        case Not(In(_, values)):
            return f"not ({_in(layout.pk_column, [keys.of_id(value) for value in values])})"
        case _:
            raise UnsupportedError("milvus", f"the filter {filter}")


def _leaf(filter: Filter, layout: Layout) -> str:
    match filter:
        case IsNull(name):
            return _is_null(layout.columns[name], layout)
        case Not(IsNull(name)):
            return _exists(layout.columns[name], layout)
        case Cmp(name, op, value):
            return _comparison(layout.columns[name], op, value, layout)
        case In(name, values):
            return _in(layout.columns[name], values)
        case Not(In(name, values)):
            return _and_not(layout.columns[name], _in(layout.columns[name], values), layout)
        case Contains(name, value):
            return _contains(layout.columns[name], value)
        case Not(Contains(name, value)):
            return _and_not(layout.columns[name], _contains(layout.columns[name], value), layout)
        case IsEmpty(name):
            column = layout.columns[name]
            return f"({_exists(column, layout)}) and (array_length({column.key}) == 0)"
        case Not(IsEmpty(name)):
            column = layout.columns[name]
            return f"({_exists(column, layout)}) and (array_length({column.key}) != 0)"
        case _:
            raise UnsupportedError("milvus", f"the filter {filter}")


def _exists(column: Column, layout: Layout) -> str:
    if column.dynamic:
        return f"exists {column.key}"
    return f"{column.key} is not null" if column.nullable else everything(layout)


def _and_not(column: Column, expression: str, layout: Layout) -> str:
    return f"({_exists(column, layout)}) and (not ({expression}))"


def _is_null(column: Column, layout: Layout) -> str:
    if column.dynamic:
        return f"not (exists {column.key})"
    return f"{column.key} is null" if column.nullable else nothing(layout)


def _comparison(column: Column, op: str, value: Scalar, layout: Layout) -> str:
    key = column.key
    if _is_least(value):
        match op:  # Milvus reads the digits first, and they are beyond int64
            case "<":
                return nothing(layout)
            case "==" | "<=":
                return f"{key} < {INT64_MIN + 1}"
            case ">=":
                return _exists(column, layout)
            case _:
                return f"{key} >= {INT64_MIN + 1}"
    plain = f"{key} {op} {_compared(column, value)}"
    return f"({_exists(column, layout)}) and ({plain})" if op == "!=" else plain


def _in(column: Column, values: Sequence[Scalar]) -> str:
    key = column.key
    if isinstance(values[0], bool) or column.has_zone:
        return " or ".join(f"({key} == {_compared(column, value)})" for value in values)
    others = [literal(value) for value in values if not _is_least(value)]
    among = f"{key} in [{', '.join(others)}]"
    if len(others) < len(values):
        least = f"{key} < {INT64_MIN + 1}"
        return f"({least}) or ({among})" if others else least
    return among


def _compared(column: Column, value: Scalar) -> str:
    """A literal that is compared with a column: a TIMESTAMPTZ takes no number."""
    if isinstance(value, datetime) and column.has_zone:
        return f"ISO '{timestamps.text(value)}'"
    return literal(value)


def _contains(column: Column, value: Scalar) -> str:
    function = "json_contains" if column.dynamic else "array_contains"
    text = literal(value)
    if _is_least(value):
        text = f"({INT64_MIN + 1} - 1)"
    elif text.startswith("-"):  # where milvus-lite reads an element, it takes a sign in parentheses alone
        text = f"({text})"
    return f"{function}({column.key}, {text})"


def _is_least(value: Scalar) -> bool:
    """Whether it is the integer whose digits Milvus does not read."""
    return type(value) is int and value == INT64_MIN


def _joined(word: str, terms: Sequence[Term]) -> Term:
    """All terms, two and two, the shallowest first, so that the deepest goes into the fewest parentheses."""
    heap = [(depth, place, text) for place, (depth, text) in enumerate(terms)]
    heapify(heap)
    while len(heap) > 1:
        (_, first, left), (depth, second, right) = heappop(heap), heappop(heap)
        if first > second:
            left, right = right, left
        heappush(heap, (depth + 1, min(first, second), f"({left}) {word} ({right})"))
    [(depth, _, text)] = heap
    return depth, text
