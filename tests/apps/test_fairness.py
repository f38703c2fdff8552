"""DetConstSort and its measures: what they promise, on drawn candidates and against other ways to count."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.apps.fairness import (
    checked_targets,
    det_const_sort,
    exposure,
    gains_of,
    ndcg,
    ndkl,
    rerank,
)
from vecbridge.errors import ConfigError

HALVES = {"a": Fraction(1, 2), "b": Fraction(1, 2)}
CANDIDATES = st.lists(st.sampled_from("abcd"), max_size=25)
# Shares of up to four groups, of which some may be 0 and some may have no candidate.
TARGETS = (
    st.dictionaries(st.sampled_from("abce"), st.integers(0, 6), min_size=1)
    .filter(lambda weights: sum(weights.values()) > 0)
    .map(lambda weights: {key: Fraction(each, sum(weights.values())) for key, each in weights.items()})
)
PLACES = st.integers(1, 30)


@given(CANDIDATES, TARGETS, PLACES)
def test_each_prefix_has_its_share_of_each_group_as_far_as_candidates_last(
    groups: list[str], targets: dict[str, Fraction], k: int
) -> None:
    order = det_const_sort(groups, targets, k)
    for places in range(1, len(order) + 1):
        there = Counter(groups[each] for each in order[:places])
        for group, share in targets.items():
            assert there[group] >= min(math.floor(share * places), groups.count(group))


@given(CANDIDATES, TARGETS, PLACES)
def test_it_is_a_permutation_that_keeps_the_order_within_each_group(
    groups: list[str], targets: dict[str, Fraction], k: int
) -> None:
    order = det_const_sort(groups, targets, k)
    assert len(order) == min(k, len(groups))
    for group in set(groups):
        own = [each for each in order if groups[each] == group]
        assert own == [row for row, each in enumerate(groups) if each == group][: len(own)]
    assert sorted(det_const_sort(groups, targets, len(groups) or 1)) == list(range(len(groups)))


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12), st.sampled_from([1, 2, 3]))
def test_candidates_of_equal_score_keep_their_order_where_no_share_asks_otherwise(
    groups: list[str], weight: int
) -> None:
    """Whoever stands before a better one is needed there: one place later its group would lack a place."""
    targets = {"a": Fraction(weight, 4), "b": Fraction(4 - weight, 4)}
    order = det_const_sort(groups, targets, len(groups))
    for row, (first, second) in enumerate(itertools.pairwise(order)):
        if first > second:
            swapped = [*order[:row], second]
            share = targets[groups[first]]
            there = sum(groups[each] == groups[first] for each in swapped)
            assert there < math.floor(share * (row + 1))


@given(CANDIDATES)
def test_one_group_or_the_share_of_what_is_there_alone_needs_no_other_order(groups: list[str]) -> None:
    assert det_const_sort(["a"] * len(groups), {"a": Fraction(1)}, 30) == list(range(len(groups)))
    alternating = ["a", "b"] * 5
    assert det_const_sort(alternating, HALVES, 10) == list(range(10))


def test_the_places_of_a_group_without_candidates_go_to_the_best_of_the_others() -> None:
    ranking = rerank(["a"] * 6 + ["b"], [1.0] * 7, 6, {"a": 0.5, "b": 0.5})
    assert ranking.order == (0, 6, 1, 2, 3, 4)
    assert [(each.group, each.missing) for each in ranking.groups] == [("a", 0), ("b", 2)]
    assert ranking.warnings == ["'b' lacks 2 of its places, which others took: only 1 found"]


def test_a_group_without_a_target_only_fills() -> None:
    assert det_const_sort(["c", "c", "a", "b"], HALVES, 3) == [2, 3, 0]


def test_shares_are_exact_where_floats_are_not() -> None:
    """0.29 * 100 is 28.999999999999996 in floats, and a third is no float at all."""
    targets = checked_targets({"a": 0.29, "b": 0.71})
    assert math.floor(targets["a"] * 100) == 29
    thirds = checked_targets({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert set(thirds.values()) == {Fraction(1, 3)}


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ({}, "no targets"),
        ({"a": 0.5, "b": 0.6}, "add up to 1.1"),
        ({"a": 0.5}, "add up to 0.5"),
        ({"a": -0.5, "b": 1.5}, "'a': -0.5 is no share"),
        ({"a": math.nan, "b": 1.0}, "'a': nan is no share"),
        ({"a": True}, "'a': True is no share"),
        ({"a": "half"}, "'a': 'half' is no share"),
    ],
)
def test_targets_that_are_no_shares_are_refused(targets: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        rerank(["a"], [1.0], 1, targets)


@pytest.mark.parametrize(
    ("k", "gains"), [(0, [1.0]), (True, [1.0]), (1, [1.0, 1.0]), (1, [-1.0]), (1, [math.nan])]
)
def test_a_number_of_places_or_gains_that_are_none_are_refused(k: Any, gains: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"k=|gains"):
        rerank(["a"], gains, k)


def test_no_candidates_are_an_empty_ranking() -> None:
    ranking = rerank([], [], 5)
    assert (ranking.order, ranking.groups, ranking.ndcg_loss, ranking.ndkl_after) == ((), (), 0.0, 0.0)
    [group] = rerank([], [], 5, {"a": 1.0}).groups
    assert (group.candidates, group.after, group.missing) == (0, 0.0, 0)


# -------------------------------------------------------------------------------------------- measures


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_exposures_add_up_to_1_and_are_discounted_by_rank(groups: list[str]) -> None:
    found = exposure(groups)
    assert sum(found.values()) == pytest.approx(1)
    total = sum(1 / math.log2(rank + 1) for rank in range(1, len(groups) + 1))
    for group in set(groups):
        own = sum(1 / math.log2(rank + 1) for rank, each in enumerate(groups, 1) if each == group)
        assert found[group] == pytest.approx(own / total)


def divergence(groups: list[str], targets: dict[str, Fraction]) -> float:
    """NDKL, written out from its definition."""
    total = weights = 0.0
    for places in range(1, len(groups) + 1):
        weight = 1 / math.log2(places + 1)
        weights += weight
        for group in targets:
            share = groups[:places].count(group) / places
            if share:
                total += weight * share * math.log(share / float(targets[group]))
    return total / weights


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=20))
def test_ndkl_is_what_its_definition_says(groups: list[str]) -> None:
    targets = {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    assert ndkl(groups, targets) == pytest.approx(divergence(groups, targets), abs=1e-12)


def test_ndkl_is_infinite_with_a_group_that_should_not_be_there() -> None:
    assert ndkl(["a", "c"], HALVES) == math.inf
    assert ndkl(["a", "b"], {"a": Fraction(1), "b": Fraction(0)}) == math.inf


def test_ndcg_is_1_for_the_best_order_and_loses_by_discounted_gain() -> None:
    gains = [3.0, 2.0, 1.0]
    assert ndcg([0, 1, 2], gains) == pytest.approx(1)
    worst = 1 + 2 / math.log2(3) + 3 / 2
    assert ndcg([2, 1, 0], gains) == pytest.approx(worst / (3 + 2 / math.log2(3) + 1 / 2))
    assert ndcg([0, 1], [0.0, 0.0]) == 1.0


@pytest.mark.parametrize(("scores", "higher"), [([0.9, 0.5, 0.1], True), ([1.0, 5.0, 9.0], False)])
def test_gains_are_1_for_the_best_and_0_for_the_worst_of_any_metric(
    scores: list[float], higher: bool
) -> None:
    np.testing.assert_allclose(gains_of(scores, higher_is_better=higher), [1, 0.5, 0])
    assert gains_of([2.0, 2.0], higher_is_better=higher).tolist() == [1, 1]


def test_figures_tell_before_from_after() -> None:
    ranking = rerank(["a", "a", "b", "b"], [1.0, 0.9, 0.5, 0.0], 2, {"a": 0.5, "b": 0.5})
    a, b = ranking.groups
    assert (a.before, a.after, b.before, b.after) == (1.0, 0.5, 0.0, 0.5)
    assert (a.exposure_before, b.exposure_before) == (1.0, 0.0)
    assert b.exposure_after == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert ranking.ndkl_after < ranking.ndkl_before
    assert ranking.ndcg_loss == pytest.approx(1 - (1 + 0.5 / math.log2(3)) / (1 + 0.9 / math.log2(3)))
