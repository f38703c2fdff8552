"""Cost models: time as a sum of terms in the size, fitted to points, with the error on held-out ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

#: A term of a model: what a coefficient is multiplied by, at a size.
Term = Callable[[float], float]


def constant(_: float) -> float:
    return 1.0


def linear(size: float) -> float:
    return size


def log_linear(size: float) -> float:
    return size * math.log2(max(size, 2))


TERMS: Final[dict[str, Term]] = {"1": constant, "n": linear, "n log2 n": log_linear}
#: The form of a power law, which is no sum of terms.
POWER: Final = ("n^p",)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model.

    Attributes:
        terms: Names from :data:`TERMS`.
        coefficients: One a term, none below 0.
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]

    def at(self, size: float) -> float:
        """What the model says of a size."""
        pairs = zip(self.terms, self.coefficients, strict=True)
        return sum(coefficient * TERMS[name](size) for name, coefficient in pairs)

    def __str__(self) -> str:
        pairs = zip(self.terms, self.coefficients, strict=True)
        parts = [f"{value:.3g}" + ("" if name == "1" else f" {name}") for name, value in pairs if value]
        return " + ".join(parts) or "0"


@dataclass(frozen=True, slots=True)
class Power:
    """A fitted power law.

    Attributes:
        factor: At size 1.
        exponent: Of the size.
    """

    factor: float
    exponent: float

    def at(self, size: float) -> float:
        """What the model says of a size."""
        return self.factor * size**self.exponent

    def __str__(self) -> str:
        return f"{self.factor:.3g} n^{self.exponent:.2f}"


def fitted(terms: Sequence[str], sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """The model of least relative squared error whose coefficients are not negative.

    Args:
        terms: Names from :data:`TERMS`.
        sizes: Of the points.
        seconds: Measured at each.
    """
    measured = np.asarray(seconds, np.float64)
    matrix = np.array([[TERMS[name](size) for name in terms] for size in sizes]) / measured[:, None]
    kept = list(range(len(terms)))
    while True:
        solution, *_ = np.linalg.lstsq(matrix[:, kept], np.ones(len(measured)), rcond=None)
        negative = [place for place, value in zip(kept, solution, strict=True) if value < 0]
        if not negative:
            break
        kept = [place for place in kept if place != negative[0]]
    found = dict(zip(kept, solution.tolist(), strict=True))
    return Fit(tuple(terms), tuple(found.get(place, 0.0) for place in range(len(terms))))


def fitted_power(sizes: Sequence[float], seconds: Sequence[float]) -> Power:
    """The power law of least squared error of the logarithms.

    Args:
        sizes: Of the points.
        seconds: Measured at each.
    """
    slope, height = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return Power(float(np.exp(height)), float(slope))


def model(terms: Sequence[str], sizes: Sequence[float], seconds: Sequence[float]) -> Fit | Power:
    """The fitted model of a form: a sum of terms, or the power law that ``("n^p",)`` stands for."""
    return fitted_power(sizes, seconds) if tuple(terms) == POWER else fitted(terms, sizes, seconds)


def held_out(terms: Sequence[str], sizes: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """For each point, the relative error of the model that was fitted to the others."""
    errors = []
    for place, (size, measured) in enumerate(zip(sizes, seconds, strict=True)):
        others = [other for other in range(len(sizes)) if other != place]
        fit = model(terms, [sizes[other] for other in others], [seconds[other] for other in others])
        errors.append(fit.at(size) / measured - 1)
    return errors
