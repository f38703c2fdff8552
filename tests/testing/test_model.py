"""The model that the stores are compared with: cases small enough to be worked out by hand."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest

from vecbridge.filters import And, Filter, Not, Or, field
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.testing import model
from vecbridge.testing.checks import FIELDS
from vecbridge.testing.model import Model, fits, holds

SPEC = CollectionSpec.single("photos", dim=2, metric="l2", fields=FIELDS)
flag, year, price, title, tags = (field(name) for name in ("flag", "year", "price", "title", "tags"))
ROW = {"flag": True, "year": 2020, "price": 0.5, "title": "\uffff", "tags": ["sea", ""]}


@pytest.mark.parametrize(
    ("condition", "full", "null"),  # whether it matches ROW, and a record of nulls
    [
        (year == 2020, True, False),
        (~(year == 2020), False, False),
        (~~(year == 2020), True, False),
        (year != 2020, False, False),
        (~(year != 2020), True, False),
        (year < 2020, False, False),
        (year <= 2020, True, False),
        (~(year <= 2020), False, False),
        (~(year < 2020), True, False),
        (year > 2019, True, False),
        (~(year > 2019), False, False),
        (year >= 2021, False, False),
        (year < 2**63 - 1, True, False),
        (price == 1, False, False),
        (price < 1, True, False),
        (price > -0.0, True, False),
        (flag == True, True, False),  # noqa: E712
        (flag != True, False, False),  # noqa: E712
        (title < "\U00010000", True, False),
        (title > "\U00010000", False, False),
        (title == "\uffff", True, False),
        (year.isin([1, 2020]), True, False),
        (~year.isin([1, 2020]), False, False),
        (~year.isin([1]), True, False),
        (year.isin([]), False, False),
        (~year.isin([]), True, False),
        (tags.contains(""), True, False),
        (tags.contains("se"), False, False),
        (~tags.contains("se"), True, False),
        (~tags.contains("sea"), False, False),
        (year.is_null(), False, True),
        (~year.is_null(), True, False),
        (And(()), True, True),
        (Or(()), False, False),
        (Not(And(())), False, False),
        (Not(Or(())), True, True),
        (~((year == 2020) & (price == 9)), True, False),
        (~((year == 2020) | (price == 9)), False, False),
        (~((year == 9) | (price == 9)), True, False),
        (~((year == 9) & year.is_null()), True, False),
        (~(year.is_null() | (price == 9)), True, False),
        (~(~year.is_null() & (price == 9)), True, True),
    ],
    ids=repr,
)
def test_what_a_filter_matches(condition: Filter, full: bool, null: bool) -> None:
    assert fits(condition, SPEC)
    assert holds(condition, ROW) is full
    assert holds(condition, dict.fromkeys(ROW)) is null
    assert holds(condition, {}) is null


def test_minus_zero_is_zero_and_integers_are_exact() -> None:
    assert holds(price == -0.0, {"price": 0.0})
    assert not holds(year == 2**53, {"year": 2**53 + 1})
    assert holds(year > 2**53, {"year": 2**53 + 1})
    assert not holds(price == 2**53, {"price": 2.0**53 + 2})


@pytest.mark.parametrize("wrong", [flag == 1, year == True, year == float("inf"), year == 2**63, title == 1])  # noqa: E712
def test_a_literal_of_another_type_does_not_fit(wrong: Filter) -> None:
    assert not fits(wrong, SPEC)
    assert not fits(~(year.is_null() | wrong), SPEC)


def test_records_are_replaced_whole_fetched_in_order_and_deleted_once() -> None:
    rows = Model(SPEC)
    rows.upsert({"id": ["a", "b"], "vector": [[1, 0], [0, 1]], "year": [1, None], "price": [-0.0, 2.0]})
    rows.upsert({"id": ["b"], "vector": [[3, 4]], "extra": ['{"b": 1, "a": [1.0, "\\u00e9"]}']})
    assert [record["id"] for record in rows.fetch(["b", "x", "a", "b"])] == ["b", "a"]
    assert (rows.records["b"]["price"], rows.records["b"]["extra"]) == (None, '{"a":[1.0,"é"],"b":1}')
    assert str(rows.records["a"]["price"]) == "0.0"
    assert rows.find(year.is_null()) == {"b"}
    assert rows.delete(["a", "a", "x"]) == 1
    assert rows.delete_where(year == 1) == 0
    assert (rows.count(), rows.find()) == (1, {"b"})


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        (Metric.L2, [("far", 2), ("near", 4)]),
        (Metric.DOT, [("far", 14), ("near", 4)]),
        (Metric.COSINE, [("far", 14 / 200**0.5), ("near", 4 / 20**0.5)]),
    ],
)
def test_the_best_come_first_with_their_scores(metric: Metric, best: list[tuple[str, float]]) -> None:
    rows = Model(CollectionSpec.single("photos", dim=2, metric=metric, fields={"year": "int64"}))
    rows.upsert({"id": ["near", "far", "off"], "vector": [[1, 1], [2, 4], [1, 3]], "year": [1, 2, None]})
    asked = np.array([1, 3], np.float32)
    hits = rows.search(asked, 5, ~year.is_null())
    assert [key for key, _ in hits] == [key for key, _ in best]
    assert [score for _, score in hits] == pytest.approx([score for _, score in best])
    assert rows.search(asked, 1, ~year.is_null()) == hits[:1]
    assert rows.search(asked, 5, year == 9) == []


def test_the_model_shares_no_code_with_what_it_judges() -> None:
    imported = {
        (node.module, name.name)
        for node in ast.walk(ast.parse(inspect.getsource(model)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vecbridge")
        for name in node.names
    }
    nodes = {"And", "Cmp", "Contains", "Filter", "In", "IsEmpty", "IsNull", "Not", "Or"}
    data = {
        ("query", "FloatArray"),
        ("schema", "CollectionSpec"),
        ("schema", "FieldType"),
        ("schema", "Metric"),
    }
    assert imported == {("vecbridge.filters", name) for name in nodes} | {
        (f"vecbridge.{module}", name) for module, name in data
    }
