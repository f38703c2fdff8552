"""Filters: one meaning everywhere, proven against a plain Python model."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import pytest
from hypothesis import given

from vecbridge.errors import SchemaError
from vecbridge.filters import TYPE_OPERATORS, And, Filter, Or, field, from_dict, operators
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.testing import strategies
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import (
    FIELDS,
    assert_deleted,
    examples,
    ids_of,
    points,
    put,
    query,
    supported_fields,
)
from vecbridge.testing.maker import Maker, require_nulls, undeclared
from vecbridge.testing.model import Model

#: By operator: a filter, and the rows that it keeps of a (2019), b (2020), c (2021) and d (null), whose tags
#: are sea; sea and sun; none; null.
EACH_OPERATOR: dict[str, tuple[Filter, str]] = {
    "==": (field("year") == 2020, "b"),
    "!=": (field("year") != 2020, "ac"),
    "<": (field("year") < 2020, "a"),
    "<=": (field("year") <= 2020, "ab"),
    ">": (field("year") > 2020, "c"),
    ">=": (field("year") >= 2020, "bc"),
    "in": (field("year").isin([2020, 7]), "b"),
    "contains": (field("tags").contains("sea"), "ab"),
    "is_empty": (field("tags").is_empty(), "c"),
    "is_null": (field("year").is_null(), "d"),
    "not": (~field("year").isin([2020]), "ac"),
}
#: By type: three values in their order, of which the middle one is compared with.
IN_ORDER: dict[str, tuple[Any, Any, Any]] = {
    "int64": (-1, 0, 1),
    "float64": (0.25, 0.5, 0.75),
    "string": ("A", "a", "\u00e9"),
    "timestamp": (
        "2020-05-17T12:00:00.000001Z",
        "2020-05-17T12:00:00.000002Z",
        "2020-05-17T12:00:00.000003Z",
    ),
}
#: By comparison with the middle one: the rows that it keeps of a (less), b (equal), c (more) and d (null),
#: and those that its negation keeps. Written by hand: what brings filters to normal form is not asked.
AT_EQUALITY: dict[str, tuple[str, str]] = {
    "==": ("b", "ac"),
    "!=": ("ac", "b"),
    "<": ("a", "bc"),
    "<=": ("ab", "c"),
    ">": ("c", "ab"),
    ">=": ("bc", "a"),
    "in": ("b", "ac"),
}


def found(collection: Collection, condition: Filter | dict[str, Any]) -> set[str | int]:
    """What the filter keeps, which search, scan and count must agree on."""
    [hits] = collection.search(query(points(1, collection.spec.vector.dim), k=1000, filter=condition))
    searched, scanned = set(hits.ids), ids_of(collection, condition)
    assert len(hits) == len(searched)
    assert searched == scanned
    assert collection.count(condition) == len(scanned)
    return scanned


def filled(
    store: Store, spec: CollectionSpec, columns: dict[str, Any], conditions: list[Filter]
) -> tuple[Collection, Model, list[Filter]]:
    """A new collection and a model of it that hold the same records, and the filters to try on both."""
    collection, model = store.create(spec, if_exists="replace"), Model(spec)
    put(collection, **columns)
    model.upsert(columns)
    return collection, model, conditions


def nested(depth: int, innermost: Filter | None = None) -> Filter:
    """A filter of so many levels, which cannot be merged."""
    condition = field("year") < 2 if innermost is None else innermost
    for level in range(1, depth):
        other = field("year") == 2 if level % 2 else field("year") != 2000 + level
        condition = condition | other if level % 2 else condition & other
    return condition


def wide(leaves: int) -> Filter:
    """A filter of so many comparisons; it keeps years below that number."""
    return reduce(or_, [field("year") == year for year in range(leaves)])


class TestFilters:
    """Filters in search(), scan(), count() and delete()."""

    @pytest.mark.parametrize("type", FIELDS.values())
    def test_comparisons_on_each_type_keep_the_rows_that_the_oracle_keeps(
        self, store_case: StoreCase, store: Store, make: Maker, type: Any
    ) -> None:
        spec = make(fields={"value": type}).spec
        drawn = strategies.columns_and_filters(spec, store.capabilities, max_rows=20, trees=False)

        @examples(store_case)
        @given(drawn=drawn)
        def run(drawn: tuple[dict[str, Any], list[Filter]]) -> None:
            collection, model, conditions = filled(store, spec, *drawn)
            for condition in conditions:
                assert found(collection, condition) == model.find(condition), condition
                if "not" in store.capabilities.filter_operators:
                    assert found(collection, ~condition) == model.find(~condition), ~condition

        run()

    def test_trees_of_conditions_keep_the_rows_that_the_oracle_keeps(
        self, store_case: StoreCase, store: Store, make: Maker
    ) -> None:
        spec = make(fields=supported_fields(store.capabilities)).spec

        @examples(store_case)
        @given(drawn=strategies.columns_and_filters(spec, store.capabilities))
        def run(drawn: tuple[dict[str, Any], list[Filter]]) -> None:
            collection, model, conditions = filled(store, spec, *drawn)
            for condition in conditions:
                assert found(collection, condition) == model.find(condition), condition
            collection.delete(filter=conditions[0])
            model.delete_where(conditions[0])
            collection.flush()
            assert ids_of(collection) == model.find(), conditions[0]

        run()

    def test_conditions_inside_conditions_keep_what_they_say(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=list("abcde"), year=[1, 2, 3, 4, 5])
        year = field("year")
        assert found(collection, (year < 4) & ((year == 2) | (year == 5))) == {"b"}
        assert found(collection, (year == 1) | ((year > 2) & (year != 4))) == set("ace")
        assert found(collection, (year > 1) & ((year == 1) | ((year < 5) & ((year == 3) | (year > 4))))) == {
            "c"
        }
        assert found(collection, ((year < 2) | (year > 4)) & ((year == 5) | (year == 3))) == {"e"}

    @pytest.mark.parametrize("operator", EACH_OPERATOR)
    def test_a_declared_operator_filters_and_an_undeclared_one_raises(
        self, store: Store, make: Maker, operator: str
    ) -> None:
        collection = make(fields={"year": "int64", "tags": "list<string>"})
        rows = {"a": 2019, "b": 2020, "c": 2021, "d": None}
        tags = {"a": ["sea"], "b": ["sea", "sun"], "c": [], "d": None}
        if not store.capabilities.nulls:
            del rows["d"], tags["d"]
        put(collection, id=list(rows), year=list(rows.values()), tags=list(tags.values()))
        condition, kept = EACH_OPERATOR[operator]
        if not operators(condition) <= store.capabilities.filter_operators:
            undeclared(
                f"the filter operator {operator}",
                lambda: collection.count(condition),
                lambda: list(collection.scan(filter=condition)),
                lambda: collection.search(query(points(1), filter=condition)),
                lambda: collection.delete(filter=condition),
            )
        assert found(collection, condition) == set(kept) & rows.keys()

    @pytest.mark.parametrize("type", IN_ORDER)
    def test_a_comparison_and_its_negation_divide_the_rows_at_equality(
        self, store: Store, make: Maker, type: Any
    ) -> None:
        collection = make(fields={"value": type})
        values = IN_ORDER[type]
        rows = dict(zip("abcd", (*values, None), strict=True))
        if not store.capabilities.nulls:
            del rows["d"]
        put(collection, id=list(rows), value=list(rows.values()))
        ordered = type in store.capabilities.ordered_types
        tried = {op: kept for op, kept in AT_EQUALITY.items() if ordered or op in ("==", "!=", "in")}
        for op, (kept, kept_by_negation) in tried.items():
            value = [values[1]] if op == "in" else values[1]
            condition = from_dict({"field": "value", "op": op, "value": value})
            assert found(collection, condition) == set(kept), op
            assert found(collection, ~condition) == set(kept_by_negation), f"not {op}"
            assert found(collection, ~(~condition)) == set(kept), f"not not {op}"
            with_id = ~(condition | (field("id") == "a"))
            assert found(collection, with_id) == set(kept_by_negation) - {"a"}, f"not ({op} or id)"
        if not ordered:
            less = field("value") < values[1]
            undeclared(
                f"the order of {type} fields",
                lambda: collection.count(less),
                lambda: collection.delete(filter=~less),
            )

    def test_null_matches_is_null_and_nothing_else(self, store: Store, make: Maker) -> None:
        require_nulls(store)
        collection = make(fields={"year": "int64", "tags": "list<string>"})
        put(collection, id=["null", "full"], year=[None, 5], tags=[None, ["x"]])
        year, tags = field("year"), field("tags")
        for never in (year == 6, ~(year == 5), year.isin([]), ~(year < 9), tags.contains("y")):
            assert found(collection, never) == set(), never
        unequal = (year != 6, ~(year == 6), ~year.isin([6]), ~year.isin([6, 7, 8, 9, 10]))
        for full in (*unequal, ~year.isin([]), ~tags.contains("y"), ~year.is_null()):
            assert found(collection, full) == {"full"}, full
        assert found(collection, year.is_null() & tags.is_null()) == {"null"}
        assert found(collection, ~(year.is_null() | (tags.contains("x") & (year == 6)))) == {"full"}

    def test_an_empty_and_is_everything_and_an_empty_or_is_nothing(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=["a", "b"], year=[1, 2])
        assert found(collection, And(())) == {"a", "b"}
        assert found(collection, Or(())) == set()
        assert found(collection, field("year").isin([])) == set()

    @pytest.mark.parametrize("id_type", ["string", "int64"])
    def test_ids_are_filtered_alone_and_beside_fields(self, make: Maker, id_type: Any) -> None:
        collection = make(fields={"year": "int64"}, id_type=id_type)
        keys: list[Any] = ["it's", "b", "c", "\u00e9"] if id_type == "string" else [-(2**63), 0, 2**53 + 1, 7]
        one, two, three, four = keys
        put(collection, id=keys, year=[1, 2, 3, None])
        key, year = field("id"), field("year")
        assert found(collection, key == one) == {one}
        assert found(collection, key != one) == {two, three, four}
        assert found(collection, ~key.isin([one, two])) == {three, four}
        assert found(collection, key.isin([three, one]) & (year < 3)) == {one}
        assert found(collection, (key == four) | (year == 2)) == {two, four}
        assert found(collection, ~((key == four) | (year == 2))) == {one, three}
        assert found(collection, key.is_null()) == set()
        assert found(collection, ~key.is_null()) == set(keys)
        assert found(collection, key.isin([])) == set()
        assert_deleted(collection, collection.delete(filter=key.isin([one, two]) & (year > 1)), 1)
        collection.flush()
        assert ids_of(collection) == {one, three, four}

    def test_a_number_that_the_type_does_not_have_is_compared_exactly(self, make: Maker) -> None:
        collection = make(fields={"year": "int64", "price": "float64"})
        put(collection, id=list("abc"), year=[1, 2, None], price=[2.0**53, 1e308, None])
        year, price = field("year"), field("price")
        assert found(collection, year == 1.0) == {"a"}
        assert found(collection, year == 1.5) == set()
        assert found(collection, year != 1.5) == {"a", "b"}
        assert found(collection, year < 1.5) == found(collection, ~(year >= 1.5)) == {"a"}
        assert found(collection, year > -1e300) == {"a", "b"}
        assert found(collection, year.isin([1.5, 2.0])) == {"b"}
        assert found(collection, price < 2**53 + 1) == {"a"}
        assert found(collection, price <= 10**400) == {"a", "b"}
        assert found(collection, price >= 10**400) == set()

    def test_null_can_be_asked_for_beside_values(self, store: Store, make: Maker) -> None:
        require_nulls(store)
        collection = make(fields={"year": "int64", "tags": "list<string>"})
        put(collection, id=list("abc"), year=[1, 2, None], tags=[["x"], [], None])
        year, tags = field("year"), field("tags")
        assert found(collection, year.differs(1)) == {"b", "c"}
        assert found(collection, year.isin([1, None])) == {"a", "c"}
        assert found(collection, ~year.isin([1, None])) == {"b"}
        assert found(collection, year == None) == {"c"}  # noqa: E711
        assert found(collection, year != None) == {"a", "b"}  # noqa: E711
        assert found(collection, tags.is_empty()) == {"b"}
        assert found(collection, ~tags.is_empty()) == {"a"}
        assert found(collection, tags.is_empty() | tags.is_null()) == {"b", "c"}

    def test_times_are_compared_by_the_microsecond(self, make: Maker) -> None:
        collection = make(fields={"taken": "timestamp"})
        times = strategies.ODD_TIMES
        put(collection, id=[str(row) for row in range(len(times))], taken=times)
        for row, time in enumerate(times):
            assert found(collection, field("taken") < time) == {str(each) for each in range(row)}
            assert found(collection, field("taken") == time.isoformat()) == {str(row)}
            assert found(collection, field("taken").isin([time])) == {str(row)}

    def test_a_filter_may_be_given_as_json(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=list("abc"), year=[1, 2, None])
        late = {"field": "year", "op": ">", "value": 1}
        assert found(collection, late) == {"b"}
        assert found(collection, {"not": {"field": "year", "op": "==", "value": None}}) == {"a", "b"}
        assert_deleted(collection, collection.delete(filter=late), 1)
        with pytest.raises(SchemaError):
            collection.count({"field": "year"})

    def test_a_long_list_of_values_is_pushed_down_whole(self, make: Maker) -> None:
        collection = make(fields={"title": "string"})
        put(collection, id=["a", "b", "c"], title=["t0", "t999", "none"])
        wanted = field("title").isin([f"t{number}" for number in range(1000)])
        assert found(collection, wanted) == {"a", "b"}
        assert found(collection, ~wanted) == {"c"}

    def test_a_filter_of_the_declared_depth_and_size_is_answered_and_a_larger_one_refused(
        self, store: Store, make: Maker
    ) -> None:
        collection = make(fields={"year": "int64"})
        columns = {"id": list("abcdef"), "vector": points(6), "year": [0, 1, 2, 3, 5000, -1]}
        put(collection, **columns)
        model = Model(collection.spec)
        model.upsert(columns)
        depth, leaves = store.capabilities.filter_depth, store.capabilities.filter_leaves
        largest = 2**63 - 1 if store.capabilities.int_bits >= 64 else 2**store.capabilities.int_bits
        costly = ~field("year").isin([largest, largest - 2, 1])  # what a backend may have to spell out
        for condition in (nested(depth), nested(depth, costly), wide(leaves)):
            assert found(collection, condition) == model.find(condition)
            assert found(collection, ~condition) == model.find(~condition)
        for condition in (nested(depth + 1), wide(leaves + 1), nested(100_000), wide(100_000)):
            with pytest.raises(SchemaError, match="at most"):
                collection.search(query(points(1), filter=condition))
            with pytest.raises(SchemaError, match="at most"):
                list(collection.scan(filter=condition))
            with pytest.raises(SchemaError, match="at most"):
                collection.count(condition)
            with pytest.raises(SchemaError, match="at most"):
                collection.delete(filter=condition)
        assert collection.count() == 6

    def test_text_is_ordered_by_code_point(self, make: Maker) -> None:
        collection = make(fields={"title": "string"})
        texts = ["", "A", "Z", "a", "e\u0301", "z", "\u00e9", "\uffff", "\U00010000"]
        put(collection, id=[str(row) for row in range(len(texts))], title=texts)
        if "string" not in collection.capabilities.ordered_types:
            less = field("title") < "z"
            undeclared(
                "the order of string fields",
                lambda: collection.count(less),
                lambda: collection.delete(filter=less),
            )
        for row, text in enumerate(texts):
            assert found(collection, field("title") < text) == {str(each) for each in range(row)}

    @pytest.mark.parametrize("type", FIELDS.values())
    def test_an_operator_that_the_type_does_not_have_is_refused(self, make: Maker, type: Any) -> None:
        collection = make(fields={"value": type})
        put(collection, id=["a"])
        literal: Any = {"bool": True, "int64": 1, "float64": 1.0}.get(type, "2020-05-17T12:00:00Z")
        value = field("value")
        conditions = {"==": value == literal, "<": value < literal, "contains": value.contains("x")}
        for op, condition in conditions.items():
            if op not in TYPE_OPERATORS[type]:
                with pytest.raises(SchemaError):
                    collection.count(condition)

    def test_a_literal_of_another_type_is_refused_by_every_call(self, make: Maker) -> None:
        collection = make(
            fields={
                "flag": "bool", "year": "int64", "price": "float64", "title": "string", "taken": "timestamp",
                "sizes": "list<int64>",
            }
        )  # fmt: skip
        put(collection, id=["a"], flag=[True], year=[1], price=[1.0], title=["1"])
        for wrong in (
            field("flag") == 1,
            field("year") == True,  # noqa: E712
            field("year") == float("inf"),
            field("year") < 2**63,
            field("price") < float("nan"),
            field("title") == 1,
            field("title").isin(["1", 1]),
            field("id") == 1,
            field("id").contains("a"),
            field("taken") == "2020-05-17T12:00:00",
            field("taken") == 1,
            field("sizes").contains("1"),
            field("vector").is_null(),
        ):
            with pytest.raises(SchemaError):
                collection.search(query(points(1), filter=wrong))
            with pytest.raises(SchemaError):
                collection.count(wrong)
            with pytest.raises(SchemaError):
                list(collection.scan(filter=wrong))
            with pytest.raises(SchemaError):
                collection.delete(filter=wrong)
        assert collection.count() == 1
        assert found(collection, field("price") == 1) == {"a"}
