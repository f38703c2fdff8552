"""``--where``: an SQL condition, read by sqlglot, as a filter.

The compiler is total: what it does not know it refuses by name, and a part of a node that it did not read
is refused too, so that no predicate is ever dropped. SQL has three-valued logic and vecbridge has one rule
(null matches ``is null`` alone); on this subset the rows that match are the same.
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
from vecbridge.filters import Cmp, Contains, Filter, In, IsNull, Not, Op, Scalar

Node: TypeAlias = Any  # exp.Expr, which sqlglot called exp.Expression before version 28
_OPS: Final[dict[type[Any], tuple[Op, Op]]] = {  # as written, and with the sides exchanged
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
    "Column": "a column alone is no condition: compare it, as in column = true",
    "Boolean": "a condition compares a field with a value",
    "Alias": "something stands behind the condition that does not belong to it",
}
_KNOWN: Final = "there are = <> < <= > >=, in, between, is null, contains(list, 'x'), and, or, not"


def parse_where(sql: str) -> Filter:
    """Compiles an SQL condition.

    Args:
        sql: Such as ``year >= 2020 and contains(tags, 'sea')``. Text stands in single quotes, with ``''`` for
            a quote; a field whose name is a word of SQL stands in double quotes.

    Returns:
        The filter; :func:`vecbridge.filters.normalize` still checks it against a collection.

    Raises:
        ConfigError: Names the piece of SQL that is wrong or that no filter can say.

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
            items = [_condition(each) for each in node.flatten(unnest=False)]
            return reduce(and_ if isinstance(node, exp.And) else or_, items)
        case exp.Not():
            _only(node, "this")
            return Not(_condition(node.this))
        case exp.In():
            _only(node, "this", "expressions")
            return In(_column(node.this, node), tuple(_value(each, node) for each in node.expressions))
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
        _refuse(node, "two columns are compared; text stands in single quotes, as in title = 'A'")
    if isinstance(right, exp.Column):
        return Cmp(_column(right, node), exchanged, _value(left, node))
    return Cmp(_column(left, node), op, _value(right, node))


def _is(node: Node) -> Filter:
    _only(node, "this", "expression")
    name = _column(node.this, node)
    if isinstance(node.expression, exp.Null):
        return IsNull(name)
    _refuse(node, f"after is comes null or not null; compare with {name} = …")


def _function(node: Node) -> Filter:
    name, arguments = _call(node)
    if name != "contains":
        _refuse(node, f"there is no function {name}; {_KNOWN}")
    if len(arguments) != 2:
        _refuse(node, "contains takes a list and a text: contains(tags, 'sea')")
    value = _value(arguments[1], node)
    if not isinstance(value, str):
        _refuse(node, "a list holds texts: contains(tags, 'sea')")
    return Contains(_column(arguments[0], node), value)


def _call(node: Node) -> tuple[str, list[Node]]:
    """Name and arguments, whether this version of sqlglot knows the function or not."""
    if isinstance(node, exp.Anonymous):
        _only(node, "this", "expressions")
        return str(node.this).lower(), list(node.expressions)
    if type(node).__name__ == "Contains":
        return "contains", [node.args[each] for each in _present(node)]
    return node.sql_name().lower() if isinstance(node, exp.Func) else type(node).__name__.lower(), []


def _column(node: Any, whole: Node) -> str:
    if isinstance(node, exp.Paren):
        return _column(node.this, whole)
    if not isinstance(node, exp.Column):
        _refuse(whole, f"{_text(node)} stands where a field's name belongs")
    if set(_present(node)) != {"this"} or not isinstance(node.this, exp.Identifier):
        _refuse(node, "a field's name has no dot: fields are not nested")
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
            _refuse(whole, "nothing equals null: say is null, or is not null")
        case exp.Column():
            _refuse(whole, f"{_text(node)} is a field here; text stands in single quotes")
    _refuse(whole, f"{_text(node)} is no text, number, true or false")


def _number(text: str, whole: Node) -> int | float:
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        _refuse(whole, f"{text} is no number")
    if not math.isfinite(value):
        _refuse(whole, f"{text} is beyond what a float64 holds")
    return value


def _only(node: Node, *names: str) -> None:
    """Refuses a node with a part that its case does not read (``BETWEEN SYMMETRIC``, ``IN (SELECT …)``)."""
    extra = [name for name in _present(node) if name not in names]
    if extra:
        _refuse(node, f"its {extra[0].replace('_', ' ')} is more than a filter can say")


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
    """What sqlglot stumbled over, in words that say what to do."""
    details = (getattr(error, "errors", None) or [{}])[0]
    found = details.get("description") or str(error).partition("\n")[0]
    near = f" at {details['highlight']!r}" if details.get("highlight") else ""
    if found.startswith("Required keyword"):
        problem = "something is missing"
    elif "Unexpected token" in found:
        problem = "this does not belong there"
    else:
        problem = re.sub(r"\x1b\[[0-9;]*m", "", found).rstrip(". ")
    return (
        f'not an SQL condition{near}: {problem} (a name that SQL has too, such as "case", in double quotes)'
    )
