"""Calibration by Platt's method: the fit, what it refuses, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.apps.calibration import FEWEST, Calibration, fit_platt, out_of_fold, parts
from vecbridge.apps.policy import Policy
from vecbridge.errors import ConfigError

WEAPONS = {"name": "weapons", "texts": ["knife"], "negatives": ["spoon"], "review": 0.4, "block": 0.8}
POLICY = Policy.of(model="bundled", categories=[WEAPONS])


def drawn(count: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels that are true as often as a calibration with these two numbers says."""
    random = np.random.default_rng(seed)
    odds = random.normal(scale=2, size=count)
    labels = random.random(count) < 1 / (1 + np.exp(-(slope * odds + intercept)))
    return 1 / (1 + np.exp(-odds)), labels


def cross_entropy(slope: float, intercept: float, scores: np.ndarray, labels: np.ndarray) -> float:
    """What Platt's method minimises, written out."""
    positives, negatives = labels.sum(), (~labels).sum()
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    probability = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + intercept)))
    return float(-(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).sum())


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.3, -2.0), (2.5, 1.0)])
def test_the_two_numbers_that_the_labels_were_drawn_with_are_found(slope: float, intercept: float) -> None:
    fitted = fit_platt(*drawn(20_000, slope, intercept))
    assert fitted.slope == pytest.approx(slope, abs=0.1)
    assert fitted.intercept == pytest.approx(intercept, abs=0.1)


def test_no_pair_of_numbers_nearby_is_better() -> None:
    scores, labels = drawn(500, 0.7, -0.5)
    fitted = fit_platt(scores, labels)
    least = cross_entropy(fitted.slope, fitted.intercept, scores, labels)
    for slope, intercept in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert least < cross_entropy(fitted.slope + slope, fitted.intercept + intercept, scores, labels)


def test_labels_that_the_scores_separate_perfectly_have_a_solution_inside_0_and_1() -> None:
    scores = np.array([0.0] * 40 + [1.0] * 40)
    found = fit_platt(scores, scores == 1)(scores)
    np.testing.assert_allclose(found, np.where(scores == 1, 41 / 42, 1 / 42), atol=1e-4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_calibrated_scores_keep_the_order_and_are_probabilities(scores: list[float]) -> None:
    found = fit_platt(*drawn(300, 1.5, -1))(np.sort(scores))
    assert ((found > 0) & (found < 1)).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(("positives", "negatives"), [(FEWEST - 1, 500), (500, FEWEST - 1), (0, 100)])
def test_fewer_than_thirty_with_or_without_the_category_are_refused(positives: int, negatives: int) -> None:
    scores = np.linspace(0.1, 0.9, positives + negatives)
    labels = np.arange(positives + negatives) >= negatives
    with pytest.raises(
        ConfigError, match=f"'x': {positives} with it and {negatives} without it: at least 30"
    ):
        fit_platt(scores, labels, name="x")


def test_thirty_of_each_are_enough() -> None:
    labels = np.arange(2 * FEWEST) >= FEWEST
    assert fit_platt(np.linspace(0.1, 0.9, 2 * FEWEST), labels).positives == FEWEST


def test_scores_that_fall_where_labels_rise_are_refused() -> None:
    scores, labels = drawn(400, 1, 0)
    with pytest.raises(ConfigError, match="the model cannot tell it"):
        fit_platt(scores, ~labels)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_scores_that_are_no_probabilities_are_refused(bad: float) -> None:
    scores, labels = drawn(100, 1, 0)
    scores[3] = bad
    with pytest.raises(ConfigError, match="scores are from 0 to 1"):
        fit_platt(scores, labels)


def test_each_item_is_calibrated_by_a_fit_on_the_other_folds() -> None:
    scores, labels = drawn(300, 1, 0)
    found = out_of_fold(scores[:, None], labels[:, None], ["x"], folds=5, seed=3)
    part = parts(labels, 5, 3)
    for fold in range(5):
        here = part == fold
        np.testing.assert_allclose(found[here, 0], fit_platt(scores[~here], labels[~here])(scores[here]))


def test_both_labels_are_spread_over_all_folds() -> None:
    labels = np.arange(130) < 31
    part = parts(labels, 5, 0)
    for label in (True, False):
        counts = np.bincount(part[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def fitted() -> Calibration:
    scores, labels = drawn(100, 1, 0)
    return Calibration.fit(POLICY, "m@1", "image", scores[:, None], labels[:, None])


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    calibration, path = fitted(), tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert Calibration.load(path).digest == calibration.digest
    assert [each.name for each in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda values: values.pop("model"), "model: Field required"),
        (lambda values: values.update(version=2), "version"),
        (lambda values: values["categories"]["weapons"].update(slope=-1), "slope"),
        (lambda values: values.update(extra=1), "extra"),
    ],
    ids=["missing", "version", "slope", "extra"],
)
def test_a_file_that_is_no_calibration_is_refused(change, error: str, tmp_path: Path) -> None:
    values = json.loads(fitted().model_dump_json())
    change(values)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(ConfigError, match=rf"calibration\.json: no calibration: .*{error}"):
        Calibration.load(path)


def test_a_file_that_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a: b", "utf-8")
    with pytest.raises(ConfigError, match="no JSON"):
        Calibration.load(tmp_path / "text")
    with pytest.raises(ConfigError, match="No such file"):
        Calibration.load(tmp_path / "none")


def test_thresholds_may_change_after_calibrating_and_nothing_else() -> None:
    calibration = fitted()
    changed = Policy.of(model="bundled", categories=[WEAPONS | {"review": 0.1, "block": 0.2}])
    calibration.require_use(changed, "m@1", "image")
    renamed = Policy.of(model="x", categories=[WEAPONS | {"name": "arms"}])
    for policy, model, kind, error in (
        (POLICY, "m@2", "image", "of m@1, not of m@2"),
        (POLICY, "m@1", "text", "of images, not of texts"),
        (Policy.of(model="x", categories=[WEAPONS | {"texts": ["gun"]}]), "m@1", "image", "other texts"),
        (renamed, "m@1", "image", "does not know category 'arms'"),
    ):
        with pytest.raises(ConfigError, match=error):
            calibration.require_use(policy, model, kind)
