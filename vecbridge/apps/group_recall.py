"""Recall by group: whether a search finds what it should for each group alike."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from vecbridge.errors import ConfigError
from vecbridge.texts import shown

#: Queries of a group below which its figures say little.
FEW: Final = 30
_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class GroupRecall:
    """Recall of one group.

    Attributes:
        group: Its name; None where it has none.
        queries: How many queries it has.
        recall: Mean over its queries of the share of relevant records among the first k.
        low: Lower end of the 95 % interval.
        high: Its upper end.
    """

    group: Any
    queries: int
    recall: float
    low: float
    high: float

    @property
    def few(self) -> bool:
        """Whether it has so few queries that its figures say little."""
        return self.queries < FEW


@dataclass(frozen=True, slots=True)
class RecallByGroup:
    """Recall of each group.

    Attributes:
        k: How many hits of a query count.
        groups: In the order of their first queries.
        overall: Of all queries together.
        seed: Of the resamples.
    """

    k: int
    groups: tuple[GroupRecall, ...]
    overall: GroupRecall
    seed: int

    @property
    def gap(self) -> float:
        """The highest recall of a group less the lowest."""
        found = [each.recall for each in self.groups]
        return max(found) - min(found)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"gap": self.gap}


def recall_by_group(
    found: Sequence[Sequence[Hashable]],
    relevant: Sequence[Collection[Hashable]],
    groups: Sequence[Hashable],
    *,
    k: int = 10,
    resamples: int = 2_000,
    seed: int = 0,
) -> RecallByGroup:
    """Recall@k of each group, with bootstrap intervals.

    The interval is the percentile interval of resampled queries (Efron and Tibshirani, 1993): queries of the
    group are drawn with replacement, as many as it has. Where all queries agree it has no width, whatever
    their number.

    Args:
        found: Ids of the hits of each query, best first.
        relevant: Ids that each query should find; at least one.
        groups: The group of each query, such as the value of a field of the record that it should find.
        k: How many hits of a query count.
        resamples: Draws; more make the ends of the interval steadier.
        seed: Of the draws.

    Raises:
        ConfigError: No queries, numbers of them that differ, a query with nothing to find, k or resamples
            below 1.

    Warns:
        UserWarning: A group has fewer than 30 queries.

    Example:
        >>> hits, relevant = [["a", "b"], ["c", "d"]] * 30, [["a"], ["x"]] * 30
        >>> report = recall_by_group(hits, relevant, ["first", "second"] * 30, k=2)
        >>> [(each.group, each.recall) for each in report.groups], report.gap
        ([('first', 1.0), ('second', 0.0)], 1.0)
    """
    if not len(found) == len(relevant) == len(groups):
        raise ConfigError(
            f"{len(found)} lists of hits, {len(relevant)} of relevant ids and {len(groups)} groups: as many "
            "of each are wanted"
        )
    if not found:
        raise ConfigError("no queries: there is no recall")
    for name, value in (("k", k), ("resamples", resamples)):
        if value < 1:
            raise ConfigError(f"{name}={shown(value)}: at least 1")
    empty = [row for row, ids in enumerate(relevant) if not ids]
    if empty:
        raise ConfigError(f"query {empty[0]} has nothing to find: leave it out")
    recall = np.array(
        [
            len(set(hits[:k]) & set(wanted)) / len(set(wanted))
            for hits, wanted in zip(found, relevant, strict=True)
        ]
    )
    random = np.random.default_rng(seed)
    by_group: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        by_group.setdefault(group, []).append(row)
    figures = [_figures(group, recall[rows], resamples, random) for group, rows in by_group.items()]
    few = [f"{shown(each.group)} ({each.queries})" for each in figures if each.few]
    if few:
        warnings.warn(
            f"figures of fewer than {FEW} queries say little: {', '.join(few)}", UserWarning, stacklevel=2
        )
    return RecallByGroup(k, tuple(figures), _figures("all", recall, resamples, random), seed)


def _figures(group: Any, recall: Any, resamples: int, random: np.random.Generator) -> GroupRecall:
    # one resample at a time needs memory for one, whatever the number of queries
    means = [recall[random.integers(0, len(recall), len(recall))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return GroupRecall(group, len(recall), float(recall.mean()), float(low), float(high))
