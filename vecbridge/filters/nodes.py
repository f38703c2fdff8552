"""The nodes of a filter, and how Python's operators build them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, NoReturn

from vecbridge import timestamps
from vecbridge.errors import SchemaError
from vecbridge.texts import shown

Op = Literal["==", "!=", "<", "<=", ">", ">="]
Scalar = bool | int | float | str | datetime

_DEEPEST: Final = 6  # levels of a filter that an error message shows
_WIDEST: Final = 1_000  # items that & and | still copy into a new node


class _Combinable:
    """Gives every node ``&``, ``|``, ``~``; refuses ``and``, ``or``, ``not``, which no class can overload."""

    __slots__ = ()

    def __str__(self) -> str:
        return _sentence(self, _DEEPEST)

    def __and__(self, other: Filter) -> Filter:
        return And((*_merged(And, self), *_merged(And, other)))

    def __or__(self, other: Filter) -> Filter:
        return Or((*_merged(Or, self), *_merged(Or, other)))

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
    """The list has ``value`` among its elements."""

    name: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class IsNull(_Combinable):
    """The value is null or missing."""

    name: str


@dataclass(frozen=True, slots=True)
class IsEmpty(_Combinable):
    """The list has no elements; null is not empty."""

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


Filter = Cmp | In | Contains | IsNull | IsEmpty | And | Or | Not


#: A filter, or its JSON form as a dict.
AnyFilter = Filter | Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class FieldRef:
    """A field in an expression; :func:`field` makes it."""

    name: str

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return IsNull(self.name) if value is None else Cmp(self.name, "==", literal(self.name, value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Not(self == value) if value is None else Cmp(self.name, "!=", literal(self.name, value))

    def __lt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<", literal(self.name, value))

    def __le__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<=", literal(self.name, value))

    def __gt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">", literal(self.name, value))

    def __ge__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">=", literal(self.name, value))

    __hash__ = None  # type: ignore[assignment]

    def differs(self, value: Scalar) -> Filter:
        """The value is another one, or null; ``!=`` alone leaves rows without a value out."""
        return Or((Cmp(self.name, "!=", literal(self.name, value)), IsNull(self.name)))

    def isin(self, values: Iterable[Scalar | None]) -> Filter:
        """The value is one of these; ``isin([])`` matches nothing, ``isin([1, None])`` also null."""
        if isinstance(values, str):
            raise SchemaError(
                f"field {self.name!r}: isin() takes a list of values, not the string {values!r}"
            )
        values = list(values)
        among = In(self.name, tuple(literal(self.name, value) for value in values if value is not None))
        return Or((among, IsNull(self.name))) if any(value is None for value in values) else among

    def contains(self, value: Scalar) -> Filter:
        """The list has this element."""
        return Contains(self.name, literal(self.name, value))

    def is_empty(self) -> Filter:
        """The list has no elements; null is not empty."""
        return IsEmpty(self.name)

    def is_null(self) -> Filter:
        """The value is null or missing."""
        return IsNull(self.name)


#: Matches every row.
everything: Final[Filter] = And(())


def field(name: str) -> FieldRef:
    """A field to compare: ``field("year") >= 2020``.

    Args:
        name: A scalar field of the collection, or "id".

    Returns:
        A reference with ``== != < <= > >=``, ``differs``, ``isin``, ``contains``, ``is_empty`` and
        ``is_null``, which ``== None`` is too.

    Example:
        >>> (field("year") >= 2020) & ~field("tags").contains("sea")
        And(items=(Cmp(name='year', op='>=', value=2020), Not(item=Contains(name='tags', value='sea'))))
    """
    return FieldRef(name)


COMPARE: Final[dict[Op, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _sentence(node: object, levels: int) -> str:
    """A filter as people write it, such as ``year >= 2020 and not contains(tags, 'sea')``."""
    match node:
        case Cmp(name, op, value):
            return f"{name} {op} {_value(value)}"
        case In(name, tuple(values)):
            return f"{name} in ({_listed(map(_value, values), len(values), ', ')})"
        case Contains(name, value):
            return f"contains({name}, {_value(value)})"
        case IsNull(name):
            return f"{name} is null"
        case IsEmpty(name):
            return f"is_empty({name})"
        case And(tuple(items)) | Or(tuple(items)) if levels:
            inner = (_sentence(each, levels - 1) for each in items)
            word = " and " if isinstance(node, And) else " or "
            return f"({_listed(inner, len(items), word)})" if items else "all" if word == " and " else "none"
        case Not(item) if levels:
            return f"not {_sentence(item, levels - 1)}"
        case _:  # deeper, or a node of something else
            return "…" if isinstance(node, Filter) else shown(node)


def _value(value: object) -> str:
    return f"'{timestamps.readable(value)}'" if isinstance(value, datetime) else shown(value)


def _listed(texts: Iterable[str], count: int, between: str) -> str:
    return between.join([*islice(texts, _DEEPEST), *(["…"] if count > _DEEPEST else [])])


def _merged(kind: type[And] | type[Or], node: Any) -> tuple[Filter, ...]:
    """The items that a node brings into an And or Or of its own kind.

    A node of many items stays whole, since each ``&`` copies what it merges: a chain of n of them would copy
    n * n / 2 items. :func:`vecbridge.filters.normalize` merges all.
    """
    if not isinstance(node, Filter):
        raise TypeError(
            f"{shown(node)} is not a filter: put each comparison in parentheses, (field('a') == 1) & …"
        )
    return node.items if isinstance(node, kind) and len(node.items) < _WIDEST else (node,)


def literal(name: str, value: Any) -> Scalar:
    """What a field is compared with, a NumPy scalar as the Python value in it.

    Raises:
        SchemaError: No bool, int, float, str or datetime with a time zone.
    """
    if value is None:
        raise SchemaError(f"field {name!r} is compared with None: use field({name!r}).is_null()")
    if isinstance(value, datetime):
        try:
            return timestamps.utc(value)
        except ValueError as exc:
            raise SchemaError(f"field {name!r}: {exc}") from None
    if isinstance(value, Scalar):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # NumPy's
        unboxed = value.item()
        if isinstance(unboxed, Scalar) and not isinstance(unboxed, datetime):  # np.datetime64 has no zone
            return unboxed
    raise SchemaError(
        f"field {name!r} is compared with {shown(value)}: a bool, number, str or datetime with a time zone"
    )
