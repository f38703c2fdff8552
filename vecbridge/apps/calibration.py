"""Turns scores into probabilities by Platt's method.

Of items that a model scores 0.8, rarely eight of ten are of the category. From labelled items, Platt's method
fits two numbers a category: the calibrated probability is ``1 / (1 + exp(-(slope * f + intercept)))``, where
``f`` is the log-odds of the score. The fit is that of Lin, Lin and Weng (Machine Learning 68, 2007): Newton's
method with a line search, and targets a little inside 0 and 1 as Platt (1999) has them, so that there is a
solution even where the scores separate the labels perfectly.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecbridge.apps.policy import Category, Kind, Policy
from vecbridge.apps.scorers import Scores
from vecbridge.errors import ConfigError
from vecbridge.storage import replace_file

#: Labelled items of a category, with it and without it, below which nothing is fitted.
FEWEST: Final = 30
_EDGE: Final = 1e-9  # scores are at least this far from 0 and 1, which have no log-odds
_STEPS: Final = 100
_SMALLEST_STEP: Final = 1e-10
_RIDGE: Final = 1e-12  # keeps the Hessian regular
_ENOUGH: Final = 1e-5  # of the gradient
_SUFFICIENT: Final = 1e-4  # decrease, as Armijo has it
_MODEL: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
Labels = NDArray[np.bool_]


class Platt(BaseModel):
    """What calibrates the scores of one category.

    Attributes:
        slope: Above 0: calibrated scores have the order of the scores.
        intercept: Log-odds of an item whose score is one half.
        positives: Items of the category that it was fitted on.
        negatives: Other items that it was fitted on.
        category: Digest of the texts and negatives that the scores came from.
    """

    model_config = _MODEL

    slope: Annotated[float, Field(gt=0)]
    intercept: float
    positives: int
    negatives: int
    category: str = ""

    def __call__(self, scores: ArrayLike) -> Scores:
        """Calibrated probabilities of scores, of the same shape; NaN stays NaN."""
        exponent = np.clip(
            -(self.slope * _log_odds(np.asarray(scores, np.float64)) + self.intercept), -700, 700
        )
        found: Scores = 1 / (1 + np.exp(exponent))
        return found


def fit_platt(scores: ArrayLike, labels: ArrayLike, *, name: str = "") -> Platt:
    """Fits Platt's two numbers.

    Args:
        scores: From 0 to 1, of shape (n,).
        labels: Whether the category applies, of shape (n,).
        name: What errors call the category.

    Raises:
        ConfigError: Fewer than 30 items with or without the category; scores that are none; scores that do
            not rise with the labels, which calibration would turn around.

    Example:
        >>> fitted = fit_platt([0.9] * 30 + [0.8] * 30, [True] * 30 + [False] * 30)
        >>> fitted([0.8, 0.9]).round(2).tolist()
        [0.03, 0.97]
    """
    values, applies = np.asarray(scores, np.float64), np.asarray(labels, bool)
    called = f"category {name!r}: " if name else ""
    if values.ndim != 1 or values.shape != applies.shape:
        raise ConfigError(f"{called}a score and a label an item, not {values.shape} and {applies.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ConfigError(f"{called}scores are from 0 to 1")
    positives, negatives = int(applies.sum()), int((~applies).sum())
    if min(positives, negatives) < FEWEST:
        raise ConfigError(
            f"{called}{positives} with it and {negatives} without it: at least {FEWEST} of each are needed"
        )
    slope, intercept = _newton(_log_odds(values), applies)
    if slope <= 0:
        raise ConfigError(f"{called}its scores are no higher where it applies: the model cannot tell it")
    return Platt(slope=slope, intercept=intercept, positives=positives, negatives=negatives)


class Calibration(BaseModel):
    """What calibrates a model's scores under a policy; a JSON file.

    Attributes:
        version: Of the format.
        kind: Pictures or texts; scores of the two are not alike.
        model: Which model's scores, with its revision.
        categories: By name.
    """

    model_config = _MODEL

    version: Annotated[int, Field(ge=1, le=1)] = 1
    kind: Kind
    model: str
    categories: dict[str, Platt]

    @classmethod
    def fit(cls, policy: Policy, model: str, kind: Kind, scores: Scores, labels: Labels) -> Self:
        """Fits every category of a policy that applies to a kind of items.

        Args:
            policy: Its thresholds do not count.
            model: Which model's scores these are.
            kind: What the items are.
            scores: Of shape (items, categories), in the order of ``policy.applying(kind)``.
            labels: Which categories apply; of the same shape.

        Raises:
            ConfigError: As :func:`fit_platt`.
        """
        fitted = {}
        for column, category in enumerate(policy.applying(kind)):
            platt = fit_platt(scores[:, column], labels[:, column], name=category.name)
            fitted[category.name] = platt.model_copy(update={"category": _digest(category)})
        return cls(kind=kind, model=model, categories=fitted)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads the file that :meth:`save` wrote.

        Raises:
            ConfigError: It cannot be read, or is no calibration.
        """
        try:
            return cls.model_validate(json.loads(Path(path).read_text("utf-8")))
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror or exc}") from exc
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ConfigError(f"{path}: no calibration: {place}: {first['msg']}") from None
        except ValueError as exc:
            raise ConfigError(f"{path}: no calibration: no JSON: {exc}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as JSON; a file that is there is replaced as a whole.

        Raises:
            OSError: It cannot be written.
        """
        replace_file(Path(path), f"{self.model_dump_json(indent=2)}\n".encode())

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, for logs."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def require_use(self, policy: Policy, model: str, kind: Kind) -> None:
        """Refuses what it was not fitted on; the thresholds of the policy may have changed since.

        Args:
            policy: Whose scores are to be calibrated.
            model: What gives the scores, with its revision.
            kind: What is scored.

        Raises:
            ConfigError: Another model, the other kind of items, a category that it does not know, or one with
                other texts.
        """
        if kind != self.kind:
            raise ConfigError(f"the calibration is of {self.kind}s, not of {kind}s")
        if model != self.model:
            raise ConfigError(f"the calibration is of {self.model}, not of {model}: calibrate again")
        for category in policy.applying(kind):
            known = self.categories.get(category.name)
            if known is None:
                raise ConfigError(
                    f"the calibration does not know category {category.name!r}: calibrate again"
                )
            if known.category != _digest(category):
                raise ConfigError(
                    f"category {category.name!r} had other texts when it was calibrated: calibrate again"
                )

    def __call__(self, scores: Scores, categories: Sequence[Category]) -> Scores:
        """Calibrated scores, of shape (items, categories)."""
        columns = [self.categories[each.name](scores[:, row]) for row, each in enumerate(categories)]
        return np.stack(columns, axis=1)


def out_of_fold(
    scores: Scores, labels: Labels, names: Sequence[str], *, folds: int = 5, seed: int = 0
) -> Scores:
    """Calibrated scores of each item by a fit on the others: what to expect of items that were not labelled.

    Args:
        scores: Of shape (items, categories).
        labels: Of the same shape.
        names: Of the categories, for errors.
        folds: Parts; each is calibrated by a fit on the others. Both labels are spread over all of them.
        seed: Of the draw of the parts.

    Raises:
        ConfigError: As :func:`fit_platt`.
    """
    found = np.empty_like(scores)
    for column, name in enumerate(names):
        values, applies = scores[:, column], labels[:, column]
        fit_platt(values, applies, name=name)  # refuses what is too little as a whole
        part = parts(applies, folds, seed)
        for fold in range(folds):
            here = part == fold
            slope, intercept = _newton(_log_odds(values[~here]), applies[~here])
            found[here, column] = _sigmoid(slope * _log_odds(values[here]) + intercept)
    return found


def parts(labels: Labels, folds: int, seed: int) -> NDArray[np.int64]:
    """Draws the fold of each item, from 0; both labels are spread evenly over all folds."""
    random = np.random.default_rng(seed)
    found = np.empty(len(labels), np.int64)
    for label in (False, True):
        rows = random.permutation(np.flatnonzero(labels == label))
        found[rows] = np.arange(len(rows)) % folds
    return found


def _digest(category: Category) -> str:
    said: Mapping[str, Any] = {"texts": category.texts, "negatives": category.negatives}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _log_odds(scores: Scores) -> Scores:
    bounded = np.clip(scores, _EDGE, 1 - _EDGE)
    found: Scores = np.log(bounded) - np.log1p(-bounded)
    return found


def _sigmoid(logits: Scores) -> Scores:
    found: Scores = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))  # beyond, exp overflows
    return found


def _newton(values: Scores, labels: Labels) -> tuple[float, float]:
    """Slope and intercept with the least cross-entropy to Platt's targets; the Algorithm 1 of Lin et al."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(at: Scores) -> float:
        logits = at[0] * values + at[1]
        return float((np.logaddexp(0, logits) - targets * logits).sum())

    design = np.stack([values, np.ones_like(values)], axis=1)
    point = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    value = loss(point)
    for _ in range(_STEPS):
        probability = _sigmoid(design @ point)
        gradient = design.T @ (probability - targets)
        if np.abs(gradient).max() < _ENOUGH:
            break
        weights = probability * (1 - probability)
        hessian = design.T @ (design * weights[:, None]) + _RIDGE * np.eye(2)
        direction = -np.linalg.solve(hessian, gradient)
        step = 1.0
        while step >= _SMALLEST_STEP:
            moved = point + step * direction
            after = loss(moved)
            if after < value + _SUFFICIENT * step * float(gradient @ direction):
                point, value = moved, after
                break
            step /= 2
        else:
            break  # no step makes it better: the minimum, as far as rounding shows it
    return float(point[0]), float(point[1])
