"""``--where``: compiles an SQL condition, parsed by sqlglot, to a filter.

The compiler is total: a node that it does not know raises an error that names it, and so does a part of a
node that it does not read, so that no predicate is ever dropped. SQL has three-valued logic and vecbridge has
one rule (null matches ``is null`` alone); for the conditions that are accepted, the same rows match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any, Final, NoReturn, TypeAlias

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from vecbridge.errors import ConfigError
from vecbridge.filters import Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Op, Scalar

Node: TypeAlias = Any  # exp.Expr, which sqlglot called exp.Expression before version 28
_OPS: Final[dict[type[Any], tuple[Op, Op]]] = {  # the operator, and the one with the sides exchanged
    exp.EQ: ("==", "=="),
    exp.NEQ: ("!=", "!="),
    exp.LT: ("<", ">"),
    exp.LTE: ("<=", ">="),
    exp.GT: (">", "<"),
    exp.GTE: (">=", "<="),
}
_HINTS: Final[dict[str, str]] = {
    "Like": "a filter compares whole values; there is no pattern matching",
    "ILike": "a filter compares whole values; there is no pattern matching",
    "Column": "a column alone is not a condition: compare it, as in column = true",
    "Boolean": "a condition compares a field with a value",
    "Alias": "the condition is followed by something that is not part of it",
}
_KNOWN: Final = (
    "known are = <> < <= > >=, in, between, is null, contains(list, 'x'), is_empty(list), and, or, not"
)


def parse_where(sql: str) -> Filter:
    """Compiles an SQL condition.

    Args:
        sql: Such as ``year >= 2020 and contains(tags, 'sea')``. Text is put in single quotes, with ``''`` for
            a quote; a field whose name is an SQL keyword is put in double quotes.

    Returns:
        The filter; times are texts in it. :func:`vecbridge.cli.dates.with_dates` reads the bare dates among
        them, and :func:`vecbridge.filters.normalize` checks it against a collection.

    Raises:
        ConfigError: Names the piece of SQL that is wrong or that a filter cannot express.

    Example:
        >>> parse_where("2020 <= year and not contains(tags, 'sea')")
        And(items=(Cmp(name='year', op='>=', value=2020), Not(item=Contains(name='tags', value='sea'))))
    """
    if not sql.strip():
        raise ConfigError("--where: the condition is empty")
    try:
        return _condition(parse_one(sql, into=exp.Condition))
    except SqlglotError as exc:
        raise ConfigError(f"--where: {_first_problem(exc)}") from None
    except RecursionError:
        raise ConfigError("--where: the condition is nested too deeply") from None


def _condition(node: Node) -> Filter:
    match node:
        case exp.Paren():
            _only(node, "this")
            return _condition(node.this)
        case exp.And() | exp.Or():
            _only(node, "this", "expression")
            items = [_condition(operand) for operand in node.flatten(unnest=False)]
            return reduce(and_ if isinstance(node, exp.And) else or_, items)
        case exp.Not():
            _only(node, "this")
            return Not(_condition(node.this))
        case exp.In():
            _only(node, "this", "expressions")
            return In(_column(node.this, node), tuple(_value(item, node) for item in node.expressions))
        case exp.Between():
            _only(node, "this", "low", "high")
            name = _column(node.this, node)
            low, high = _value(node.args["low"], node), _value(node.args["high"], node)
            return Cmp(name, ">=", low) & Cmp(name, "<=", high)
        case exp.Is():
            return _is(node)
        case exp.Func():
            return _function(node)
    if type(node) in _OPS:
        return _comparison(node)
    _refuse(node, _HINTS.get(type(node).__name__, _KNOWN))


def _comparison(node: Node) -> Filter:
    _only(node, "this", "expression")
    op, exchanged = _OPS[type(node)]
    left, right = node.this, node.expression
    if isinstance(left, exp.Column) and isinstance(right, exp.Column):
        _refuse(node, "two columns cannot be compared; put text in single quotes, as in title = 'A'")
    if isinstance(right, exp.Column):
        return Cmp(_column(right, node), exchanged, _value(left, node))
    return Cmp(_column(left, node), op, _value(right, node))


def _is(node: Node) -> Filter:
    _only(node, "this", "expression")
    name = _column(node.this, node)
    if isinstance(node.expression, exp.Null):
        return IsNull(name)
    _refuse(node, f"is must be followed by null or not null; compare with {name} = …")


def _function(node: Node) -> Filter:
    name, arguments = _call(node)
    if name == "is_empty":
        if len(arguments) != 1:
            _refuse(node, "is_empty takes a list: is_empty(tags)")
        return IsEmpty(_column(arguments[0], node))
    if name != "contains":
        _refuse(node, f"there is no function {name}; {_KNOWN}")
    if len(arguments) != 2:
        _refuse(node, "contains takes a list and an element: contains(tags, 'sea')")
    value = _value(arguments[1], node)
    if isinstance(value, bool):
        _refuse(node, "the elements of a list are texts or numbers: contains(tags, 'sea')")
    return Contains(_column(arguments[0], node), value)


def _call(node: Node) -> tuple[str, list[Node]]:
    """Name and arguments of a function, whether this version of sqlglot knows it or not."""
    if isinstance(node, exp.Anonymous):
        _only(node, "this", "expressions")
        return str(node.this).lower(), list(node.expressions)
    if type(node).__name__ == "Contains":
        return "contains", [node.args[name] for name in _present(node)]
    return node.sql_name().lower() if isinstance(node, exp.Func) else type(node).__name__.lower(), []


def _column(node: Any, whole: Node) -> str:
    if isinstance(node, exp.Paren):
        return _column(node.this, whole)
    if not isinstance(node, exp.Column):
        _refuse(whole, f"a field's name is expected instead of {_text(node)}")
    if set(_present(node)) != {"this"} or not isinstance(node.this, exp.Identifier):
        _refuse(node, "a field's name has no dot, because fields are not nested")
    return str(node.name)


def _value(node: Any, whole: Node) -> Scalar:
    match node:
        case exp.Paren():
            return _value(node.this, whole)
        case exp.Literal(is_string=True):
            return str(node.this)
        case exp.Literal():
            return _number(str(node.this), whole)
        case exp.Boolean():
            return bool(node.this)
        case exp.Neg(this=exp.Literal(is_string=False)):
            return -_number(str(node.this.this), whole)
        case exp.Null():
            _refuse(whole, "nothing equals null: use is null or is not null")
        case exp.Column():
            _refuse(whole, f"{_text(node)} is a field here; put text in single quotes")
    _refuse(whole, f"{_text(node)} is not a text, a number, true or false")


def _number(text: str, whole: Node) -> int | float:
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        _refuse(whole, f"{text} is not a number")
    if not math.isfinite(value):
        _refuse(whole, f"{text} is beyond the range of float64")
    return value


def _only(node: Node, *names: str) -> None:
    """Refuses a node with a part that is not compiled (``BETWEEN SYMMETRIC``, ``IN (SELECT …)``)."""
    extra = [name for name in _present(node) if name not in names]
    if extra:
        _refuse(node, f"its {extra[0].replace('_', ' ')} cannot be expressed by a filter")


def _present(node: Node) -> list[str]:
    return [
        name for name, value in node.args.items() if value is not None and value is not False and value != []
    ]


def _refuse(node: Any, why: str) -> NoReturn:
    raise ConfigError(f"--where: {_text(node)}: {why}")


def _text(node: Any) -> str:
    sql: Callable[[], str] | None = getattr(node, "sql", None)
    return sql() if sql else repr(node)


def _first_problem(error: SqlglotError) -> str:
    """The first error of sqlglot as a message that says what to do."""
    details = (getattr(error, "errors", None) or [{}])[0]
    description = details.get("description") or str(error).partition("\n")[0]
    near = f" at {details['highlight']!r}" if details.get("highlight") else ""
    if description.startswith("Required keyword"):
        problem = "something is missing"
    elif "Unexpected token" in description:
        problem = "this is not expected here"
    else:
        problem = re.sub(r"\x1b\[[0-9;]*m", "", description).rstrip(". ")
    return f"not an SQL condition{near}: {problem} (put names that are SQL keywords in double quotes)"
