"""How deep and how large a filter is, and what it uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from vecbridge.errors import SchemaError
from vecbridge.filters.nodes import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or

MAX_DEPTH: Final = 100  # levels of any filter in normal or JSON form; the capabilities have limits below it
MAX_LEAVES: Final = 1_000_000
_BRANCHES: Final = (And, Or)
_SEQUENCES: Final = (tuple, list)


def require_size(filter: Filter, *, depth: int = MAX_DEPTH, leaves: int = MAX_LEAVES) -> None:
    """Refuses a filter that is nested too deeply or has too many comparisons.

    What counts is the normal form: And in And and Or in Or are one level, ``Not`` is none. So a thousand
    ``&`` in a row are two levels, the And and its comparisons. An ``In`` is one comparison, however long.

    Args:
        filter: Any filter, of any depth.
        depth: Levels, at most.
        leaves: Comparisons, at most.

    Raises:
        SchemaError: More than that.

    Example:
        >>> from vecbridge import field
        >>> require_size((field("year") > 2000) & (field("year") < 2010), depth=2, leaves=2)
        >>> require_size((field("year") > 2000) & (field("year") < 2010), depth=2, leaves=1)
        Traceback (most recent call last):
            ...
        vecbridge.errors.SchemaError: the filter has 2 comparisons, and at most 1 is allowed: ...
    """
    levels, count = _size(filter)
    if count > leaves:
        many = f"{count:,}" if count <= MAX_LEAVES else f"more than {MAX_LEAVES:,}"
        raise SchemaError(
            f"the filter has {many} comparisons, and at most {leaves:,} {_are(leaves)} allowed: "
            "put the values of a field into one isin([...]), or ask with several filters"
        )
    if levels > depth:
        raise SchemaError(
            f"the filter is nested {levels:,} levels deep, and at most {depth:,} {_are(depth)} allowed: "
            "write it with fewer changes between & and |, or ask with several filters"
        )


def field_names(filter: Filter) -> set[str]:
    """The fields that a filter reads."""
    return {node.name for node in _nodes(filter) if isinstance(node, Cmp | In | Contains | IsEmpty | IsNull)}


def ordered_names(filter: Filter) -> set[str]:
    """The fields that a filter compares by order."""
    return {node.name for node in _nodes(filter) if isinstance(node, Cmp) and node.op not in ("==", "!=")}


def operators(filter: Filter, name: str | None = None) -> set[str]:
    """The operators that a normalized filter uses, named as in its JSON form.

    Args:
        filter: Any filter.
        name: Only those on this field; ``not`` is on none.
    """
    used: set[str] = set()
    for node in _nodes(filter):
        if name is not None and getattr(node, "name", None) != name:
            continue
        match node:
            case Not():
                used.add("not")
            case Cmp(op=op):
                used.add(op)
            case In():
                used.add("in")
            case Contains():
                used.add("contains")
            case IsEmpty():
                used.add("is_empty")
            case IsNull():
                used.add("is_null")
    return used


def is_branch(node: Any) -> bool:
    """Whether a node is an And or Or that can be walked through."""
    return type(node) in _BRANCHES and type(node.items) in _SEQUENCES


def _nodes(filter: Filter) -> Iterator[Filter]:
    """Every node of a filter, without recursion."""
    todo = [filter]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, And | Or):
            todo += node.items
        elif isinstance(node, Not):
            todo.append(node.item)


def _size(filter: Filter) -> tuple[int, int]:
    """Levels and leaves of the normal form, without building it.

    An empty And or Or counts as a leaf; the normal form is smaller than measured where it vanishes. Counting
    stops after MAX_LEAVES, because nodes can be shared: ``f = f & f``, thirty times, has a billion leaves.
    """
    levels = leaves = 0
    # A node, whether an odd number of Not is around it, the kind that it would merge into, and its level.
    todo: list[tuple[Any, bool, type[And] | type[Or] | None, int]] = [(filter, False, None, 1)]
    while todo and leaves <= MAX_LEAVES:
        node, negated, above, level = todo.pop()
        if type(node) is Not:
            todo.append((node.item, not negated, above, level))
        elif is_branch(node) and node.items:
            if len(node.items) > 1:
                kind = And if (type(node) is And) != negated else Or
                level += kind is not above
                above = kind
            todo += [(item, negated, above, level) for item in node.items]
        else:
            leaves += 1
            if level > levels:
                levels = level
    return levels, leaves


def _are(limit: int) -> str:
    return "is" if limit == 1 else "are"
