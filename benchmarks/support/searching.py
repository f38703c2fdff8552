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
from vecbridge import field
from vecbridge.filters import Filter
from vecbridge.query import FloatArray

K = 10
BATCH_ROUNDS = 21
SINGLE = 300  # queries that are timed one at a time, and judged for recall under a filter
SHARES = (0.9, 0.5, 0.1, 0.01, 0.001)
COMPARED = 32_768  # where as many match or fewer, every match may be compared: such a recall proves nothing
WARM = 5
LATENCY_LIMIT = {0.1: 2.5, 0.01: 1.0, 0.001: 1.0}
FIRST_USE_MS = 20
RECALL = Target("figure", ">=", 0.95)


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
        Line("search", f"recall@{K} unfiltered", "", recall, raw_recall, against, RECALL),
    ]


def filtered(bench: Bench) -> list[Line]:
    """Filters that go with the geometry and filters that do not; first uses have lines of their own."""
    region = range(data.CLUSTERS // 2, data.CLUSTERS)  # far from where the regional filters keep rows
    everywhere, outside = bench.queries[:SINGLE], bench.mixture.queries(SINGLE, region)
    lines = [_first_of_text_column(bench)]
    for share in SHARES:
        for kind, make in (("random", data.random_filter), ("regional", data.regional_filter)):
            what = f"{100 * share:g} % {kind}"
            lines.append(_first_use(bench, what, make(share)))
            lines += _with_filter(bench, what, share, make(share), everywhere)
        lines += _with_filter(
            bench, f"{100 * share:g} % regional, queries outside", share, data.regional_filter(share), outside
        )
    return lines


def _asked(bench: Bench, vector: FloatArray, condition: Filter | None) -> list[vb.Hits]:
    return bench.collection.search(vb.Query(vector, k=K, ef=EF, filter=condition))


def _first_of_text_column(bench: Bench) -> Line:
    """What the first filter on a text column costs after opening, whatever it keeps; no target is set."""
    condition = field("title") == "no such title"
    for query in bench.queries[:WARM]:
        _asked(bench, query, None)
    taken = 1000 * seconds(partial(_asked, bench, bench.queries[0], condition))
    return Line("first", "first filter on a text column", "ms", taken)


def _first_use(bench: Bench, what: str, condition: Filter) -> Line:
    """The first use of a filter, before anything else compiles it; the second may prepare for later ones."""
    first, second = (1000 * seconds(partial(_asked, bench, query, condition)) for query in bench.queries[:2])
    bench.details[f"uses: {what}"] = {"first_ms": first, "second_ms": second}
    slower = "first" if first >= second else "second"
    return Line("first", f"first two uses, the slower ({slower}), {what}", "ms", max(first, second),
                target=Target("figure", "<=", FIRST_USE_MS))  # fmt: skip


def _with_filter(bench: Bench, what: str, share: float, filter: Filter, queries: FloatArray) -> list[Line]:
    rows = _matches(bench, filter)
    if not len(rows):
        raise RuntimeError(f"no row matches the filter that keeps {what}: more --rows are needed")
    for query in queries[:WARM]:
        _asked(bench, query, filter), _asked(bench, query, None)
    plain, narrow = [], []
    found = []
    for query in queries:
        both = _timed_in_turns(partial(_asked, bench, query, None), partial(_asked, bench, query, filter), 2)
        plain.append(1e6 * statistics.mean(both[0].values))
        narrow.append(1e6 * statistics.mean(both[1].values))
        found.append(_rows(_asked(bench, query, filter)[0]))
    recall = _recall(found, rows[exact_top(bench.vectors[rows], queries, K)])
    bench.details[f"filter: {what}"] = {
        "matches": len(rows),
        "p50_us": statistics.median(narrow),
        "unfiltered_p50_us": statistics.median(plain),
        "recall": recall,
    }
    can_miss = len(rows) > COMPARED
    against = "brute force over the matches" if can_miss else "no proof: few enough to compare all"
    bounded = Target("ratio", "<=", LATENCY_LIMIT[share]) if share in LATENCY_LIMIT else None
    own, other = Samples(tuple(narrow)), Samples(tuple(plain))
    return [
        Line("filter", f"recall@{K}, {what}", "", recall, 1.0, against, RECALL if can_miss else None),
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
