"""Rankings in which groups are represented: DetConstSort, and measures of what it costs and brings.

The algorithm is that of Geyik, Ambler and Kenthapadi, "Fairness-Aware Ranking in Search & Recommendation
Systems with Application to LinkedIn Talent Search" (KDD 2019), Algorithm 3. It bounds representation from
below in every prefix: of a group with the target share p, the first k places hold at least floor(p * k), as
long as there are candidates of it. It changes the order no more than that needs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecbridge.errors import ConfigError
from vecbridge.texts import shown

Group: TypeAlias = Hashable
Targets: TypeAlias = Mapping[Group, Fraction]

#: Targets as floats are taken for the fraction nearest to them: 0.29 is 29/100, so that 100 places hold 29.
_LARGEST_DENOMINATOR: Final = 1_000_000
_TOLERANCE: Final = 1e-6


def shares(groups: Sequence[Group]) -> dict[Group, Fraction]:
    """The share of each group, in the order of their first places.

    Example:
        >>> shares(["a", "b", "a", "a"])
        {'a': Fraction(3, 4), 'b': Fraction(1, 4)}
    """
    return {group: Fraction(count, len(groups)) for group, count in Counter(groups).items()}


def checked_targets(targets: Mapping[Group, float | Fraction]) -> dict[Group, Fraction]:
    """Targets as exact fractions whose sum is 1.

    Raises:
        ConfigError: There are none, one is no share, or they do not add up to 1.
    """
    if not targets:
        raise ConfigError("no targets: give each group a share")
    for group, share in targets.items():
        number: Any = share  # whatever the caller gave
        known = isinstance(number, int | float | Fraction) and not isinstance(number, bool)
        if not known or not 0 <= number <= 1:
            raise ConfigError(f"target of {shown(group)}: {shown(share)} is no share from 0 to 1")
    total = math.fsum(float(share) for share in targets.values())
    if abs(total - 1) > _TOLERANCE:
        raise ConfigError(f"the targets add up to {total:g}, and must add up to 1")
    exact = {
        group: Fraction(share).limit_denominator(_LARGEST_DENOMINATOR) for group, share in targets.items()
    }
    whole = sum(exact.values())
    return {group: share / whole for group, share in exact.items()}


def det_const_sort(groups: Sequence[Group], targets: Targets, k: int) -> list[int]:
    """Ranks candidates so that each prefix represents the groups.

    The j-th best candidate of a group with the target share p stands at place ceil(j / p) or before. Where a
    group has no candidate left, the best of the others takes the place.

    Args:
        groups: Of each candidate, best first.
        targets: Exact shares that add up to 1; a group without one has the share 0.
        k: How many to rank, at most.

    Returns:
        Positions in ``groups``, best first: min(k, candidates) of them, none twice. Candidates of one group
        keep their order.

    Example:
        >>> half = Fraction(1, 2)
        >>> det_const_sort(["a", "a", "a", "b"], {"a": half, "b": half}, k=4)
        [0, 3, 1, 2]
    """
    waiting: dict[Group, list[int]] = {group: [] for group in targets}
    for position in reversed(range(len(groups))):
        waiting.setdefault(groups[position], []).append(position)
    placed: list[int] = []
    latest: list[float] = []  # of each place, the last one that its candidate may have, counted from 1
    taken: Counter[Group] = Counter()

    def place(group: Group) -> None:
        taken[group] += 1
        share = targets.get(group, Fraction(0))
        limit = math.ceil(taken[group] / share) if share else math.inf
        _insert(placed, latest, waiting[group].pop(), limit)

    step = 0
    while len(placed) < min(k, len(groups)):
        step += 1
        owed = {group: step * share // 1 for group, share in targets.items()}
        due = [group for group, places in owed.items() if waiting[group] and taken[group] < places]
        for group in sorted(due, key=lambda group: waiting[group][-1]):
            place(group)
        # the places of groups that have no candidates left
        while len(placed) < sum(owed.values()) and any(waiting.values()):
            place(min((group for group, left in waiting.items() if left), key=lambda each: waiting[each][-1]))
    return placed[:k]


def _insert(placed: list[int], latest: list[float], candidate: int, limit: float) -> None:
    """Appends a candidate, and moves it before worse ones that may stand a place later."""
    placed.append(candidate)
    latest.append(limit)
    row = len(placed) - 1
    while row and placed[row - 1] > candidate and latest[row - 1] > row:
        placed[row - 1 : row + 1] = placed[row], placed[row - 1]
        latest[row - 1 : row + 1] = latest[row], latest[row - 1]
        row -= 1


# -------------------------------------------------------------------------------------------- measures


def discounts(places: int) -> NDArray[np.float64]:
    """What a place is worth: 1 / log2(rank + 1), from 1 for the first."""
    found: NDArray[np.float64] = 1 / np.log2(np.arange(places) + 2)
    return found


def exposure(groups: Sequence[Group]) -> dict[Group, float]:
    """The share of attention that each group gets, by :func:`discounts` (Singh and Joachims, KDD 2018).

    Example:
        >>> exposure(["a", "a", "b"])["b"].__round__(3)
        0.235
    """
    worth = discounts(len(groups))
    found: dict[Group, float] = dict.fromkeys(groups, 0.0)
    for group, value in zip(groups, worth, strict=True):
        found[group] += float(value)
    return {group: value / float(worth.sum()) for group, value in found.items()}


def ndkl(groups: Sequence[Group], targets: Targets) -> float:
    """Normalised discounted Kullback-Leibler divergence of the prefixes from the targets; 0 is the best.

    Geyik et al., Definition 3.4. A group in the ranking whose target is 0 makes it infinite.

    Args:
        groups: Of each place, best first.
        targets: Shares that add up to 1.
    """
    if not groups:
        return 0.0
    worth, total = discounts(len(groups)), 0.0
    counts: Counter[Group] = Counter()
    for place, group in enumerate(groups, 1):
        if not targets.get(group):
            return math.inf
        counts[group] += 1
        total += worth[place - 1] * math.fsum(
            count / place * math.log(count / place / float(targets[each])) for each, count in counts.items()
        )
    return max(0.0, float(total / worth.sum()))  # rounding may leave it just below


def ndcg(order: Sequence[int], gains: ArrayLike) -> float:
    """Normalised discounted cumulative gain of a ranking, beside the best one of its length; 1 is the best.

    Args:
        order: Positions in ``gains``.
        gains: Of each candidate, at least 0.
    """
    values = np.asarray(gains, np.float64)
    worth = discounts(len(order))
    best = float((np.sort(values)[::-1][: len(order)] * worth).sum())
    return float((values[list(order)] * worth).sum()) / best if best > 0 else 1.0


def gains_of(scores: ArrayLike, *, higher_is_better: bool) -> NDArray[np.float64]:
    """Scores as gains from 0, for the worst candidate, to 1, for the best; all 1 where they are equal."""
    values = np.asarray(scores, np.float64) * (1 if higher_is_better else -1)
    spread = float(np.ptp(values)) if len(values) else 0.0
    if spread == 0:
        return np.ones_like(values)
    found: NDArray[np.float64] = (values - values.min()) / spread
    return found


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """What became of one group.

    Attributes:
        group: Its value of the field; None for records without one.
        target: The share that was wanted.
        candidates: How many there were.
        before: Share among the first k by score alone.
        after: Share in the ranking.
        exposure_before: Share of attention by score alone.
        exposure_after: Share of attention in the ranking.
        missing: Places in the first k that it should have, and has no candidates for.
    """

    group: Any
    target: float
    candidates: int
    before: float
    after: float
    exposure_before: float
    exposure_after: float
    missing: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """A ranking in which groups are represented.

    Attributes:
        order: Positions of the candidates, best first.
        groups: Figures of each group.
        ndkl_before: Of the first k by score alone; infinite with a group whose target is 0.
        ndkl_after: Of the ranking.
        ndcg_loss: 1 less nDCG: what the ranking costs, by gains.
    """

    order: tuple[int, ...]
    groups: tuple[GroupFigures, ...]
    ndkl_before: float
    ndkl_after: float
    ndcg_loss: float

    @property
    def warnings(self) -> list[str]:
        """Which groups have too few candidates."""
        return [
            f"{shown(each.group)} lacks {each.missing} of its places, which others took: only "
            f"{each.candidates} found"
            for each in self.groups
            if each.missing
        ]


def rerank(
    groups: Sequence[Group],
    gains: ArrayLike,
    k: int,
    targets: Mapping[Group, float | Fraction] | None = None,
) -> Ranking:
    """Ranks candidates by DetConstSort, and measures what that did.

    Args:
        groups: Of each candidate, best first.
        gains: Of each candidate, at least 0; see :func:`gains_of`.
        k: How many to rank, at most.
        targets: The share of each group, adding up to 1; None takes the shares among the candidates.

    Raises:
        ConfigError: Targets that are no shares, k below 1, or gains of another number or below 0.

    Example:
        >>> ranking = rerank(["a", "a", "a", "b"], [1.0, 0.9, 0.8, 0.4], k=2, targets={"a": 0.5, "b": 0.5})
        >>> ranking.order, round(ranking.ndcg_loss, 3)
        ((0, 3), 0.201)
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k={shown(k)}: a whole number from 1")
    values = np.asarray(gains, np.float64)
    if values.shape != (len(groups),) or not (values >= 0).all():
        raise ConfigError("gains: a number from 0 for each candidate")
    wanted = shares(groups) if targets is None else checked_targets(targets)
    order = det_const_sort(groups, wanted, int(k))
    places = len(order)
    plain, fair = list(groups[:places]), [groups[each] for each in order]
    return Ranking(
        tuple(order),
        tuple(_figures(groups, plain, fair, wanted)),
        ndkl(plain, wanted),
        ndkl(fair, wanted),
        1 - ndcg(order, values),
    )


def _figures(
    groups: Sequence[Group], plain: list[Group], fair: list[Group], wanted: Targets
) -> list[GroupFigures]:
    there, before, after = Counter(groups), Counter(plain), Counter(fair)
    seen_before, seen_after = exposure(plain), exposure(fair)
    places = len(fair) or 1
    found = []
    for group in dict.fromkeys([*wanted, *groups]):
        target = wanted.get(group, Fraction(0))
        found.append(
            GroupFigures(
                group,
                float(target),
                there[group],
                before[group] / places,
                after[group] / places,
                seen_before.get(group, 0.0),
                seen_after.get(group, 0.0),
                max(0, math.floor(target * len(fair)) - there[group]),
            )
        )
    return found
