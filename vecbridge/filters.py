"""Filters: a small closed AST, its JSON form, its rules and its reference meaning.

One rule governs null: a null or missing value matches :class:`IsNull` and nothing else, also under
``Not``. :func:`normalize` therefore pushes ``Not`` down to the leaves, so that a compiler meets it
only around ``In``, ``Contains`` and ``IsNull``, where it means "has a value, and not so".

Example:
    >>> import vecbridge as vb
    >>> condition: vb.Filter = vb.field("year").isin([2020, 2021]) | vb.field("title").is_null()
    >>> to_dict(condition)
    {'or': [{'field': 'year', 'op': 'in', 'value': [2020, 2021]}, {'field': 'title', 'op': 'is_null'}]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, assert_never

from vecbridge.errors import SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType, suggestion

Op = Literal["==", "!=", "<", "<=", ">", ">="]
Scalar = bool | int | float | str

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_DEPTH: Final = 100  # of nesting in the JSON form
_OPS: Final[dict[Op, Op]] = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}  # op: its negation


class _Combinable:
    """Gives every node ``&``, ``|``, ``~``; refuses ``and``, ``or``, ``not``, which no class can overload."""

    __slots__ = ()

    def __and__(self, other: Filter) -> Filter:
        return And((*_items(And, self), *_items(And, other)))

    def __or__(self, other: Filter) -> Filter:
        return Or((*_items(Or, self), *_items(Or, other)))

    def __invert__(self) -> Filter:
        return Not(self)  # type: ignore[arg-type]

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a filter has no truth value: combine filters with & | ~, not with and, or, not or a < x < b"
        )


@dataclass(frozen=True, slots=True)
class Cmp(_Combinable):
    """``name op value``."""

    name: str
    op: Op
    value: Scalar


@dataclass(frozen=True, slots=True)
class In(_Combinable):
    """The value is one of ``values``; of none, if there are none."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Contains(_Combinable):
    """The list<string> has ``value`` among its elements."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class IsNull(_Combinable):
    """The value is null or missing."""

    name: str


@dataclass(frozen=True, slots=True)
class And(_Combinable):
    """All of ``items``; everything, if there are none."""

    items: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or(_Combinable):
    """Any of ``items``; nothing, if there are none."""

    items: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not(_Combinable):
    """Not ``item``, under the null rule of this module."""

    item: Filter


Filter = Cmp | In | Contains | IsNull | And | Or | Not


@dataclass(frozen=True, slots=True, eq=False)
class FieldRef:
    """A field in an expression; :func:`field` makes it."""

    name: str

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return Cmp(self.name, "==", _literal(self.name, value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Cmp(self.name, "!=", _literal(self.name, value))

    def __lt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<", _literal(self.name, value))

    def __le__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<=", _literal(self.name, value))

    def __gt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">", _literal(self.name, value))

    def __ge__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">=", _literal(self.name, value))

    __hash__ = None  # type: ignore[assignment]

    def isin(self, values: Iterable[Scalar]) -> Filter:
        """The value is one of these; ``isin([])`` matches nothing."""
        if isinstance(values, str):
            raise SchemaError(
                f"field {self.name!r}: isin() takes a list of values, not the string {values!r}"
            )
        return In(self.name, tuple(_literal(self.name, value) for value in values))

    def contains(self, value: str) -> Filter:
        """The list<string> has this element."""
        return Contains(self.name, value)

    def is_null(self) -> Filter:
        """The value is null or missing."""
        return IsNull(self.name)


def field(name: str) -> FieldRef:
    """A field to compare: ``field("year") >= 2020``.

    Args:
        name: A scalar field of the collection.

    Returns:
        A reference with ``== != < <= > >=``, ``isin``, ``contains`` and ``is_null``.

    Example:
        >>> (field("year") >= 2020) & ~field("tags").contains("sea")
        And(items=(Cmp(name='year', op='>=', value=2020), Not(item=Contains(name='tags', value='sea'))))
    """
    return FieldRef(name)


def to_dict(filter: Filter) -> dict[str, Any]:
    """The JSON form; :func:`from_dict` is the inverse."""
    match filter:
        case Cmp(name, op, value):
            return {"field": name, "op": op, "value": value}
        case In(name, values):
            return {"field": name, "op": "in", "value": list(values)}
        case Contains(name, value):
            return {"field": name, "op": "contains", "value": value}
        case IsNull(name):
            return {"field": name, "op": "is_null"}
        case And(items):
            return {"and": [to_dict(each) for each in items]}
        case Or(items):
            return {"or": [to_dict(each) for each in items]}
        case Not(item):
            return {"not": to_dict(item)}
        case _:
            assert_never(filter)


def from_dict(values: Mapping[str, Any]) -> Filter:
    """Reads the JSON form of a filter.

    Raises:
        SchemaError: An unknown key or operator, a value of the wrong shape, more than 100 levels.
    """
    return _from_dict(values, MAX_DEPTH)


def _from_dict(values: Mapping[str, Any], depth: int) -> Filter:
    if not depth:
        raise SchemaError(f"the filter is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(values, Mapping):
        raise SchemaError(f"a filter is a JSON object, not {values!r}")
    if len(values) == 1:
        [(key, inner)] = values.items()
        if key in ("and", "or") and isinstance(inner, list):
            items = tuple(_from_dict(each, depth - 1) for each in inner)
            return And(items) if key == "and" else Or(items)
        if key == "not":
            return Not(_from_dict(inner, depth - 1))
    name, op = values.get("field"), values.get("op")
    expected = {"field", "op"} if op == "is_null" else {"field", "op", "value"}
    if not isinstance(name, str) or set(values) != expected:
        raise SchemaError(
            f"not a filter: {dict(values)!r}; as {{'field': …, 'op': …, 'value': …}}, and, or, not"
        )
    return _leaf(FieldRef(name), op, values.get("value"))


def normalize(filter: Filter, spec: CollectionSpec) -> Filter:
    """Checks a filter against a spec and brings it to the form that compilers take.

    ``Not`` remains only directly around In, Contains and IsNull; nested And and Or are merged; literals
    have exactly the field's type (an int for a float64 field becomes a float, -0.0 becomes 0.0).

    Args:
        filter: Any filter.
        spec: The collection's spec.

    Returns:
        An equivalent filter in negation normal form.

    Raises:
        SchemaError: An unknown field, an operator that the type does not have, a literal of another type.
    """
    return _normalize(filter, spec, negated=False)


def folded(filter: Filter) -> Filter | bool:
    """A normalized filter without constants, or the constant that it is."""
    match filter:
        case And(items) | Or(items):
            kind, absorbing = (And, False) if isinstance(filter, And) else (Or, True)
            kept: list[Filter] = []
            for each in map(folded, items):
                if each is absorbing:
                    return absorbing
                if not isinstance(each, bool):
                    kept += _items(kind, each)
            return (not absorbing) if not kept else kept[0] if len(kept) == 1 else kind(tuple(kept))
        case In(_, ()):
            return False
        case Not(In(name, ())):
            return Not(IsNull(name))
        case _:
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
        case Contains(name, value):
            return record.get(name) is not None and value in record[name]
        case Not(Contains(name, value)):
            return record.get(name) is not None and value not in record[name]
        case _:
            raise SchemaError(f"not normalized: {filter!r}")


COMPARE: Final[dict[Op, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def field_names(filter: Filter) -> set[str]:
    """The fields that a filter reads."""
    match filter:
        case And(items) | Or(items):
            return set().union(*(field_names(each) for each in items))
        case Not(item):
            return field_names(item)
        case Cmp() | In() | Contains() | IsNull():
            return {filter.name}
        case _:
            assert_never(filter)


def ordered_names(filter: Filter) -> set[str]:
    """The fields that a normalized filter compares by order."""
    match filter:
        case And(items) | Or(items):
            return set().union(*(ordered_names(each) for each in items))
        case Cmp(name, "<" | "<=" | ">" | ">="):
            return {name}
        case _:
            return set()


def operators(filter: Filter) -> set[str]:
    """The operators that a normalized filter uses, named as in its JSON form."""
    match filter:
        case And(items) | Or(items):
            return set().union(*(operators(each) for each in items))
        case Not(item):
            return {"not"} | operators(item)
        case Cmp(op=op):
            return {op}
        case In():
            return {"in"}
        case Contains():
            return {"contains"}
        case IsNull():
            return {"is_null"}
        case _:
            assert_never(filter)


def _items(kind: type[And] | type[Or], node: Any) -> tuple[Filter, ...]:
    if not isinstance(node, Filter):
        raise TypeError(
            f"{node!r} is not a filter: put each comparison in parentheses, (field('a') == 1) & …"
        )
    return node.items if isinstance(node, kind) else (node,)


def _literal(name: str, value: Any) -> Scalar:
    if value is None:
        raise SchemaError(f"field {name!r} is compared with None: use field({name!r}).is_null()")
    if isinstance(value, Scalar):
        return value
    if getattr(value, "shape", None) == () and isinstance(unboxed := value.item(), Scalar):  # NumPy's
        return unboxed
    raise SchemaError(f"field {name!r} is compared with {value!r}: a bool, int, float or str")


def _leaf(ref: FieldRef, op: Any, value: Any) -> Filter:
    if isinstance(op, str) and op in _OPS:
        return Cmp(ref.name, op, _literal(ref.name, value))
    if op == "in" and isinstance(value, list):
        return ref.isin(value)
    if op == "contains":
        return ref.contains(value)
    if op == "is_null":
        return ref.is_null()
    raise SchemaError(
        f"field {ref.name!r}: {op!r} {value!r}: the operators are {' '.join(_OPS)} in contains is_null"
    )


def _normalize(filter: Filter, spec: CollectionSpec, *, negated: bool) -> Filter:
    match filter:
        case Not(item):
            return _normalize(item, spec, negated=not negated)
        case And(items) | Or(items):
            kind = And if isinstance(filter, And) != negated else Or
            flat: list[Filter] = []
            for each in items:
                flat += _items(kind, _normalize(each, spec, negated=negated))
            return flat[0] if len(flat) == 1 else kind(tuple(flat))
        case Cmp(name, op, value):
            if op not in _OPS:
                raise SchemaError(f"field {name!r}: {op!r} is no comparison: {' '.join(_OPS)}")
            typed = _typed(_filterable(spec, name, op), value)
            return Cmp(name, _OPS[op] if negated else op, typed)
        case In(name, values):
            column = _filterable(spec, name, "in")
            leaf: Filter = In(name, tuple(dict.fromkeys(_typed(column, value) for value in values)))
        case Contains(name, value):
            leaf = Contains(name, _text(_filterable(spec, name, "contains"), value))
        case IsNull(name):
            _filterable(spec, name, "is_null")
            leaf = filter
        case _:
            raise SchemaError(f"{filter!r} is not a filter")
    return Not(leaf) if negated else leaf


_EQUALITY: Final = frozenset({"==", "!=", "in", "is_null"})
_ORDER: Final = _EQUALITY | {"<", "<=", ">", ">="}
TYPE_OPERATORS: Final[dict[FieldType, frozenset[str]]] = {
    "bool": _EQUALITY,
    "int64": _ORDER,
    "float64": _ORDER,
    "string": _ORDER,
    "list<string>": frozenset({"contains", "is_null"}),
    "json": frozenset({"is_null"}),
}


def _filterable(spec: CollectionSpec, name: str, op: str) -> Field:
    if name in (each.name for each in spec.vectors):
        raise SchemaError(f"{name!r} is a vector: filters are on fields")
    if name == "id":
        raise SchemaError("filters are on fields, not on the id: use fetch(ids) or delete(ids)")
    known = [each.name for each in spec.fields]
    if name not in known:
        raise SchemaError(f"{spec.name!r} has no field {name!r}{suggestion(name, known)}")
    column = spec.field(name)
    if op not in TYPE_OPERATORS[column.type]:
        allowed = " ".join(sorted(TYPE_OPERATORS[column.type]))
        raise SchemaError(f"field {name!r} is {column.type}: it has no {op!r}, only {allowed}")
    return column


def _typed(column: Field, value: Scalar) -> Scalar:
    match column.type:
        case "bool" if isinstance(value, bool):
            return value
        case "int64" if isinstance(value, int) and not isinstance(value, bool):
            if INT64_MIN <= value <= INT64_MAX:
                return int(value)
            raise SchemaError(f"field {column.name!r}: {value} is no 64-bit integer")
        case "float64" if isinstance(value, float) and math.isfinite(value):
            return float(value) + 0.0  # -0.0 + 0.0 is 0.0
        case "float64" if isinstance(value, int) and not isinstance(value, bool) and _exact_float(value):
            return float(value)
        case "string":
            return _text(column, value)
    raise SchemaError(f"field {column.name!r} is {column.type}, and {value!r} is not")


def _exact_float(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _text(column: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise SchemaError(f"field {column.name!r} is {column.type}, and {value!r} is no string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SchemaError(
            f"field {column.name!r}: {value!r} has half a surrogate pair, which no text has"
        ) from None
    return str.__str__(value)  # of an enum or a NumPy string, the text alone
