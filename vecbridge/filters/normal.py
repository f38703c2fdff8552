"""The normal form of filters: reached, folded, and evaluated."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vecbridge import timestamps
from vecbridge.errors import SchemaError, suggestion
from vecbridge.filters.nodes import (
    COMPARE,
    And,
    Cmp,
    Contains,
    Filter,
    In,
    IsEmpty,
    IsNull,
    Not,
    Op,
    Or,
    Scalar,
)
from vecbridge.filters.shape import MAX_DEPTH, MAX_LEAVES, is_branch, require_size
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.texts import shown

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
_NEGATION: Final[dict[Op, Op]] = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}


def normalize(
    filter: Filter, spec: CollectionSpec, *, depth: int = MAX_DEPTH, leaves: int = MAX_LEAVES
) -> Filter:
    """Checks a filter against a spec and brings it to the form that compilers take.

    ``Not`` remains only directly around In, Contains, IsEmpty and IsNull; nested And and Or are merged;
    literals have exactly the field's type: -0.0 becomes 0.0, text becomes a timestamp, a number that the type
    does not have becomes the nearest that compares alike (``n < 1.5`` is ``n <= 1``, and ``n == 1.5`` matches
    nothing).

    Args:
        filter: Any filter.
        spec: The collection's spec.
        depth: Levels at most, as :func:`require_size` counts them.
        leaves: Comparisons at most.

    Returns:
        An equivalent filter in negation normal form.

    Raises:
        SchemaError: An unknown field, an operator that the type does not have, a literal of another type,
            a filter that is too deep or too large.
    """
    require_size(filter, depth=depth, leaves=leaves)
    done: list[Filter] = []  # what is in normal form, up to the node under way
    # A node, whether an odd number of Not is around it, and the kind of the node that takes its items.
    todo: list[tuple[Any, bool, type[And] | type[Or] | None]] = [(filter, False, None)]
    while todo:
        node, negated, above = todo.pop()
        if type(node) is _Closing:
            done[node.start :] = [_joined(node.kind, done[node.start :])]
        elif type(node) is Not:
            todo.append((node.item, not negated, above))
        elif is_branch(node):
            kind = And if (type(node) is And) != negated else Or  # not (a and b) is not a or not b
            if kind is not above:
                todo.append((_Closing(kind, len(done)), False, None))
            todo += [(item, negated, kind) for item in reversed(node.items)]
        else:
            done.append(_normal_leaf(node, spec, negated=negated))
    return done[0]


def folded(filter: Filter) -> Filter | bool:
    """A normalized filter without its constant parts.

    An empty And is true, an empty Or and an empty In are false; ``Not(In(name, ()))`` is true where the
    field has a value, so it becomes ``Not(IsNull(name))``, or True for the id, which always has one.

    Args:
        filter: As :func:`normalize` returns it.

    Returns:
        True if it matches every record, False if none; otherwise an equivalent normalized filter in which
        no And, Or or In is empty.

    Example:
        >>> folded(And((Cmp("year", ">", 2000), Or((In("title", ()), IsNull("year"))))))
        And(items=(Cmp(name='year', op='>', value=2000), IsNull(name='year')))
        >>> folded(And((Cmp("year", ">", 2000), In("title", ()))))
        False
    """
    match filter:
        case In(_, ()):
            return False
        case Not(In("id", ())):
            return True
        case Not(In(name, ())):
            return Not(IsNull(name))
        case And(items) | Or(items):
            decisive = isinstance(filter, Or)  # one True decides an Or, one False an And
            kept: list[Filter] = []
            for item in items:
                part = folded(item)
                if part is decisive:
                    return decisive
                if not isinstance(part, bool):
                    kept.append(part)
            return _joined(type(filter), kept) if kept else not decisive
    return filter


def matches(filter: Filter, record: Mapping[str, Any]) -> bool:
    """The reference meaning of a normalized filter on one record.

    Args:
        filter: As :func:`normalize` returns it.
        record: Values by field name; a missing key is null. Strings compare as code points.

    Returns:
        Whether the record matches.
    """
    match filter:
        case And(items):
            return all(matches(each, record) for each in items)
        case Or(items):
            return any(matches(each, record) for each in items)
        case IsNull(name):
            return record.get(name) is None
        case Not(IsNull(name)):
            return record.get(name) is not None
        case Cmp(name, op, value):
            stored = record.get(name)
            return stored is not None and COMPARE[op](stored, value)
        case In(name, values):
            return record.get(name) is not None and record[name] in values
        case Not(In(name, values)):
            return record.get(name) is not None and record[name] not in values
        case IsEmpty(name):
            return record.get(name) is not None and not record[name]
        case Not(IsEmpty(name)):
            return bool(record.get(name))
        case Contains(name, value):
            return record.get(name) is not None and value in record[name]
        case Not(Contains(name, value)):
            return record.get(name) is not None and value not in record[name]
        case _:
            raise SchemaError(f"not normalized: {shown(filter)}")


@dataclass(frozen=True, slots=True)
class _Closing:
    """The end of an And or Or: what is in normal form from ``start`` on is inside it."""

    kind: type[And] | type[Or]
    start: int


def _joined(kind: type[And] | type[Or], parts: list[Filter]) -> Filter:
    """One And or Or of these parts, or the one part alone; parts of its own kind bring in their items."""
    flat: list[Filter] = []
    for part in parts:
        flat += part.items if isinstance(part, kind) else (part,)
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _normal_leaf(node: Any, spec: CollectionSpec, *, negated: bool) -> Filter:
    match node:
        case Cmp(name, op, value):
            if op not in _NEGATION:
                raise SchemaError(f"field {name!r}: {shown(op)} is no comparison: {' '.join(_NEGATION)}")
            return _comparison(_filterable(spec, name, op), _NEGATION[op] if negated else op, value)
        case In(name, values):
            column = _filterable(spec, name, "in")
            typed = [_typed(column.name, column.type, value) for value in values]
            leaf: Filter = In(name, tuple(dict.fromkeys(value for value in typed if value is not None)))
        case Contains(name, value):
            column = _filterable(spec, name, "contains")
            element = _typed(name, _ELEMENTS[column.type], value)
            leaf = In(name, ()) if element is None else Contains(name, element)
        case IsEmpty(name):
            _filterable(spec, name, "is_empty")
            leaf = node
        case IsNull("id"):
            leaf = In("id", ())  # an id is never null
        case IsNull(name):
            _filterable(spec, name, "is_null")
            leaf = node
        case _:
            raise SchemaError(f"{shown(node)} is not a filter")
    return Not(leaf) if negated else leaf


def _comparison(column: Field, op: Op, value: Any) -> Filter:
    """A comparison with a literal of exactly the column's type."""
    name = column.name
    typed = _typed(name, column.type, value)
    if typed is not None:
        return Cmp(name, op, typed)
    if op in ("==", "!="):  # no value of the type is equal to this number
        return In(name, ()) if op == "==" else Not(In(name, ()))
    below = _largest_below(
        column.type, value
    )  # so "less than value" is "at most below", and the rest is above
    if below is None:
        return In(name, ()) if op in ("<", "<=") else Not(In(name, ()))
    return Cmp(name, "<=" if op in ("<", "<=") else ">", below)


def _largest_below(type: FieldType, value: Any) -> Scalar | None:
    """The largest number of a type below a number that it does not have; None if all are above."""
    if type == "int64":
        return None if value < INT64_MIN else int(min(math.floor(value), INT64_MAX))
    largest = sys.float_info.max
    if abs(value) > largest:
        return largest if value > 0 else None
    nearest = float(value)
    return nearest if nearest < value else math.nextafter(nearest, -math.inf)


_EQUALITY: Final = frozenset({"==", "!=", "in", "is_null"})
_ORDER: Final = _EQUALITY | {"<", "<=", ">", ">="}
_LIST: Final = frozenset({"contains", "is_empty", "is_null"})
_ELEMENTS: Final[dict[FieldType, FieldType]] = {
    "list<string>": "string",
    "list<int64>": "int64",
    "list<float64>": "float64",
}
TYPE_OPERATORS: Final[dict[FieldType, frozenset[str]]] = {
    "bool": _EQUALITY,
    "int64": _ORDER,
    "float64": _ORDER,
    "string": _ORDER,
    "timestamp": _ORDER,
    "list<string>": _LIST,
    "list<int64>": _LIST,
    "list<float64>": _LIST,
    "json": frozenset({"is_null"}),
}


def _filterable(spec: CollectionSpec, name: str, op: str) -> Field:
    if name in (each.name for each in spec.vectors):
        raise SchemaError(f"{name!r} is a vector: filters are on fields")
    known = [each.name for each in spec.fields]
    if name != "id" and name not in known:
        raise SchemaError(f"{spec.name!r} has no field {name!r}{suggestion(name, known)}")
    column = Field("id", spec.id_type) if name == "id" else spec.field(name)
    if op not in TYPE_OPERATORS[column.type]:
        allowed = " ".join(sorted(TYPE_OPERATORS[column.type]))
        raise SchemaError(f"field {name!r} is {column.type}: it has no {shown(op)}, only {allowed}")
    return column


def _typed(name: str, type: FieldType, value: Any) -> Scalar | None:
    """A literal as its type has it; None for a number that the type does not have.

    Raises:
        SchemaError: It is of another type.
    """
    match type:
        case "bool" if isinstance(value, bool):
            return value
        case "int64" if _is_number(value):
            if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
                raise SchemaError(f"field {name!r}: {shown(value)} is no 64-bit integer")
            return int(value) if value == math.floor(value) and INT64_MIN <= value <= INT64_MAX else None
        case "float64" if isinstance(value, float) and _is_number(value):
            return float(value) + 0.0  # -0.0 + 0.0 is 0.0
        case "float64" if _is_number(value):
            return float(value) if _exact_float(value) else None
        case "timestamp" if isinstance(value, datetime | str):
            try:
                return timestamps.utc(value)
            except ValueError as exc:
                raise SchemaError(f"field {name!r}: {exc}") from None
        case "string":
            return _text(name, value)
    raise SchemaError(f"field {name!r} is {type}, and {shown(value)} is not")


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
    )


def _exact_float(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SchemaError(f"field {name!r} is a string, and {shown(value)} is not")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SchemaError(
            f"field {name!r}: {shown(value)} has half a surrogate pair, which no text has"
        ) from None
    return str.__str__(value)  # of an enum or a NumPy string, the text alone
