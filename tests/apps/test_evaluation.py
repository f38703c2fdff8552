"""Figures against labels: curves, thresholds, the page, and the file of labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vecbridge.apps.evaluation import evaluate, labels_of, precision_recall
from vecbridge.apps.evaluation_page import HEADINGS, page, rows
from vecbridge.apps.labelled import read_labelled, score_labelled
from vecbridge.apps.policy import Policy
from vecbridge.errors import ConfigError, InvalidRecordError

THRESHOLDS = {"review": 0.5, "block": 0.8}
POLICY = Policy.of(
    model="fake",
    categories=[
        {"name": "weapons", "applies_to": ["image"]} | THRESHOLDS,
        {"name": "<b>alcohol</b>"} | THRESHOLDS,
    ],
)

LABELLED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=30
).filter(lambda rows: any(label for _, label in rows))


@given(LABELLED)
def test_each_point_of_the_curve_is_what_counting_says(drawn: list[tuple[float, bool]]) -> None:
    curve = precision_recall([score for score, _ in drawn], [label for _, label in drawn])
    assert list(curve.thresholds) == sorted({score for score, _ in drawn}, reverse=True)
    for threshold, precision, recall in zip(*(getattr(curve, name) for name in curve.__slots__), strict=True):
        found = [label for score, label in drawn if score >= threshold]
        assert precision == pytest.approx(sum(found) / len(found))
        assert recall == pytest.approx(sum(found) / sum(label for _, label in drawn))
    assert 0 < curve.average_precision <= 1 + 1e-12


def test_perfect_scores_have_an_average_precision_of_1_and_equal_ones_the_share_of_positives() -> None:
    labels = [True, True, False, False, False]
    assert precision_recall([5, 4, 3, 2, 1], labels).average_precision == pytest.approx(1)
    assert precision_recall([1] * 5, labels).average_precision == pytest.approx(2 / 5)


def test_without_a_labelled_item_there_is_no_curve() -> None:
    with pytest.raises(ConfigError, match="there is no recall"):
        precision_recall([0.1], [False])


def figures() -> Any:
    scores = np.array([[0.9, 0.1], [0.6, 0.2], [0.2, 0.55], [0.1, 0.1]])
    labels = np.array([[True, False], [False, False], [True, False], [False, False]])
    return evaluate(POLICY, "image", scores, labels)


def test_figures_at_the_thresholds_and_verdicts_are_counted() -> None:
    report = figures()
    weapons, alcohol = report.categories
    assert (weapons.positives, weapons.negatives, weapons.review.found) == (2, 2, 2)
    assert (weapons.review.precision, weapons.review.recall, weapons.review.false_positives) == (
        0.5,
        0.5,
        0.5,
    )
    assert (weapons.block.precision, weapons.block.recall, weapons.block.false_positives) == (1.0, 0.5, 0.0)
    assert weapons.brier == pytest.approx((0.1**2 + 0.6**2 + 0.8**2 + 0.1**2) / 4)
    assert (alcohol.average_precision, alcohol.curve, alcohol.block.precision, alcohol.block.recall) == (
        None,
    ) * 4
    assert report.unwanted == {"allow": 0, "review": 1, "block": 1}
    assert report.wanted == {"allow": 1, "review": 1, "block": 0}
    assert len(report.warnings) == 2
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["items"] == 4


@pytest.mark.parametrize(("rows", "columns"), [(0, 2), (3, 1)])
def test_nothing_or_another_shape_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(ConfigError, match=r"columns|no labelled items"):
        evaluate(POLICY, "image", np.zeros((rows, columns)), np.zeros((rows, columns), bool))


def test_the_page_has_the_figures_the_curve_and_no_markup_of_names() -> None:
    report = figures()
    text = page(report, model="m<1>")
    for cell in (cell for each in report.categories for row in rows(each) for cell in row[1:]):
        assert cell in text
    assert text.count("<polyline") == 1  # the other category has no labelled item
    assert "<b>alcohol" not in text
    assert "&lt;b&gt;alcohol" in text
    assert "m&lt;1&gt;" in text
    assert all(len(row) == len(HEADINGS) for row in rows(report.categories[0]))


# ------------------------------------------------------------------------------------ files of labels


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_labels_are_read_with_paths_from_their_folder(tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.jsonl", {"file": "a.png", "labels": ["weapons"]}, {"file": "b.png", "labels": []}
    )
    found = read_labelled(path, POLICY)
    assert found.items == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert found.table(POLICY).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"file": "b.png", "labels": ["weapon"]}, "called 'weapon'; did you mean 'weapons'"),
        ({"file": "b.png", "label": []}, "unknown key 'label'; did you mean 'labels'"),
        ({"file": "b.png"}, "labels must be a list"),
        ({"file": "b.png", "labels": "weapons"}, "labels must be a list"),
        ({"labels": []}, "either file or text"),
        ({"file": "b.png", "text": "b", "labels": []}, "either file or text"),
        ({"file": "", "labels": []}, "strings that are not empty"),
        ({"text": "b", "labels": []}, "a text among images"),
        ({"text": "b", "labels": ["weapons"]}, "no category for texts is called 'weapons'"),
        ({"file": "a.png", "labels": []}, "the same item as in line 1"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: dict[str, Any], error: str, tmp_path: Path) -> None:
    path = write(tmp_path / "labels.jsonl", {"file": "a.png", "labels": []}, line)
    with pytest.raises(ConfigError, match=rf"labels\.jsonl:2: .*{error}"):
        read_labelled(path, POLICY)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "No such file"),
        ("", "no labelled items"),
        ("{", ":1: "),
        ("[1]", "not a JSON object"),
    ],
)
def test_a_file_without_labels_is_refused(content: str | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=error):
        read_labelled(path, POLICY)


class Sizes:
    """Scores pictures by their width."""

    model = "sizes"

    def score(self, kind: str, items: Any, categories: Any) -> Any:
        return np.array([[item.width / 100] * len(categories) for item in items])


def test_labelled_items_are_scored_in_batches_and_one_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    for width in range(1, 6):
        Image.new("RGB", (width, 2)).save(tmp_path / f"{width}.png")
    lines = [{"file": f"{width}.png", "labels": []} for width in range(1, 6)]
    labelled = read_labelled(write(tmp_path / "labels.jsonl", *lines), POLICY)
    found = score_labelled(Sizes(), labelled, POLICY, batch_size=2)
    np.testing.assert_allclose(found[:, 0], [0.01, 0.02, 0.03, 0.04, 0.05])
    (tmp_path / "4.png").write_bytes(b"broken")
    with pytest.raises(InvalidRecordError) as caught:
        score_labelled(Sizes(), labelled, POLICY, batch_size=2)
    assert [(each.row, each.id) for each in caught.value.rows] == [(3, str(tmp_path / "4.png"))]


def test_labels_without_items_keep_the_number_of_categories() -> None:
    assert labels_of([], POLICY.categories).shape == (0, 2)
