"""How good a classifier is: right labels, false accepts and false rejects, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from vecbridge.apps.zeroshot import Prediction
from vecbridge.errors import ConfigError

_Z: Final = 1.959963984540054  # of the normal distribution, for 95 % on two sides


@dataclass(frozen=True, slots=True)
class Share:
    """A share of some items, with the 95 % interval of Wilson (1927).

    Attributes:
        count: How many.
        of: Of how many.
        low: Lower end of the interval; 0 where there are no items.
        high: Upper end; 1 where there are no items.

    Example:
        >>> Share.of_counts(90, 100)
        Share(count=90, of=100, low=0.826, high=0.945)
    """

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def of_counts(cls, count: int, of: int) -> Share:
        """The share with its interval, to three digits."""
        if not of:
            return cls(0, 0, 0.0, 1.0)
        share, z2 = count / of, _Z**2
        middle = (share + z2 / (2 * of)) / (1 + z2 / of)
        half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
        return cls(count, of, round(max(0.0, middle - half), 3), round(min(1.0, middle + half), 3))

    @property
    def value(self) -> float | None:
        """The share; None of no items."""
        return self.count / self.of if self.of else None

    def __str__(self) -> str:
        if self.value is None:
            return "no such items"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %, n={self.of:,})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"share": self.value, "low": self.low, "high": self.high, "count": self.count, "of": self.of}


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """How predictions compare with the truth.

    Attributes:
        right: Of the items of a label, those that got it (recall at 1). One that was rejected is wrong.
        in_candidates: Of these, those whose label is among the candidates (recall at k), rejected or not.
        false_reject: Of these, those that were taken for none of the labels.
        false_accept: Of the items of none of the labels, those that got one.
        largest: The share of the commonest label among the items that have one: what always saying it
            would get right.
    """

    right: Share
    in_candidates: Share
    false_reject: Share
    false_accept: Share
    largest: Share

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        names = ("right", "in_candidates", "false_reject", "false_accept", "largest")
        return {name: getattr(self, name).to_dict() for name in names}


def evaluate(
    predictions: Sequence[Prediction], truths: Sequence[str | None], labels: Collection[str]
) -> ClassificationReport:
    """Compares predictions with what the pictures show.

    Args:
        predictions: Of a classifier.
        truths: The right label of each; one that is none of the labels, or None, is "none of these".
        labels: The classifier's labels.

    Raises:
        ConfigError: Another number of truths than of predictions, or none at all.

    Example:
        >>> from vecbridge.apps.zeroshot import Candidate
        >>> dog, nothing = Candidate("dog", 0.3, None), Candidate("cat", 0.1, None)
        >>> predictions = [Prediction("dog", (dog,)), Prediction(None, (nothing,)), Prediction("dog", (dog,))]
        >>> report = evaluate(predictions, ["dog", "cat", "a house"], ["dog", "cat"])
        >>> report.right.value, report.false_reject.value, report.false_accept.value
        (0.5, 0.5, 1.0)
    """
    if len(predictions) != len(truths):
        raise ConfigError(f"{len(truths)} truths for {len(predictions)} predictions: one each")
    if not predictions:
        raise ConfigError("nothing to evaluate: no predictions")
    pairs = list(zip(predictions, truths, strict=True))
    known = [(each, truth) for each, truth in pairs if truth is not None and truth in labels]
    unknown = [each for each, truth in pairs if truth is None or truth not in labels]
    counts = [sum(truth == label for _, truth in known) for label in set(labels)]
    n = len(known)
    return ClassificationReport(
        right=Share.of_counts(sum(each.label == truth for each, truth in known), n),
        in_candidates=Share.of_counts(
            sum(any(candidate.label == truth for candidate in each.candidates) for each, truth in known), n
        ),
        false_reject=Share.of_counts(sum(each.label is None for each, _ in known), n),
        false_accept=Share.of_counts(sum(each.label is not None for each in unknown), len(unknown)),
        largest=Share.of_counts(max(counts, default=0), n),
    )


def none_threshold(known: ArrayLike, unknown: ArrayLike) -> float:
    """A bound for ``none_below``, from examples: that with the least false accepts and false rejects in sum.

    What it costs must be measured on other examples, of other labels than those here: :func:`evaluate`.

    Args:
        known: Best cosines of pictures that one of the labels fits, as ``prediction.best.cosine``.
        unknown: Best cosines of pictures that none fits, for instance of labels that were held out.

    Raises:
        ConfigError: No examples of one of the two, or NaN among them.

    Example:
        >>> round(none_threshold([0.9, 0.8, 0.6], [0.5, 0.3, 0.7]), 3)
        0.55
    """
    one, two = (np.sort(np.asarray(each, np.float64).ravel()) for each in (known, unknown))
    if not len(one) or not len(two):
        raise ConfigError("a threshold needs examples of both: of the labels, and of none of them")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ConfigError("a threshold needs finite cosines")
    values = np.unique(np.concatenate([one, two]))
    middles = (values[1:] + values[:-1]) / 2
    bounds = np.concatenate([values[:1], middles, [np.nextafter(values[-1], np.inf)]])
    rejected = np.searchsorted(one, bounds, "left")
    accepted = len(two) - np.searchsorted(two, bounds, "left")
    # both shares times len(one) len(two): whole numbers, so that a tie is one and the lowest bound wins
    return float(bounds[np.argmin(rejected * len(two) + accepted * len(one))])
