"""How well scores tell categories apart on labelled items: precision and recall by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from vecbridge.apps.calibration import Labels
from vecbridge.apps.moderation import decide
from vecbridge.apps.policy import VERDICTS, Category, Kind, Policy
from vecbridge.apps.scorers import Scores
from vecbridge.errors import ConfigError

#: Items with or without a category below which its figures say little.
FEW: Final = 30


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall by threshold: an item counts as found from the threshold on.

    Attributes:
        thresholds: Every score that occurs, highest first.
        precision: Of what is found, the share that is right.
        recall: Of what is right, the share that is found; it rises.
    """

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]

    @property
    def average_precision(self) -> float:
        """The sum of precision times the step in recall; no interpolation between points."""
        steps = np.diff(np.array((0.0, *self.recall)))
        return float((steps * np.array(self.precision)).sum())


def precision_recall(scores: ArrayLike, labels: ArrayLike) -> Curve:
    """The curve of one category.

    Args:
        scores: Of shape (n,).
        labels: Whether the category applies, of shape (n,).

    Raises:
        ConfigError: No item is labelled with it, so that there is no recall.

    Example:
        >>> curve = precision_recall([0.9, 0.8, 0.7], [True, False, True])
        >>> curve.recall, curve.precision[1], round(curve.average_precision, 3)
        ((0.5, 0.5, 1.0), 0.5, 0.833)
    """
    values, applies = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if not applies.any():
        raise ConfigError("no item is labelled with the category: there is no recall")
    order = np.argsort(-values, kind="stable")
    values, applies = values[order], applies[order]
    last = np.append(
        np.flatnonzero(np.diff(values)), len(values) - 1
    )  # items of one score are found together
    right = np.cumsum(applies)[last]
    return Curve(
        tuple(values[last].tolist()),
        tuple((right / (last + 1)).tolist()),
        tuple((right / applies.sum()).tolist()),
    )


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What a threshold of the policy does.

    Attributes:
        threshold: From which score on items are found.
        found: How many are.
        precision: Share of them that is right; None where none is found.
        recall: Share found of those that are right; None where none is.
        false_positives: Share found of those that are not right; None where all are.
    """

    threshold: float
    found: int
    precision: float | None
    recall: float | None
    false_positives: float | None


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """Figures of one category.

    Attributes:
        name: The category.
        positives: Items labelled with it.
        negatives: The other items.
        average_precision: Area below the curve; None where no item is labelled with it.
        brier: Mean square of score less label (0 or 1); of always saying the share of positives, it is
            ``share * (1 - share)``.
        review: At the policy's threshold for review.
        block: At its threshold for blocking.
        curve: Precision and recall; None where no item is labelled with it.
    """

    name: str
    positives: int
    negatives: int
    average_precision: float | None
    brier: float
    review: AtThreshold
    block: AtThreshold
    curve: Curve | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a model under a policy.

    Attributes:
        kind: Pictures or texts.
        items: How many were labelled.
        calibrated: Whether the scores are calibrated ones.
        categories: In the order of the policy.
        unwanted: How many of the items with a label got which verdict.
        wanted: How many of the items without one.
    """

    kind: Kind
    items: int
    calibrated: bool
    categories: tuple[CategoryFigures, ...]
    unwanted: dict[str, int]
    wanted: dict[str, int]

    @property
    def warnings(self) -> list[str]:
        """Which categories have so few items that their figures say little."""
        return [
            f"category {each.name!r}: {each.positives} with it and {each.negatives} without it; "
            f"figures of fewer than {FEW} say little"
            for each in self.categories
            if min(each.positives, each.negatives) < FEW
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"warnings": self.warnings}


def evaluate(
    policy: Policy, kind: Kind, scores: Scores, labels: Labels, *, calibrated: bool = False
) -> Evaluation:
    """Compares scores with labels.

    Judge a calibration by items that it was not fitted on, or by
    :func:`~vecbridge.apps.calibration.out_of_fold` scores.

    Args:
        policy: Its thresholds are looked at.
        kind: What the items are.
        scores: Of shape (items, categories), in the order of ``policy.applying(kind)``.
        labels: Which categories apply; of the same shape.
        calibrated: Whether the scores are calibrated ones.

    Raises:
        ConfigError: No items, or arrays of other shapes.
    """
    categories = policy.applying(kind)
    if scores.shape != labels.shape or scores.ndim != 2 or scores.shape[1] != len(categories):
        raise ConfigError(
            f"scores {scores.shape} and labels {labels.shape}: a row an item, and {len(categories)} columns"
        )
    if not len(scores):
        raise ConfigError("no labelled items: there is nothing to compare")
    unwanted, wanted = (dict.fromkeys(map(str, VERDICTS), 0) for _ in range(2))
    for row, applies in zip(scores, labels, strict=True):
        (unwanted if applies.any() else wanted)[decide(categories, row).verdict] += 1
    figures = [_figures(each, scores[:, row], labels[:, row]) for row, each in enumerate(categories)]
    return Evaluation(kind, len(scores), calibrated, tuple(figures), unwanted, wanted)


def labels_of(applying: Sequence[Sequence[str]], categories: Sequence[Category]) -> Labels:
    """Which of some categories apply to each item: bool of shape (items, categories)."""
    return np.array([[each.name in names for each in categories] for names in applying], bool).reshape(
        len(applying), len(categories)
    )


def _figures(category: Category, scores: Scores, labels: Labels) -> CategoryFigures:
    curve = precision_recall(scores, labels) if labels.any() else None
    return CategoryFigures(
        category.name,
        int(labels.sum()),
        int((~labels).sum()),
        None if curve is None else curve.average_precision,
        float(((scores - labels) ** 2).mean()),
        _at(category.review, scores, labels),
        _at(category.block, scores, labels),
        curve,
    )


def _at(threshold: float, scores: Scores, labels: Labels) -> AtThreshold:
    found = scores >= threshold
    right = int((found & labels).sum())

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return AtThreshold(
        threshold,
        int(found.sum()),
        share(right, int(found.sum())),
        share(right, int(labels.sum())),
        share(int(found.sum()) - right, int((~labels).sum())),
    )
