"""Judges the answers to searches against the exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.indexes import IndexParams
from vecbridge.migration.drawing import Drawn
from vecbridge.migration.oracle import Best, Oracle, Wide
from vecbridge.migration.plots import percent
from vecbridge.migration.proof import Finding, Recall, Scores
from vecbridge.query import FloatArray
from vecbridge.schema import Metric

ENOUGH: Final = 0.95
BELOW_SOURCE: Final = 0.02
BELOW_SOURCE_QUANTIZED: Final = 0.05
TOLERANCE: Final = 1e-4
_SURE: Final = 200  # queries from which on the estimate itself decides
_OWN: Final = 100  # queries from which on a namespace is judged alone
_Z: Final = 1.959964  # of a 95 % interval
_SHOWN: Final = 400  # scores of a scatter plot
_ROUNDING: Final = 1e-5  # of the product of two lengths: what float32 may lose


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """The hits of one query: ids at the target, and the scores that the database gave."""

    ids: list[Any]
    scores: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What became of the searches of one group.

    Attributes:
        lines: One a query.
        hits: How many of its hits are among the best, a query; int64, shape (queries,).
        wrong: Hits whose score is not that of their row, and hits that were looked at.
    """

    lines: list[Line]
    hits: np.ndarray[Any, np.dtype[np.int64]]
    wrong: int
    looked_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The answers of both sides to the searches of one namespace, under one filter.

    Attributes:
        namespace: At the target.
        group: 0 without a filter, else its number from 1.
        metric: How vectors are compared.
        best: The exact answers.
        target: Those of the target.
        source: Those of the source; None where it was not asked.
    """

    namespace: str
    group: int
    metric: Metric
    best: Best
    target: Answers
    source: Answers | None

    @property
    def expected(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Hits that an exact search has, a query."""
        counts: np.ndarray[Any, np.dtype[np.int64]] = np.isfinite(self.best.scores).sum(axis=1)
        return counts


def answers(
    lines: list[Line],
    oracle: Oracle,
    best: Best,
    vector: str,
    drawn: Drawn | None,
    rows: Callable[[list[Any]], pa.RecordBatch],
) -> Answers:
    """Counts the hits whose exact score reaches the k-th.

    Args:
        lines: The hits, one a query.
        oracle: Computes exact scores.
        best: The exact answers.
        vector: The vector field.
        drawn: The filter of the searches.
        rows: Fetches rows by their ids at the target, in the schema of the target.
    """
    known = [dict(zip(ids, scores, strict=True)) for ids, scores in zip(best.ids, best.scores, strict=True)]
    looked_up = {id for line, mine in zip(lines, known, strict=True) for id in line.ids if id not in mine}
    vectors, matching, lengths = _fetched(list(looked_up), vector, drawn, rows)
    sign = 1.0 if oracle.metric.higher_is_better else -1.0
    hits, wrong, looked_at = np.zeros(len(lines), np.int64), 0, 0
    for query, (line, mine) in enumerate(zip(lines, known, strict=True)):
        expected = int(np.isfinite(best.scores[query]).sum())
        exact = _exact(query, line.ids, mine, vectors, oracle, sign)
        if expected:
            kth = best.scores[query, expected - 1]
            reached = exact >= kth - TOLERANCE * max(1.0, abs(kth))
            good = {id for id, enough in zip(line.ids, reached, strict=True)
                    if enough and (id in mine or id in matching)}  # fmt: skip
            hits[query] = min(len(good), expected)
        there = np.isfinite(exact)
        slack = np.array([lengths.get(id, 0.0) for id in line.ids]) * oracle.length(query)
        allowed = TOLERANCE * np.maximum(1.0, np.abs(exact)) + _ROUNDING * slack
        with np.errstate(invalid="ignore"):
            wrong += int((np.abs(sign * exact - line.scores) > allowed)[there].sum())
        looked_at += int(there.sum())
    return Answers(lines, hits, wrong, looked_at)


def merged(left: Line, right: Line, metric: Metric, k: int) -> Line:
    """The best hits of two lines."""
    ids, scores = left.ids + right.ids, np.concatenate([left.scores, right.scores])
    order = np.argsort(-scores if metric.higher_is_better else scores, kind="stable")[:k]
    return Line([ids[place] for place in order], scores[order])


def verdict(
    vector: str,
    judged: Sequence[Judged],
    filters: Sequence[Drawn],
    index: IndexParams,
    min_recall: float | None,
    *,
    exact_scores: bool,
) -> tuple[list[Finding], list[Recall], Scores]:
    """What the answers are worth.

    Args:
        vector: The vector field.
        judged: The answers of every namespace and filter.
        filters: The filters.
        index: The index that the target declares.
        min_recall: The recall that is enough; None is 0.95.
        exact_scores: Whether the scores of the target have to be those of the rows.
    """
    findings: list[Finding] = []
    recalls: list[Recall] = []
    below = BELOW_SOURCE_QUANTIZED if index.quantized else BELOW_SOURCE
    for (namespace, group), members in _grouped(judged).items():
        expected = np.concatenate([each.expected for each in members])
        if not expected.sum():
            continue
        drawn = filters[group - 1] if group else None
        found = _recall(vector, namespace, drawn, members, expected, below, min_recall or ENOUGH)
        recalls.append(found)
        if not found.passed:
            where = "" if drawn is None else f" under a filter that {percent(found.share)} of the rows match"
            detail = f"recall@10 is {found.target:.3f}{where}, and should be {found.required:.3f}"
            findings.append(Finding("recall", detail, namespace, column=vector))
    if not recalls:
        findings.append(Finding("queries", "no query had a hit to expect", column=vector))
    wrong = sum(each.target.wrong for each in judged)
    looked_at = sum(each.target.looked_at for each in judged)
    if exact_scores and wrong:
        detail = f"{wrong:,} of {looked_at:,} scores are not those of their rows"
        findings.append(Finding("scores", detail, column=vector))
    return findings, recalls, _scatter(vector, judged)


def wilson(share: float, trials: int) -> float:
    """The lower end of the 95 % interval of a share (E. B. Wilson, 1927, doi:10.2307/2276774)."""
    if not trials:
        return 0.0
    square = _Z * _Z / trials
    middle = share + square / 2
    half = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, (middle - half) / (1 + square))


def _recall(
    vector: str,
    namespace: str | None,
    drawn: Drawn | None,
    members: Sequence[Judged],
    expected: Any,
    below: float,
    enough: float,
) -> Recall:
    queries, total = int((expected > 0).sum()), int(expected.sum())
    hits = np.concatenate([each.target.hits for each in members])
    target = float(hits.sum() / total)
    low = wilson(target, total)
    asked = [each for each in members if each.source is not None]
    source: float | None = None
    passed, required = False, enough
    if asked and len(asked) == len(members):
        of_source = np.concatenate([each.source.hits for each in asked if each.source is not None])
        source = float(of_source.sum() / total)
        gaps = (of_source - hits)[expected > 0] / expected[expected > 0]
        worst = float(gaps.mean())
        if queries < _SURE:
            worst += _Z * float(gaps.std()) / math.sqrt(queries)
        passed = worst <= below
        required = min(enough, source - below)
    passed |= (target if queries >= _SURE else low) >= enough
    matches = sum(each.best.matches for each in members)
    share = matches / max(sum(each.best.rows for each in members), 1)
    agreement = _agreement(asked)
    return Recall(
        vector, namespace, None if drawn is None else drawn.json, share, queries, total, target, source, low,
        required, bool(passed), agreement,
    )  # fmt: skip


def _grouped(judged: Sequence[Judged]) -> dict[tuple[str | None, int], list[Judged]]:
    """All namespaces together under each filter; without one also each that has enough queries of its own."""
    grouped: dict[tuple[str | None, int], list[Judged]] = {}
    for each in judged:
        grouped.setdefault((None, each.group), []).append(each)
    if len({each.namespace for each in judged}) > 1:
        for each in judged:
            if each.group == 0 and len(each.best.scores) >= _OWN:
                grouped.setdefault((each.namespace, 0), []).append(each)
    return grouped


def _agreement(members: Sequence[Judged]) -> float | None:
    same = ranks = 0
    for each in members:
        assert each.source is not None
        for mine, theirs in zip(each.source.lines, each.target.lines, strict=True):
            ranks += max(len(mine.ids), len(theirs.ids))
            same += sum(left == right for left, right in zip(mine.ids, theirs.ids, strict=False))
    return same / ranks if ranks else None


def _scatter(vector: str, judged: Sequence[Judged]) -> Scores:
    """Scores of the same hits on both sides, evenly chosen."""
    pairs: list[tuple[float, float]] = []
    for each in judged:
        if each.source is None or each.group:
            continue
        for mine, theirs in zip(each.source.lines, each.target.lines, strict=True):
            scores = dict(zip(mine.ids, mine.scores.tolist(), strict=True))
            pairs += [
                (scores[id], score)
                for id, score in zip(theirs.ids, theirs.scores.tolist(), strict=True)
                if id in scores and math.isfinite(score) and math.isfinite(scores[id])
            ]
    step = max(1, len(pairs) // _SHOWN)
    shown = pairs[::step][:_SHOWN]
    return Scores(vector, tuple(left for left, _ in shown), tuple(right for _, right in shown))


def _fetched(
    ids: list[Any], vector: str, drawn: Drawn | None, rows: Callable[[list[Any]], pa.RecordBatch]
) -> tuple[dict[Any, FloatArray], set[Any], dict[Any, float]]:
    """Vectors of rows that are not among the best, which of them match the filter, and their lengths."""
    if not ids:
        return {}, set(), {}
    batch = rows(ids)
    names = batch.column("id").to_pylist()
    stored = records.vectors(batch, vector)
    mask = np.ones(len(names), np.bool_) if drawn is None else drawn.mask(batch)
    lengths = np.linalg.norm(stored.astype(np.float64), axis=1).tolist()
    found = dict(zip(names, stored, strict=True))
    matching = {name for name, there in zip(names, mask, strict=True) if there}
    return found, matching, dict(zip(names, lengths, strict=True))


def _exact(
    query: int, ids: list[Any], known: dict[Any, float], vectors: dict[Any, FloatArray], oracle: Oracle,
    sign: float,
) -> Wide:  # fmt: skip
    """Exact scores of some hits, the larger the better; -inf of a row that is not there."""
    exact = np.array([known.get(id, -np.inf) for id in ids], np.float64)
    others = [place for place, id in enumerate(ids) if id not in known and id in vectors]
    if others:
        stored = np.stack([vectors[ids[place]] for place in others])
        exact[others] = sign * oracle.exact(np.full(len(others), query), stored)
    return exact
