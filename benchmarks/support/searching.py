"""Searches beside raw FAISS, and filtered searches beside unfiltered ones, with recall."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import faiss
import numpy as np

import vecbridge as vb
from support import data
from support.bench import EF, Bench, exact_top
from support.harness import Line, Samples, Target, compared, in_turns, seconds
from vecbridge.filters import Filter
from vecbridge.query import FloatArray

K = 10
BATCH_ROUNDS = 21
SINGLE = 300  # queries that are timed one at a time, and judged for recall under a filter
SHARES = (0.1, 0.01, 0.001)
MORE = 0.5  # reported beside them: so many matches that the index answers
WARM = 5
LATENCY_LIMIT = {0.1: 2.5, 0.01: 1.0, 0.001: 1.0}


def unfiltered(bench: Bench) -> list[Line]:
    """1,000 queries in one call, then one at a time, in turns with ``index.search``."""
    params = faiss.SearchParametersHNSW(efSearch=EF)

    def raw(queries: FloatArray) -> np.ndarray:
        rows: np.ndarray = bench.raw_index.search(queries, K, params=params)[1]
        return rows

    def own(queries: FloatArray) -> list[vb.Hits]:
        return bench.collection.search(vb.Query(queries, k=K, ef=EF))

    best = exact_top(bench.vectors, bench.queries, K)
    recall = _recall([_rows(hits) for hits in own(bench.queries)], best)
    raw_recall = _recall(list(raw(bench.queries)), best)
    batch = _timed_in_turns(partial(raw, bench.queries), partial(own, bench.queries), BATCH_ROUNDS)
    singles = [bench.queries[number : number + 1] for number in range(SINGLE)]
    for query in singles[:WARM]:
        raw(query), own(query)
    pairs = [_timed_in_turns(partial(raw, query), partial(own, query), 2) for query in singles]
    one = [Samples(tuple(1e6 * statistics.mean(pair[side].values) for pair in pairs)) for side in (0, 1)]
    against = f"index.search, ef={EF}"
    whole, single = Target("ratio", "<=", 1.1), Target("difference", "<=", 100)
    return [
        compared("search", "1,000 queries in one call", "s", batch[1], batch[0], against, whole),
        compared("search", "one query at a time, p50", "µs", one[1], one[0], against, single),
        Line("search", f"recall@{K} unfiltered", "", recall, raw_recall, against),
    ]


def filtered(bench: Bench) -> list[Line]:
    """Filters that go with the geometry and filters that do not, each used before it is timed."""
    region = range(data.CLUSTERS // 2, data.CLUSTERS)  # far from where the regional filters keep rows
    everywhere, outside = bench.queries[:SINGLE], bench.mixture.queries(SINGLE, region)
    lines = []
    for share in (*SHARES, MORE):
        for kind, make in (("random", data.random_filter), ("regional", data.regional_filter)):
            lines += _with_filter(bench, f"{100 * share:g} % {kind}", share, make(share), everywhere)
        lines += _with_filter(
            bench, f"{100 * share:g} % regional, queries outside", share, data.regional_filter(share), outside
        )
    return lines


def _with_filter(bench: Bench, what: str, share: float, filter: Filter, queries: FloatArray) -> list[Line]:
    def asked(vector: FloatArray, condition: Filter | None) -> list[vb.Hits]:
        return bench.collection.search(vb.Query(vector, k=K, ef=EF, filter=condition))

    # Before anything else compiles it; the second use prepares for those to come.
    uses = [1000 * seconds(partial(asked, query, filter)) for query in queries[:2]]
    rows = _matches(bench, filter)
    for query in queries[:WARM]:
        asked(query, filter), asked(query, None)
    plain, narrow = [], []
    found = []
    for query in queries:
        both = _timed_in_turns(partial(asked, query, None), partial(asked, query, filter), 2)
        plain.append(1e6 * statistics.mean(both[0].values))
        narrow.append(1e6 * statistics.mean(both[1].values))
        found.append(_rows(asked(query, filter)[0]))
    recall = _recall(found, rows[exact_top(bench.vectors[rows], queries, K)])
    bench.details[f"filter: {what}"] = {
        "matches": len(rows),
        **({} if "outside" in what else {"first_use_ms": uses[0], "second_use_ms": uses[1]}),
        "p50_us": statistics.median(narrow),
        "unfiltered_p50_us": statistics.median(plain),
        "recall": recall,
    }
    recalled = bounded = None
    if share in LATENCY_LIMIT:
        recalled, bounded = Target("figure", ">=", 0.95), Target("ratio", "<=", LATENCY_LIMIT[share])
    own, other = Samples(tuple(narrow)), Samples(tuple(plain))
    return [
        Line("filter", f"recall@{K}, {what}", "", recall, 1.0, "brute force over the matches", recalled),
        compared("filter", f"p50, {what}", "µs", own, other, "unfiltered", bounded),
    ]


def _matches(bench: Bench, filter: Filter) -> np.ndarray:
    pages = bench.collection.scan(include=[], filter=filter)
    ids = [each for page in pages for each in page.batch.column("id").to_pylist()]
    return np.array([_row(each) for each in ids], np.int64)


def _timed_in_turns(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[Samples, Samples]:
    times = in_turns({"first": partial(seconds, first), "second": partial(seconds, second)}, rounds)
    return Samples(tuple(times["first"])), Samples(tuple(times["second"]))


def _recall(found: list[np.ndarray], best: np.ndarray) -> float:
    hits = sum(len(np.intersect1d(some, true)) for some, true in zip(found, best, strict=True))
    return hits / best.size


def _rows(hits: vb.Hits) -> np.ndarray:
    return np.array([_row(each) for each in hits.ids], np.int64)


def _row(id: str | int) -> int:
    return int(str(id).removeprefix("row-"))
