"""Filters: building, the JSON form, and the one meaning that normalizing must keep."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecbridge as vb
from vecbridge import filters
from vecbridge.capabilities import Capabilities
from vecbridge.errors import SchemaError
from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or, field
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.testing import strategies
from vecbridge.testing.checks import FIELDS
from vecbridge.testing.model import Model, fits, holds

SPEC = CollectionSpec.single("photos", dim=2, fields=FIELDS)
ALL = Capabilities(backend="all", indexes=frozenset({"auto"}))
trees = strategies.filter_trees(SPEC, ALL)
year, tags = field("year"), field("tags")
PARIS = ZoneInfo("Europe/Paris")


def nodes(node: Filter) -> Iterator[Filter]:
    yield node
    match node:
        case And(items) | Or(items):
            for each in items:
                yield from nodes(each)
        case Not(item):
            yield from nodes(item)


@settings(max_examples=60)
@given(strategies.columns_and_filters(SPEC, ALL, max_rows=5))
def test_normalizing_keeps_the_meaning(drawn: tuple[dict[str, Any], list[Filter]]) -> None:
    columns, conditions = drawn
    model = Model(SPEC)
    model.upsert(columns)
    for tree in conditions:
        normalized, negated = filters.normalize(tree, SPEC), filters.normalize(~tree, SPEC)
        for record in model.records.values():
            assert filters.matches(normalized, record) == holds(tree, record)
            assert filters.matches(negated, record) == holds(~tree, record)
            present = {name: value for name, value in record.items() if value is not None}
            assert filters.matches(normalized, present) == holds(tree, present)


odd_numbers = [2**53 + 1, -(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 2**1000, 10**400, 0.0, -0.0, 1.0, 0, 1]
odd_literals = st.sampled_from(
    [*odd_numbers, float("nan"), float("inf"), True, "", "a", "\ud800", "\U00010000", None, [], b"a"]
)
names = st.sampled_from([*FIELDS, "id", "vector", "nope"])
odd_leaves = st.one_of(
    st.builds(Cmp, names, st.sampled_from([*filters.COMPARE, "~=", "in"]), odd_literals),
    st.builds(In, names, st.lists(odd_literals, max_size=2).map(tuple)),
    st.builds(Contains, names, odd_literals),
    st.builds(IsNull, names),
    st.sampled_from([None, "year > 1", field("flag"), 5]),
)


@settings(max_examples=400)
@given(odd_leaves)
def test_a_filter_is_normalized_exactly_where_it_fits_the_spec(leaf: Any) -> None:
    for node in (leaf, Not(leaf), Or((year.is_null(), leaf))):
        if fits(node, SPEC):
            filters.normalize(node, SPEC)
        else:
            with pytest.raises(SchemaError):
                filters.normalize(node, SPEC)


@settings(max_examples=60)
@given(strategies.columns_and_filters(SPEC, ALL, max_rows=4))
def test_folding_keeps_the_meaning_and_leaves_nothing_constant(
    drawn: tuple[dict[str, Any], list[Filter]],
) -> None:
    columns, conditions = drawn
    model = Model(SPEC)
    model.upsert(columns)
    for tree in conditions:
        folded = filters.folded(filters.normalize(tree, SPEC))
        if isinstance(folded, bool):
            assert model.find(tree) == (model.find() if folded else set())
            assert holds(tree, {"id": "a"}) is folded
            continue
        assert {key for key, row in model.records.items() if filters.matches(folded, row)} == model.find(tree)
        assert repr(filters.normalize(folded, SPEC)) == repr(folded)
        for node in nodes(folded):
            assert getattr(node, "items", True), folded
            assert getattr(node, "values", True), folded


BESIDE: dict[str, list[Any]] = {
    "year": [2**53, 2**53 + 1, 2**53 + 2],
    "price": [-5e-324, 0.0, 5e-324],
    "title": ["A", "\uffff", "\U00010000"],
    "flag": [False, True],
}


@pytest.mark.parametrize(("name", "values"), BESIDE.items())
@pytest.mark.parametrize("op", filters.COMPARE)
def test_each_comparison_and_its_negation_with_the_values_beside(
    name: str, values: list[Any], op: Any
) -> None:
    for literal in values:
        tree = Cmp(name, op, literal)
        if not fits(tree, SPEC):
            continue
        for node in (tree, ~tree, ~~tree, ~(tree & ~year.is_null()), ~(tree | year.is_null())):
            normalized = filters.normalize(node, SPEC)
            for stored in [*values, None]:
                record = {"year": 1, name: stored}
                assert filters.matches(normalized, record) == holds(node, record), (node, record)


@pytest.mark.parametrize(
    "leaf",
    [
        tags.contains("sea"),
        tags.contains("se"),
        tags.contains(""),
        tags.is_null(),
        year.isin([1, 2, 3, 4, 5]),
        year.isin([5]),
        year.isin([]),
    ],
    ids=repr,
)
def test_each_list_and_its_negation_on_known_records(leaf: Filter) -> None:
    lists = [["sea", "sun"], ["sun", "sea"], ["seaside"], ["se"], [""], [], None]
    records = [
        {"tags": each, "year": number} for number, each in zip([5, 1, 6, 3, 0, None, 5], lists, strict=True)
    ]
    for node in (leaf, ~leaf, ~~leaf):
        normalized = filters.normalize(node, SPEC)
        kept = [filters.matches(normalized, record) for record in [*records, {}]]
        assert kept == [holds(node, record) for record in [*records, {}]]


NOTHING, SOME = In("year", ()), IsNull("title")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (And(()), True),
        (Or(()), False),
        (NOTHING, False),
        (Not(NOTHING), Not(IsNull("year"))),
        (And((SOME, NOTHING)), False),
        (And((SOME, Or((SOME, And(()))))), SOME),
        (Or((SOME, NOTHING)), SOME),
        (Or((SOME, And((Or(()), SOME)))), SOME),
        (Or((SOME, And(()))), True),
        (
            And((SOME, Or((NOTHING, And((SOME, Cmp("year", ">", 1))))))),
            And((SOME, SOME, Cmp("year", ">", 1))),
        ),
        (And((Or((SOME, SOME)), Not(NOTHING))), And((Or((SOME, SOME)), Not(IsNull("year"))))),
        (Or((And((NOTHING, SOME)), Or(()))), False),
        (And((Or((And(()), NOTHING)), And(()))), True),
        (SOME, SOME),
    ],
    ids=repr,
)
def test_known_folds(condition: Filter, expected: Filter | bool) -> None:
    assert repr(filters.folded(condition)) == repr(expected)


@settings(max_examples=80)
@given(trees)
def test_normalizing_leaves_not_on_leaves_and_nothing_nested_in_its_own_kind(tree: Filter) -> None:
    normalized = filters.normalize(tree, SPEC)
    assert repr(filters.normalize(normalized, SPEC)) == repr(normalized)
    for node in nodes(normalized):
        match node:
            case Not(item):
                assert isinstance(item, In | Contains | IsEmpty | IsNull)
            case And(items) | Or(items):
                assert len(items) != 1
                assert not any(isinstance(each, type(node)) for each in items)


@settings(max_examples=80)
@given(trees)
def test_the_json_form_reads_back_the_same_to_the_type(tree: Filter) -> None:
    copy = filters.from_dict(json.loads(json.dumps(filters.to_dict(tree))))
    # == holds 1 and True for the same; a time is text in JSON, and a time again in normal form
    assert repr(filters.normalize(copy, SPEC)) == repr(filters.normalize(tree, SPEC))
    assert repr(pickle.loads(pickle.dumps(tree))) == repr(tree)


@given(trees)
def test_fields_and_operators_are_those_of_the_leaves(tree: Filter) -> None:
    normalized = filters.normalize(tree, SPEC)
    leaves = [node for node in nodes(normalized) if isinstance(node, Cmp | In | Contains | IsEmpty | IsNull)]
    assert filters.field_names(normalized) == {node.name for node in leaves}
    kinds = {In: "in", Contains: "contains", IsEmpty: "is_empty", IsNull: "is_null"}
    expected = {node.op if isinstance(node, Cmp) else kinds[type(node)] for node in leaves}
    if any(isinstance(node, Not) for node in nodes(normalized)):
        expected.add("not")
    assert filters.operators(normalized) == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["year", "title", "==", "in", "contains", "is_empty", "is_null", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["field", "op", "value", "and", "or", "not", "x"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@settings(max_examples=150)
@given(json_values)
def test_any_json_is_a_filter_that_fits_or_a_schema_error(values: Any) -> None:
    for form in (
        values,
        {"field": "year", "op": values, "value": 1},
        {"field": "title", "op": "in", "value": values},
    ):
        try:
            filters.normalize(filters.from_dict(form), SPEC)
        except SchemaError:
            continue


def test_operators_build_the_tree_they_read_like() -> None:
    assert (year >= 2020) & tags.contains("sea") & ~field("title").isin(["B"]) == And(
        (Cmp("year", ">=", 2020), Contains("tags", "sea"), Not(In("title", ("B",))))
    )
    assert (year < 1) | (year > 2) | year.is_null() == Or(
        (Cmp("year", "<", 1), Cmp("year", ">", 2), IsNull("year"))
    )
    assert [(year == 1), (year != 1), (year <= 1)] == [
        Cmp("year", op, 1)
        for op in ("==", "!=", "<=")  # type: ignore[arg-type]
    ]
    assert (2020 <= year) == (year >= 2020)  # noqa: SIM300


@pytest.mark.parametrize(
    "write",
    [
        lambda: (year > 1) and (year < 2),
        lambda: (year > 1) or (year < 2),
        lambda: not (year > 1),
        lambda: 1 < year < 2,
        lambda: (year > 1) & True,
        lambda: (year > 1) | field("flag"),
    ],
)
def test_what_python_cannot_overload_is_refused_and_not_misread(write: Any) -> None:
    with pytest.raises(TypeError):
        write()


@pytest.mark.parametrize(
    "value",
    [
        [1], {"a": 1}, b"x", 1j, np.array([1, 2]), np.array([1]), Any, date(2020, 1, 1), datetime(2020, 1, 1),
        np.datetime64("2020-01-01"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_literal_that_is_no_scalar_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError):
        year == value  # noqa: B015
    with pytest.raises(SchemaError):
        year.isin([value])


def test_isin_takes_a_list_and_not_a_word() -> None:
    with pytest.raises(SchemaError, match="list"):
        field("title").isin("abc")


class Years(IntEnum):
    FIRST = 1


@pytest.mark.parametrize(
    ("condition", "exact"),
    [
        (year == np.int64(5), 5),
        (year == Years.FIRST, 1),
        (field("price") == np.float64(0.5), 0.5),
        (field("price") == np.float32(0.5), 0.5),
        (field("price") == 3, 3.0),
        (field("price") == -0.0, 0.0),
        (field("flag") == np.bool_(True), True),
        (field("title") == np.str_("a"), "a"),
        (field("title") == Metric.L2, "l2"),
        (year == 5.0, 5),
        (field("sizes").contains(5.0), 5),
        (field("ratios").contains(3), 3.0),
        (field("taken") == "2020-05-17T12:00:00+02:00", datetime(2020, 5, 17, 10, tzinfo=UTC)),
        (field("taken") == datetime(2020, 5, 17, 12, tzinfo=PARIS), datetime(2020, 5, 17, 10, tzinfo=UTC)),
    ],
    ids=repr,
)
def test_a_normalized_literal_has_exactly_the_type_of_its_field(condition: Filter, exact: Any) -> None:
    value = filters.normalize(condition, SPEC).value
    assert (repr(value), type(value)) == (repr(exact), type(exact))


@pytest.mark.parametrize(
    "condition",
    [
        field("flag") == 1,
        field("flag") < True,
        year == True,  # noqa: E712
        year == float("nan"),
        year == 2**63,
        year == "1",
        field("price") == float("nan"),
        field("price") == float("inf"),
        field("price") == True,  # noqa: E712
        field("title") == 1,
        field("title") == "\ud800",
        field("title").contains("a"),
        tags == "a",
        tags.contains(1),
        tags.isin(["a"]),
        field("extra") == "{}",
        field("extra").isin([]),
        field("id") == 1,
        field("id").contains("a"),
        field("taken") == 1,
        field("taken") == "2020-05-17",
        field("taken") == "2020-05-17T12:00:00.0000001Z",
        field("taken").isin(["0001-01-01T00:00:00+01:00"]),
        field("sizes").contains("1"),
        field("ratios").contains(float("nan")),
        year.is_empty(),
        field("vector").is_null(),
        field("nope").is_null(),
        Cmp("year", "~=", 1),  # type: ignore[arg-type]
        In("year", ([],)),  # type: ignore[arg-type]
        And((year.is_null(), 5)),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_filter_that_does_not_fit_the_spec_is_refused_wherever_it_stands(condition: Filter) -> None:
    for wrapped in (condition, Not(condition), And((condition,)), Or((year.is_null(), Not(condition)))):
        with pytest.raises(SchemaError):
            filters.normalize(wrapped, SPEC)


def test_a_misspelt_field_suggests_the_right_one() -> None:
    with pytest.raises(SchemaError, match="did you mean 'year'"):
        filters.normalize(field("yaer") == 1, SPEC)


def test_a_filter_on_a_vector_is_refused() -> None:
    with pytest.raises(SchemaError, match="'vector' is a vector: filters are on fields"):
        filters.normalize(field("vector").is_null(), SPEC)


@pytest.mark.parametrize(
    ("condition", "normal"),
    [
        (year < 1.5, Cmp("year", "<=", 1)),
        (year <= 1.5, Cmp("year", "<=", 1)),
        (year > 1.5, Cmp("year", ">", 1)),
        (~(year < -1.5), Cmp("year", ">", -2)),
        (year == 1.5, In("year", ())),
        (year != 1.5, Not(In("year", ()))),
        (year < -1e300, In("year", ())),
        (year < 1e300, Cmp("year", "<=", 2**63 - 1)),
        (year.isin([1.5, 2.0]), In("year", (2,))),
        (field("price") < 2**53 + 1, Cmp("price", "<=", 2.0**53)),
        (field("price") > 2**53 + 3, Cmp("price", ">", 2.0**53 + 2)),
        (field("price") >= 10**400, Cmp("price", ">", sys.float_info.max)),
        (field("price") > -(10**400), Not(In("price", ()))),
        (field("sizes").contains(1.5), In("sizes", ())),
        (field("id").is_null(), In("id", ())),
    ],
    ids=repr,
)
def test_a_number_that_the_type_does_not_have_becomes_one_that_compares_alike(
    condition: Filter, normal: Filter
) -> None:
    assert filters.normalize(condition, SPEC) == normal


def test_what_python_says_of_none_is_said_of_null() -> None:
    assert (year == None) == year.is_null()  # noqa: E711
    assert (year != None) == Not(IsNull("year"))  # noqa: E711
    assert year.differs(1) == Or((Cmp("year", "!=", 1), IsNull("year")))
    assert year.isin([1, None]) == Or((In("year", (1,)), IsNull("year")))
    assert filters.from_dict({"field": "year", "op": "!=", "value": None}) == Not(IsNull("year"))
    assert filters.from_dict({"field": "year", "op": "in", "value": [None]}) == year.isin([None])
    for order in (lambda: year < None, lambda: year.differs(None), lambda: tags.contains(None)):
        with pytest.raises(SchemaError, match=r"is_null"):
            order()


def test_everything_matches_every_row() -> None:
    assert filters.folded(filters.normalize(vb.everything, SPEC)) is True


def test_repeated_values_are_kept_once() -> None:
    assert filters.normalize(year.isin([2, 1, 2]), SPEC) == In("year", (2, 1))


def test_a_filter_that_was_not_normalized_is_not_evaluated() -> None:
    with pytest.raises(SchemaError, match="not normalized"):
        filters.matches(~(year == 1), {"year": 2})
