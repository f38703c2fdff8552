"""Filters as Milvus expressions: escaped, and with the contract's meaning of null.

A bare ``!=``, ``not in`` or ``not (…)`` matches rows without a value, so each of them asks ``exists`` first.
Conjunctions are balanced trees: a flat one of 3,000 terms takes a server 22 seconds, a nested one overflows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from vecbridge.errors import UnsupportedError
from vecbridge.filters import INT64_MIN, And, Cmp, Contains, Filter, In, IsNull, Not, Or, Scalar
from vecbridge.stores.milvus.layout import Column, Keys, Layout

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def literal(value: Scalar) -> str:
    """A value as Milvus reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
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
    return _in(layout.pk, list(keys))


def after_key(layout: Layout, key: str | int) -> str:
    """The rows beyond a primary key."""
    return f"{layout.pk} > {literal(key)}" if key != INT64_MIN else f"{layout.pk} >= {INT64_MIN + 1}"


def scoped(layout: Layout, keys: Keys, condition: Filter | None, *more: str) -> str:
    """The rows of a namespace that match a normalized filter and some expressions; "" is every row."""
    parts = list(more)
    if (bounds := keys.bounds) is not None:
        parts += [f"{layout.pk} >= {literal(bounds[0])}", f"{layout.pk} < {literal(bounds[1])}"]
    if condition is not None:
        parts.append(compiled(condition, layout))
    return _joined("and", parts) if parts else ""


def compiled(filter: Filter, layout: Layout) -> str:
    """A normalized filter as an expression."""
    match filter:
        case And(items):
            return _joined("and", [compiled(each, layout) for each in items]) or everything(layout)
        case Or(items):
            return _joined("or", [compiled(each, layout) for each in items]) or nothing(layout)
        case IsNull(name):
            return _is_null(layout.columns[name], layout)
        case Not(IsNull(name)):
            return _exists(layout.columns[name], layout)
        case Cmp(name, op, value):
            return _comparison(layout.columns[name], op, value, layout)
        case In(name, values):
            return _in(layout.columns[name].key, values) if values else nothing(layout)
        case Not(In(name, values)):
            column = layout.columns[name]
            negated = [f"not ({_in(column.key, values)})"] if values else []
            return _joined("and", [_exists(column, layout), *negated])
        case Contains(name, value):
            return _contains(layout.columns[name], value)
        case Not(Contains(name, value)):
            column = layout.columns[name]
            return _joined("and", [_exists(column, layout), f"not ({_contains(column, value)})"])
        case _:
            raise UnsupportedError("milvus", f"the filter {filter!r}")


def _exists(column: Column, layout: Layout) -> str:
    if column.dynamic:
        return f"exists {column.key}"
    return f"{column.key} is not null" if column.nullable else everything(layout)


def _is_null(column: Column, layout: Layout) -> str:
    if column.dynamic:
        return f"not (exists {column.key})"
    return f"{column.key} is null" if column.nullable else nothing(layout)


def _comparison(column: Column, op: str, value: Scalar, layout: Layout) -> str:
    key = column.key
    if value == INT64_MIN and isinstance(value, int) and not isinstance(value, bool):
        match op:  # Milvus reads the digits first, and they are beyond int64
            case "<":
                return nothing(layout)
            case "==" | "<=":
                return f"{key} < {INT64_MIN + 1}"
            case ">=":
                return _exists(column, layout)
            case _:
                return f"{key} >= {INT64_MIN + 1}"
    plain = f"{key} {op} {literal(value)}"
    return _joined("and", [_exists(column, layout), plain]) if op == "!=" else plain


def _in(key: str, values: Sequence[Scalar]) -> str:
    parts = []
    if INT64_MIN in values and not any(isinstance(each, bool) for each in values):
        values = [each for each in values if each != INT64_MIN]
        parts.append(f"{key} < {INT64_MIN + 1}")
    if values and isinstance(values[0], bool):
        parts += [f"{key} == {literal(each)}" for each in values]
    elif values:
        parts.append(f"{key} in [{', '.join(map(literal, values))}]")
    return _joined("or", parts)


def _contains(column: Column, value: str) -> str:
    function = "json_contains" if column.dynamic else "array_contains"
    return f"{function}({column.key}, {literal(value)})"


def _joined(word: str, parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else ""
    middle = len(parts) // 2
    return f"({_joined(word, parts[:middle])}) {word} ({_joined(word, parts[middle:])})"
