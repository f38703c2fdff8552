"""The nodes of a filter, and how Python's operators build them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from vecbridge.errors import SchemaError

Op = Literal["==", "!=", "<", "<=", ">", ">="]
Scalar = bool | int | float | str

_WIDEST: Final = 1_000  # items that & and | still copy into a new node


class _Combinable:
    """Gives every node ``&``, ``|``, ``~``; refuses ``and``, ``or``, ``not``, which no class can overload."""

    __slots__ = ()

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
        return Cmp(self.name, "==", literal(self.name, value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Cmp(self.name, "!=", literal(self.name, value))

    def __lt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<", literal(self.name, value))

    def __le__(self, value: Scalar) -> Filter:
        return Cmp(self.name, "<=", literal(self.name, value))

    def __gt__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">", literal(self.name, value))

    def __ge__(self, value: Scalar) -> Filter:
        return Cmp(self.name, ">=", literal(self.name, value))

    __hash__ = None  # type: ignore[assignment]

    def isin(self, values: Iterable[Scalar]) -> Filter:
        """The value is one of these; ``isin([])`` matches nothing."""
        if isinstance(values, str):
            raise SchemaError(
                f"field {self.name!r}: isin() takes a list of values, not the string {values!r}"
            )
        return In(self.name, tuple(literal(self.name, value) for value in values))

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


COMPARE: Final[dict[Op, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


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
        SchemaError: No bool, int, float or str.
    """
    if value is None:
        raise SchemaError(f"field {name!r} is compared with None: use field({name!r}).is_null()")
    if isinstance(value, Scalar):
        return value
    if getattr(value, "shape", None) == () and isinstance(unboxed := value.item(), Scalar):  # NumPy's
        return unboxed
    raise SchemaError(f"field {name!r} is compared with {shown(value)}: a bool, int, float or str")


def shown(value: Any) -> str:
    """A value in an error message: its repr, cut where it is long or deep, and never an error itself."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an int of more than 4,300 digits
        return f"a value of type {type(value).__name__}"


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
