"""Figures about classifiers, beside counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from vecbridge.apps import Prediction, evaluate, none_threshold
from vecbridge.apps.accuracy import Share
from vecbridge.apps.zeroshot import Candidate


def prediction(label: str | None, *candidates: str) -> Prediction:
    return Prediction(label, tuple(Candidate(each, 0.5, None) for each in candidates))


def test_the_interval_is_wilson_s() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        share = Share.of_counts(count, of)
        assert (share.low, share.high) == pytest.approx((low, high), abs=6e-4)
    assert Share.of_counts(0, 0) == Share(0, 0, 0.0, 1.0)
    assert Share.of_counts(0, 0).value is None
    assert str(Share.of_counts(0, 0)) == "no such items"
    assert str(Share.of_counts(90, 100)) == "90.0 % (82.6 to 94.5 %, n=100)"


def test_each_share_counts_what_it_says() -> None:
    predictions = [
        prediction("dog", "dog", "cat"),  # right
        prediction("dog", "dog", "cat"),  # wrong, the right one is second
        prediction(None, "cat", "dog"),  # rejected, though it is a cat
        prediction("bird", "bird", "dog"),  # wrong, and not among the candidates
        prediction(None, "dog", "cat"),  # a house, rejected
        prediction("cat", "cat", "dog"),  # a boat, accepted
        prediction("dog", "dog", "cat"),  # nothing, accepted
    ]
    truths = ["dog", "cat", "cat", "cat", "house", "boat", None]
    report = evaluate(predictions, truths, ["dog", "cat", "bird"])
    counts = {name: (share.count, share.of) for name, share in (
        ("right", report.right), ("in", report.in_candidates), ("reject", report.false_reject),
        ("accept", report.false_accept), ("largest", report.largest),
    )}  # fmt: skip
    assert counts == {"right": (1, 4), "in": (3, 4), "reject": (1, 4), "accept": (2, 3), "largest": (3, 4)}
    assert report.to_dict()["false_accept"]["share"] == pytest.approx(2 / 3)


def test_without_unknown_pictures_there_is_no_false_accept() -> None:
    report = evaluate([prediction("dog", "dog")], ["dog"], ["dog", "cat"])
    assert report.false_accept.value is None
    assert report.to_dict()["false_accept"] == {"share": None, "low": 0.0, "high": 1.0, "count": 0, "of": 0}


def test_nothing_and_other_numbers_are_refused() -> None:
    with pytest.raises(vb.ConfigError, match="nothing to evaluate"):
        evaluate([], [], ["dog", "cat"])
    with pytest.raises(vb.ConfigError, match="2 truths for 1"):
        evaluate([prediction("dog", "dog")], ["dog", "cat"], ["dog", "cat"])


FLOATS = st.lists(
    st.sampled_from([round(0.05 * step, 2) for step in range(-20, 21)]), min_size=1, max_size=12
)


@given(FLOATS, FLOATS)
def test_no_bound_makes_fewer_false_accepts_and_rejects(known: list[float], unknown: list[float]) -> None:
    def cost(bound: float) -> float:
        return np.mean(np.array(known) < bound) + np.mean(np.array(unknown) >= bound)

    best = min(cost(bound) for bound in [*known, *unknown, 2.0])
    assert cost(none_threshold(known, unknown)) == pytest.approx(best)


@pytest.mark.parametrize(("known", "unknown"), [([], [0.5]), ([0.5], []), ([float("nan")], [0.1])])
def test_a_bound_needs_examples_of_both(known: list[float], unknown: list[float]) -> None:
    with pytest.raises(vb.ConfigError, match="threshold needs"):
        none_threshold(known, unknown)
