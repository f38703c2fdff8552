"""Recall by group: whether a search finds what it should for each group alike."""

from __future__ import annotations

import warnings
from collections.abc import Collection as Ids
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from vecbridge.apps.fair_search import require_group_field
from vecbridge.errors import ConfigError
from vecbridge.query import Query
from vecbridge.store import Collection
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
    relevant: Sequence[Ids[Hashable]],
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
            f"{len(found)} lists of hits, {len(relevant)} of ids, {len(groups)} groups: as many of each"
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


def recall_by_field(
    collection: Collection,
    query: Query,
    relevant: Sequence[Ids[str | int]],
    *,
    by: str,
    resamples: int = 2_000,
    seed: int = 0,
) -> RecallByGroup:
    """Searches a collection, and compares the groups of a field: does each find what it should?

    Args:
        collection: Any.
        query: Its vectors are the queries; ``query.k`` hits of each count.
        relevant: Ids that each query vector should find; at least one.
        by: The field whose value, in the records that a query should find, is its group.
        resamples: As of :func:`recall_by_group`.
        seed: As of :func:`recall_by_group`.

    Raises:
        ConfigError: No such field, or one whose values are no groups; a record that is not there; records of
            several groups for one query; what :func:`recall_by_group` refuses.
        SchemaError: A query that does not fit the collection.

    Warns:
        UserWarning: A group has fewer than 30 queries.
    """
    require_group_field(collection.spec, by)
    wanted = list(dict.fromkeys(key for ids in relevant for key in ids))
    there = collection.fetch(wanted, include=[by])
    known = dict(zip(there.column("id").to_pylist(), there.column(by).to_pylist(), strict=True))
    groups: list[Hashable] = []
    for row, ids in enumerate(relevant):
        absent = [key for key in ids if key not in known]
        if absent:
            raise ConfigError(f"query {row} should find {shown(absent[0])}, which is not in the collection")
        found = {known[key] for key in ids}
        if len(found) > 1:
            raise ConfigError(f"query {row} should find records of several values of {by!r}: divide it")
        groups += found or {None}
    vectors: Any = query.vectors if query.id is None else None  # a query has one of the two
    hits = collection.search(replace(query, vectors=vectors, include=()))
    return recall_by_group(
        [list(each.ids) for each in hits], relevant, groups, k=query.k, resamples=resamples, seed=seed
    )


def _figures(group: Any, recall: Any, resamples: int, random: np.random.Generator) -> GroupRecall:
    # one resample at a time needs memory for one, whatever the number of queries
    means = [recall[random.integers(0, len(recall), len(recall))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return GroupRecall(group, len(recall), float(recall.mean()), float(low), float(high))
