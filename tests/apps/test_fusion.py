"""Fusion of ranked lists, beside plain sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from vecbridge.apps.fusion import RANK_CONSTANT, Ranking, fuse, require_fusion


def ranking(name: str, keys: str, scores: list[float], **options: object) -> Ranking[str]:
    return Ranking(name, options.pop("weight", 1.0), list(keys), np.array(scores, np.float32), **options)


def test_weighted_fusion_is_the_mean_of_scaled_scores() -> None:
    one = ranking("one", "abc", [0.9, 0.5, 0.1])
    two = ranking("two", "cd", [30.0, 10.0], weight=3.0)
    fused = fuse([one, two], "weighted")
    assert fused == pytest.approx({"c": 0.75, "a": 0.25, "b": 0.125, "d": 0.0})
    assert list(fused) == ["c", "a", "b", "d"]


def test_distances_count_the_other_way_round() -> None:
    near_first = ranking("l2", "ab", [0.1, 4.0], higher_is_better=False)
    assert fuse([near_first], "weighted") == {"a": 1.0, "b": 0.0}


def test_a_list_of_one_hit_or_of_equal_hits_gives_it_the_whole_weight() -> None:
    assert fuse([ranking("one", "a", [-3.0]), ranking("two", "", [])], "weighted") == {"a": 0.5}
    assert fuse([ranking("one", "ab", [2.0, 2.0])], "weighted") == {"a": 1.0, "b": 1.0}


@given(
    st.lists(
        st.tuples(st.permutations("abcdef"), st.integers(0, 6), st.floats(0.1, 5)), min_size=1, max_size=4
    )
)
def test_reciprocal_rank_fusion_is_the_sum_over_the_lists(lists: list[tuple[list[str], int, float]]) -> None:
    rankings = [
        ranking(str(number), "".join(keys[:count]), [0.0] * count, weight=weight)
        for number, (keys, count, weight) in enumerate(lists)
    ]
    expected: dict[str, float] = {}
    for keys, count, weight in lists:
        for rank, key in enumerate(keys[:count], 1):
            expected[key] = expected.get(key, 0) + weight / (RANK_CONSTANT + rank)
    fused = fuse(rankings, "rrf")
    assert fused == pytest.approx(expected)
    assert list(fused.values()) == sorted(fused.values(), reverse=True)


def test_reciprocal_ranks_look_at_no_score() -> None:
    one, two = ranking("one", "ab", [0.9, 0.1]), ranking("one", "ab", [0.5, 0.4999])
    assert fuse([one], "rrf") == fuse([two], "rrf")


@pytest.mark.parametrize("fusion", ["mean", "", None, 3])
def test_an_unknown_fusion_is_refused(fusion: object) -> None:
    with pytest.raises(vb.ConfigError, match="one of weighted, rrf"):
        require_fusion(fusion)


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
def test_weights_that_sum_to_0_are_refused(fusion: object) -> None:
    with pytest.raises(vb.ConfigError, match="sum to 0"):
        fuse([ranking("one", "a", [1.0], weight=0.0)], fusion)
