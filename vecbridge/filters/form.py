"""The JSON form of filters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vecbridge import timestamps
from vecbridge.errors import SchemaError
from vecbridge.filters.nodes import (
    COMPARE,
    And,
    Cmp,
    Contains,
    FieldRef,
    Filter,
    In,
    IsEmpty,
    IsNull,
    Not,
    Or,
    Scalar,
    literal,
)
from vecbridge.filters.shape import is_branch, require_size
from vecbridge.texts import shown


def to_dict(filter: Filter) -> dict[str, Any]:
    """The JSON form; :func:`from_dict` is the inverse. A timestamp is ISO 8601 text in it.

    Raises:
        SchemaError: More than 100 levels, as :func:`require_size` counts them.
    """
    require_size(filter)
    root: list[Any] = [None]
    todo: list[tuple[Any, Any, Any]] = [(filter, root, 0)]  # a node, and where its form belongs
    while todo:
        node, holder, place = todo.pop()
        if isinstance(node, Not):
            form: dict[str, Any] = {"not": None}
            todo.append((node.item, form, "not"))
        elif is_branch(node):
            items: list[Any] = [None] * len(node.items)
            form = {"and" if isinstance(node, And) else "or": items}
            todo += [(item, items, number) for number, item in enumerate(node.items)]
        else:
            form = _leaf_form(node)
        holder[place] = form
    form = root[0]
    return form


def from_dict(values: Mapping[str, Any]) -> Filter:
    """Reads the JSON form of a filter.

    Raises:
        SchemaError: An unknown key or operator, a value of the wrong shape, more than 100 levels (as
            :func:`require_size` counts them).
    """
    done: list[Filter] = []  # what was read, up to the node under way
    todo: list[Any] = [values]
    while todo:
        form = todo.pop()
        if isinstance(form, _Closing):
            items = tuple(done[form.start :])
            done[form.start :] = [Not(items[0]) if form.key == "not" else _branch(form.key, items)]
            continue
        if not isinstance(form, Mapping):
            raise SchemaError(f"a filter is a JSON object, not {shown(form)}")
        [key, inner] = next(iter(form.items())) if len(form) == 1 else (None, None)
        if key in ("and", "or") and isinstance(inner, list):
            todo.append(_Closing(key, len(done)))
            todo += reversed(inner)
        elif key == "not":
            todo += [_Closing(key, len(done)), inner]
        else:
            done.append(_read_leaf(form))
    require_size(done[0])
    return done[0]


def from_json(text: str) -> Filter:
    """Reads a filter from JSON text.

    Raises:
        SchemaError: Not JSON, or what :func:`from_dict` refuses.

    Example:
        >>> from_json('{"field": "year", "op": ">=", "value": 2020}')
        Cmp(name='year', op='>=', value=2020)
    """
    try:
        values = json.loads(text, object_pairs_hook=_no_repeats)
    except RecursionError:
        raise SchemaError("the filter is nested too deeply to be read as JSON: write it flatter") from None
    except ValueError as exc:
        raise SchemaError(f"not JSON: {exc}") from None
    return from_dict(values)


@dataclass(frozen=True, slots=True)
class _Closing:
    """The end of an and, or or not: what was read from ``start`` on is inside it."""

    key: str
    start: int


def _branch(key: str, items: tuple[Filter, ...]) -> Filter:
    return And(items) if key == "and" else Or(items)


def _leaf_form(node: Any) -> dict[str, Any]:
    match node:
        case Cmp(name, op, value):
            return {"field": name, "op": op, "value": _json_value(value)}
        case In(name, values):
            return {"field": name, "op": "in", "value": [_json_value(value) for value in values]}
        case Contains(name, value):
            return {"field": name, "op": "contains", "value": _json_value(value)}
        case IsEmpty(name):
            return {"field": name, "op": "is_empty"}
        case IsNull(name):
            return {"field": name, "op": "is_null"}
    raise SchemaError(f"{shown(node)} is not a filter")


def _json_value(value: Scalar) -> Scalar:
    return timestamps.text(value) if isinstance(value, datetime) else value


def _read_leaf(values: Mapping[str, Any]) -> Filter:
    name, op = values.get("field"), values.get("op")
    expected = {"field", "op"} if op in ("is_null", "is_empty") else {"field", "op", "value"}
    if not isinstance(name, str) or set(values) != expected:
        raise SchemaError(
            f"not a filter: {shown(dict(values))}; as {{'field': …, 'op': …, 'value': …}}, and, or, not"
        )
    return _leaf(FieldRef(name), op, values.get("value"))


def _leaf(ref: FieldRef, op: Any, value: Any) -> Filter:
    if value is None and op in ("==", "!="):
        return ref == None if op == "==" else ref != None  # noqa: E711 - builds a filter
    if isinstance(op, str) and op in COMPARE:
        return Cmp(ref.name, op, literal(ref.name, value))
    if op == "in" and isinstance(value, list):
        return ref.isin(value)
    if op == "contains":
        return ref.contains(value)
    if op == "is_null":
        return ref.is_null()
    if op == "is_empty":
        return ref.is_empty()
    raise SchemaError(
        f"field {ref.name!r}: {shown(op)} {shown(value)}: "
        f"the operators are {' '.join(COMPARE)} in contains is_empty is_null"
    )


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key comes twice")
    return values
