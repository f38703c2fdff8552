"""Filters as expressions: escaped, with the contract's meaning of null, shallow however many terms."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pymilvus import DataType

from tests.stores.milvus.helpers import fresh, made, rows, scanned, small
from vecbridge.errors import UnsupportedError
from vecbridge.filters import INT64_MIN, And, Cmp, Contains, Filter, In, IsNull, Not, Or, field, normalize
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.milvus import expressions, layout
from vecbridge.stores.milvus.layout import Column, Keys, Layout
from vecbridge.timestamps import utc

SPEC = CollectionSpec.single(
    "photos", dim=2,
    fields={
        "n": "int64", "x": "float64", "s": "string", "b": "bool", "tags": "list<string>", "j": "json",
        "at": "timestamp", "ns": "list<int64>", "xs": "list<float64>",
    },
)  # fmt: skip
NUMBERED = CollectionSpec.single("photos", dim=2, id_type="int64")
MADE = layout.of_spec(SPEC)
KEYS = Keys(MADE, "")
RESERVED = (
    "in", "like", "exists", "json_x", "json_contains", "and", "or", "not", "true", "FALSE", "null",
    "to", "array_x", "is", "text_match", "x_in", "x_", "meta", "between", "interval", "count", "limit",
    "pk", "e1", "inf", "nan", "isnull", "st_within", "iso", "EXISTS2", "array_length", "random_sample",
    "contains", "json", "array", "offset", "IN2", "phrase_match", "match", "none", "minimum_should_match",
)  # fmt: skip


def compiled(condition: Filter) -> str:
    return expressions.compiled(normalize(condition, SPEC), KEYS)


def depth(expression: str) -> int:
    """How deep parentheses nest."""
    deepest = level = 0
    for character in expression:
        level += (character == "(") - (character == ")")
        deepest = max(deepest, level)
    return deepest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('say "no"', '"say \\"no\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ('\\"', '"\\\\\\""'),
        ("a\nb\rc\td", '"a\\nb\\rc\\td"'),
        ("it's", '"it\'s"'),
        ("Zürich 🌊 \u2028", '"Zürich 🌊 \u2028"'),
        ("", '""'),
        (True, "true"),
        (False, "false"),
        (2**63 - 1, "9223372036854775807"),
        (-7, "-7"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
    ],
)
def test_a_literal_is_written_so_that_milvus_reads_the_same_value(value: Any, text: str) -> None:
    assert expressions.literal(value) == text


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (field("n") == INT64_MIN, f"n < {INT64_MIN + 1}"),
        (field("n") <= INT64_MIN, f"n < {INT64_MIN + 1}"),
        (field("n") > INT64_MIN, f"n >= {INT64_MIN + 1}"),
        (field("n") >= INT64_MIN, "exists n"),
        (field("n").isin([INT64_MIN]), f"n < {INT64_MIN + 1}"),
        (field("n").isin([INT64_MIN, 3]), f"(n < {INT64_MIN + 1}) or (n in [3])"),
        (field("n") < INT64_MIN, expressions.nothing(MADE)),
        (field("ns").contains(INT64_MIN), f"json_contains(ns, ({INT64_MIN + 1} - 1))"),
    ],
)
def test_the_least_integer_which_milvus_cannot_read_is_never_written(condition: Filter, text: str) -> None:
    assert compiled(condition) == text
    assert str(INT64_MIN) not in compiled(condition)


def test_a_scan_goes_on_behind_the_least_integer_without_writing_it() -> None:
    numbered = layout.of_spec(NUMBERED)
    assert expressions.after_key(numbered, INT64_MIN) == f"id >= {INT64_MIN + 1}"
    assert expressions.of_keys(numbered, [INT64_MIN, 5]) == f"(id < {INT64_MIN + 1}) or (id in [5])"


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (field("n").is_null(), "not (exists n)"),
        (~field("n").is_null(), "exists n"),
        (field("n") != 3, "(exists n) and (n != 3)"),
        (~(field("n") == 3), "(exists n) and (n != 3)"),
        (~(field("n") < 3), "n >= 3"),
        (~field("s").isin(["a"]), '(exists s) and (not (s in ["a"]))'),
        (~field("tags").contains("a"), '(exists tags) and (not (json_contains(tags, "a")))'),
        (field("tags").contains('"'), 'json_contains(tags, "\\"")'),
        (field("j").is_null(), "not (exists j)"),
        (field("b").isin([True, False]), "(b == true) or (b == false)"),
        (field("at") < "1970-01-01T00:00:01.000001Z", "at < 1000001"),
        (field("at").isin([datetime.min.replace(tzinfo=UTC)]), "at in [-62135596800000000]"),
        (field("ns").contains(7), "json_contains(ns, 7)"),
        (field("ns").contains(-7), "json_contains(ns, (-7))"),
        (field("xs").contains(-(2.0**63)), "json_contains(xs, (-9.223372036854776e+18))"),
        (field("x").isin([-(2.0**63)]), "x in [-9.223372036854776e+18]"),
        (field("ns").is_empty(), "(exists ns) and (array_length(ns) == 0)"),
        (~field("ns").is_empty(), "(exists ns) and (array_length(ns) != 0)"),
        (field("id") == "a", 'id == "a"'),
        (~field("id").isin(["a", "b"]), 'not (id in ["a", "b"])'),
        (~(field("id") < "a"), 'id >= "a"'),
    ],
)
def test_null_matches_only_is_null(condition: Filter, text: str) -> None:
    assert compiled(condition) == text


def test_a_typed_field_of_an_older_milvus_has_no_null_and_a_nullable_one_is_asked() -> None:
    columns = {
        "old": Column("old", "old", "int64", dynamic=False, nullable=False),
        "at": Column("at", "at", "timestamp", dynamic=False, source=DataType.TIMESTAMPTZ),
        "taken": Column("taken", "taken", "timestamp", dynamic=False, source=DataType.INT64),
        "new": Column("new", "new", "int64", dynamic=False),
        "tags": Column("tags", "tags", "list<string>", dynamic=False, nullable=False),
    }
    typed = Keys(Layout("key", "int64", "int64", False, columns), "")
    assert expressions.compiled(IsNull("old"), typed) == "((key < 0) and (key > 0))"
    assert expressions.compiled(IsNull("new"), typed) == "new is null"
    assert expressions.compiled(Not(IsNull("new")), typed) == "new is not null"
    assert expressions.compiled(Cmp("new", "!=", 1), typed) == "(new is not null) and (new != 1)"
    assert expressions.compiled(Contains("tags", "a"), typed) == 'array_contains(tags, "a")'
    at = "2020-05-17T10:00:00.000000Z"
    assert expressions.compiled(Cmp("at", "<=", utc(at)), typed) == f"at <= ISO '{at}'"
    assert expressions.compiled(Cmp("taken", "<=", utc(at)), typed) == "taken <= 1589709600000000"
    assert expressions.compiled(In("taken", (utc(at),)), typed) == "taken in [1589709600000000]"
    assert expressions.compiled(In("at", (utc(at),)), typed) == f"(at == ISO '{at}')"
    assert expressions.compiled(Cmp("id", "<", INT64_MIN + 9), typed) == f"key < {INT64_MIN + 9}"


@pytest.mark.parametrize("kind", [And, Or])
def test_three_thousand_terms_nest_a_dozen_deep(kind: type[And] | type[Or]) -> None:
    terms = tuple(Cmp("n", "!=", number) for number in range(3000))
    text = expressions.compiled(kind(terms), KEYS)
    assert depth(text) <= 14
    assert text.count("n != ") == 3000
    folded = functools.reduce(operator.and_ if kind is And else operator.or_, terms)
    assert depth(compiled(folded)) <= 14


def test_deep_nesting_costs_one_pair_of_parentheses_a_level_however_wide_the_levels_are() -> None:
    condition: Filter = Cmp("n", ">=", 0)
    for level in range(64):
        terms = (*(Cmp("n", "!=", number) for number in range(15)), condition)
        condition = And(terms) if level % 2 else Or(terms)
    text = expressions.compiled(condition, KEYS)
    assert depth(text) <= 64 + 8
    assert text.count("n != ") == 64 * 15


def test_everything_and_nothing_are_said_by_the_primary_key() -> None:
    assert expressions.nothing(MADE) == 'id == ""'
    assert expressions.everything(MADE) == 'id != ""'
    numbered = layout.of_spec(NUMBERED)
    assert expressions.everything(numbered) == f"id <= {2**63 - 1}"
    assert expressions.nothing(numbered) == "((id < 0) and (id > 0))"


def test_a_namespace_is_a_range_of_primary_keys() -> None:
    spaced = layout.of_spec(CollectionSpec.single("photos", dim=2, id_type="int64", namespaced=True))
    text = expressions.scoped(spaced, Keys(spaced, "eu"), None)
    assert text == '(id >= "eu/") and (id < "eu0")'
    text = expressions.scoped(spaced, Keys(spaced, ""), None, "more")
    assert text == '((more) and (id >= "/")) and (id < "0")'
    assert expressions.scoped(MADE, Keys(MADE, ""), None) == ""


def test_an_id_in_a_namespace_is_compared_with_the_namespace_before_it() -> None:
    texts = Keys(layout.of_spec(replace(SPEC, namespaced=True)), "eu")
    assert expressions.compiled(Cmp("id", ">", "a"), texts) == 'id > "eu/a"'
    assert expressions.compiled(In("id", ("a",)), texts) == 'id in ["eu/a"]'
    numbers = Keys(layout.of_spec(replace(NUMBERED, namespaced=True)), "eu")
    assert expressions.compiled(Not(In("id", (INT64_MIN,))), numbers) == f'not (id in ["eu/{INT64_MIN}"])'
    with pytest.raises(UnsupportedError, match="numeric ids of a namespace"):
        expressions.compiled(Cmp("id", ">", 7), numbers)


def test_what_a_filter_cannot_say_raises_instead_of_matching_everything() -> None:
    with pytest.raises(Exception, match="the filter"):
        expressions.compiled(Not(And(())), KEYS)


@pytest.mark.parametrize("name", ["in", "LIKE", "exists", "json_x", "x_in"])
def test_a_reserved_word_gets_a_key_and_no_two_names_share_one(name: str) -> None:
    assert layout.milvus_name(name) == f"x_{name}"
    assert layout.milvus_name("tags") == "tags"
    assert len({layout.milvus_name(each) for each in RESERVED}) == len(RESERVED)


def test_fields_named_by_reserved_words_are_filtered_like_any(store: Store) -> None:
    spec = small(fresh("reserved"), fields=dict.fromkeys(RESERVED, "int64"))
    columns = {name: [place, None, place + 1] for place, name in enumerate(RESERVED)}
    with made(store, spec) as photos:
        photos.upsert(rows(spec, ["a", "b", "c"], **columns))
        for place, name in enumerate(RESERVED):
            assert scanned(photos, filter=field(name) == place) == ["a"], name
            assert scanned(photos, filter=field(name) != place) == ["c"], name
            assert scanned(photos, filter=field(name).is_null()) == ["b"], name
            assert scanned(photos, filter=field(name).isin([place, place + 1])) == ["a", "c"], name
        [record] = photos.fetch(["a"]).to_pylist()
        assert {name: record[name] for name in RESERVED} == {n: i for i, n in enumerate(RESERVED)}


def test_three_thousand_terms_are_answered_within_seconds(store: Store) -> None:
    spec = small(fresh("terms"), fields={"n": "int64"})
    with made(store, spec) as photos:
        photos.upsert(rows(spec, [f"r{n}" for n in range(10)], n=list(range(10))))
        condition = functools.reduce(operator.or_, (field("n") == 3 * number for number in range(3000)))
        assert scanned(photos, filter=condition) == ["r0", "r3", "r6", "r9"]
        photos.flush()
        [hits] = photos.search(Query([0.0] * 8, k=10, filter=condition))
        assert set(hits.ids) == {"r0", "r3", "r6", "r9"}
