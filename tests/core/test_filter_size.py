"""Filters of any depth and size: read, merged, or refused with a typed error, and never a RecursionError."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings

from vecbridge import filters
from vecbridge.capabilities import Capabilities
from vecbridge.errors import SchemaError
from vecbridge.filters import And, Contains, Filter, In, Not, Or, field, require_size
from vecbridge.schema import CollectionSpec
from vecbridge.testing import strategies
from vecbridge.testing.checks import FIELDS

SPEC = CollectionSpec.single("photos", dim=2, fields=FIELDS)
ALL = Capabilities(backend="all", indexes=frozenset({"auto"}))
LONG = 10_000  # ten times what Python's own recursion takes
year, tags = field("year"), field("tags")
leaf = year == 1

Step = Callable[[Filter], Filter]
FLAT: dict[str, tuple[Step, Callable[[Filter], bool]]] = {  # a step to repeat; what the normal form must be
    "& on the right": (lambda f: f & leaf, lambda f: f == And((leaf,) * (LONG + 1))),
    "& on the left": (lambda f: leaf & f, lambda f: f == And((leaf,) * (LONG + 1))),
    "| on the right": (lambda f: f | leaf, lambda f: f == Or((leaf,) * (LONG + 1))),
    "~": (lambda f: ~f, lambda f: f == leaf),
    "And of one": (lambda f: And((f,)), lambda f: f == leaf),
    "And of two": (lambda f: And((f, leaf)), lambda f: f == And((leaf,) * (LONG + 1))),
    "Or of an And of one": (lambda f: Or((And((f,)),)), lambda f: f == leaf),
    "~ and &": (lambda f: ~(~f | leaf), lambda f: isinstance(f, And) and len(f.items) == LONG + 1),
}
DEEP: dict[str, Step] = {
    "| and &": lambda f: (f | leaf) & leaf,
    "~ around &": lambda f: ~(f & leaf),
    "Or in And": lambda f: And((leaf, Or((f, leaf)))),
}
CALLS: dict[str, Callable[[Filter], Any]] = {
    "normalize": lambda f: filters.normalize(f, SPEC),
    "resolve_filter": lambda f: ALL.resolve_filter(f, SPEC),
    "to_dict": filters.to_dict,
    "require_size": lambda f: require_size(f, depth=64, leaves=2000),
}


def chain(step: Step, length: int = LONG) -> Filter:
    built: Filter = leaf
    for _ in range(length):
        built = step(built)
    return built


@pytest.mark.parametrize("name", FLAT)
def test_a_long_chain_that_can_be_merged_is_merged(name: str) -> None:
    step, expected = FLAT[name]
    built = chain(step)
    normalized = filters.normalize(built, SPEC)
    assert expected(normalized)
    assert filters.folded(normalized) == normalized
    assert filters.field_names(built) == {"year"}
    assert filters.ordered_names(built) == set()
    assert expected(filters.normalize(filters.from_dict(filters.to_dict(built)), SPEC))
    if isinstance(normalized, And | Or):
        with pytest.raises(SchemaError, match=r"10,001 comparisons, and at most 2,000 .* isin"):
            ALL.resolve_filter(built, SPEC)
    else:
        assert ALL.resolve_filter(built, SPEC) == leaf


@pytest.mark.parametrize("name", DEEP)
def test_one_that_cannot_be_merged_is_refused_by_every_call(name: str) -> None:
    built = chain(DEEP[name])
    for call in CALLS.values():
        with pytest.raises(SchemaError, match=r"\d0,001 (levels|comparisons)"):
            call(built)
    with pytest.raises(SchemaError, match=r"\d0,001 levels deep, and at most 64 are allowed: write it"):
        require_size(built, depth=64)
    assert filters.operators(built) >= {"=="}


@pytest.mark.parametrize("name", ["& on the right", "& on the left", "| on the right"])
def test_the_operators_copy_no_more_than_a_thousand_items_at_a_time(name: str) -> None:
    node = chain(FLAT[name][0])
    widths = []
    while isinstance(node, And | Or):
        widths.append(len(node.items))
        node = max(node.items, key=lambda item: len(getattr(item, "items", ())))
    assert max(widths) <= 1000
    assert len(widths) == 11


def without_empty_branches(tree: Filter) -> bool:
    match tree:
        case And(items) | Or(items):
            return bool(items) and all(without_empty_branches(item) for item in items)
        case Not(item):
            return without_empty_branches(item)
    return True


def size_of(normalized: Filter) -> tuple[int, int]:
    """Levels and leaves of a filter in normal form."""
    if not isinstance(normalized, And | Or):
        return 1, 1
    sizes = [size_of(item) for item in normalized.items]
    return 1 + max(levels for levels, _ in sizes), sum(leaves for _, leaves in sizes)


@settings(max_examples=200)
@given(strategies.filter_trees(SPEC, ALL))
def test_what_is_measured_is_the_normal_form(tree: Filter) -> None:
    assume(without_empty_branches(tree))
    levels, leaves = size_of(filters.normalize(tree, SPEC))
    require_size(tree, depth=levels, leaves=leaves)
    with pytest.raises(SchemaError, match=f"nested {levels} level"):
        require_size(tree, depth=levels - 1, leaves=leaves)
    with pytest.raises(SchemaError, match=f"has {leaves} comparison"):
        require_size(tree, depth=levels, leaves=leaves - 1)


def test_the_limits_of_a_backend_are_reached_and_not_passed() -> None:
    backend = replace(ALL, filter_depth=3, filter_leaves=4)
    for fits in (
        leaf & (leaf | leaf) & leaf,
        ~(~leaf | ~(leaf | (leaf | leaf))),
        And((year.isin(range(10_000)),) * 4),  # one comparison each
    ):
        assert backend.resolve_filter(fits, SPEC) == filters.normalize(fits, SPEC)
    with pytest.raises(SchemaError, match=r"has 5 comparisons, and at most 4 are allowed: .* isin"):
        backend.resolve_filter(leaf & leaf & (leaf | leaf | leaf), SPEC)
    with pytest.raises(SchemaError, match="nested 4 levels deep, and at most 3 are allowed: write it with"):
        backend.resolve_filter(leaf & (leaf | (leaf & leaf)), SPEC)


@pytest.mark.parametrize("step", [FLAT["& on the right"][0], FLAT["~"][0], *DEEP.values()])
def test_a_hundred_thousand_steps_are_answered_or_refused(step: Step) -> None:
    built = chain(step, 100_000)
    for call in CALLS.values():
        with suppress(SchemaError):
            call(built)


def test_a_filter_of_shared_nodes_is_measured_in_the_end() -> None:
    built = leaf | (year == 2)
    for _ in range(100):
        built = built & built | built
    with pytest.raises(SchemaError, match="more than 1,000,000 comparisons"):
        filters.normalize(built, SPEC)
    nothing: Filter = And(())
    for _ in range(100):
        nothing = And((nothing, nothing))
    with pytest.raises(SchemaError, match="more than 1,000,000 comparisons"):
        filters.to_dict(nothing)


def nested(form: Any, *wraps: Callable[[Any], Any], times: int) -> Any:
    for _ in range(times):
        for wrap in wraps:
            form = wrap(form)
    return form


LEAF_FORM = {"field": "year", "op": "==", "value": 1}


def test_json_nested_too_deeply_is_a_schema_error() -> None:
    deep = nested(LEAF_FORM, lambda f: {"and": [f, LEAF_FORM]}, lambda f: {"or": [f, LEAF_FORM]}, times=50)
    with pytest.raises(SchemaError, match="101 levels deep, and at most 100"):
        filters.from_dict(deep)
    assert filters.to_dict(filters.from_dict(deep["or"][0])) == deep["or"][0]
    deeper = nested(deep, lambda f: {"and": [f, LEAF_FORM]}, lambda f: {"or": [f, LEAF_FORM]}, times=LONG)
    with pytest.raises(SchemaError, match="levels"):
        filters.from_dict(deeper)


def test_json_nested_deeply_for_nothing_is_read() -> None:
    form = nested(LEAF_FORM, lambda f: {"and": [f]}, lambda f: {"not": f}, lambda f: {"not": f}, times=LONG)
    assert filters.normalize(filters.from_dict(form), SPEC) == leaf


@pytest.mark.parametrize(
    "text",
    [
        '{"not": ' * LONG + json.dumps(LEAF_FORM) + "}" * LONG,
        '{"field": "year", "op": "==", "value": ' + "[" * LONG + "]" * LONG + "}",
    ],
    ids=["nots", "lists"],
)
def test_json_text_too_deep_for_the_parser_is_a_schema_error(text: str) -> None:
    with pytest.raises(SchemaError, match="too deeply"):
        filters.from_json(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("9" * 5000, "not JSON"),
        ("[]", "JSON object"),
        ('{"and": [], "and": [{"field": "year", "op": "is_null"}]}', "a key comes twice"),
        ('{"field": "year", "op": "==", "value": [1]}', r"compared with \[1\]"),
    ],
    ids=["empty", "cut", "a long number", "a list", "a key twice", "a literal"],
)
def test_text_that_is_no_filter_is_a_schema_error(text: str, says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        filters.from_json(text)
    assert filters.from_json(json.dumps(filters.to_dict(~tags.contains("é")))) == Not(Contains("tags", "é"))


@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_a_literal_nested_deeply_is_a_schema_error(depth: int) -> None:
    value = nested(1, lambda inner: [inner], times=depth)
    for form in ({"op": "==", "value": value}, {"op": "in", "value": value}, {"op": value, "value": 1}):
        with pytest.raises(SchemaError):
            filters.from_dict({"field": "year"} | form)
    with pytest.raises(SchemaError):
        filters.from_dict({"field": "year", "op": "==", "values": value})


def test_a_number_too_long_to_print_is_a_schema_error() -> None:
    wrong = 10**5000
    for condition in (year == wrong, field("title") == wrong, In("flag", (wrong,))):
        with pytest.raises(SchemaError):
            filters.normalize(condition, SPEC)


@pytest.mark.parametrize("wrong", [And(5), Or("ab"), And(None), Not(5), Not(None)], ids=repr)
def test_a_node_of_something_else_is_a_schema_error(wrong: Any) -> None:
    for call in list(CALLS.values())[:3]:
        with pytest.raises(SchemaError, match="is not a filter"):
            call(wrong)
