"""Filtered searches of the FAISS store beside the same searches without a filter, with their recall.

Filters keep 0.1 to 90 % of the rows: random rows, or a region of the space that is asked from inside and from
outside. Prints a table and writes results/faiss_filters.json and a figure beside it. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from support import data
from support.bench import exact_top
from support.harness import Line, Samples, Target, compared, in_turns, machine, seconds
from support.report import named, reported

import vecbridge as vb
from vecbridge import field
from vecbridge.filters import Filter
from vecbridge.query import FloatArray

HERE = Path(__file__).parent
SHARES = (0.001, 0.01, 0.1, 0.2, 0.5, 0.9)
K = 10
FRESH = 5  # filters of the same rows whose first and second uses are timed
WARM = 10
CHUNK = 50_000
LONGEST_MS = 20.0  # that any call may take
RECALL = 0.95
SPEC = {"id_type": "int64", "fields": {"year": "int64", "cluster": "int64"}, "metric": "cosine"}


class Case(NamedTuple):
    """A filter, and from where it is asked.

    Attributes:
        name: Share and kind.
        share: Of the rows that it keeps, about.
        outside: Whether the queries come from where no match is.
        filter: The filter.
        kept: Which rows match, bool (rows,).
        queries: float32 (n, dim).
    """

    name: str
    share: float
    outside: bool
    filter: Filter
    kept: np.ndarray
    queries: FloatArray


class Data(NamedTuple):
    """The rows and their scalar fields."""

    vectors: FloatArray
    years: np.ndarray
    clusters: np.ndarray


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=200, help="of each filter, one at a time")
    parser.add_argument("--seed", type=int, default=1, help="of rows, fields and queries")
    parser.add_argument("--keep", type=Path, help="a directory whose collection is built once and stays")
    parser.add_argument("--label", help="ends the names of the files, such as 1m")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    return parser.parse_args()


def drawn(mixture: data.Mixture, rows: int, seed: int) -> Data:
    """All rows."""
    points = mixture.draw(rows, 1000 + seed)
    years = np.random.default_rng([seed, 1]).integers(0, 1000, rows)
    return Data(points.vectors, years, points.clusters)


@contextmanager
def collection(options: argparse.Namespace, rows: Data) -> Iterator[tuple[vb.Collection, dict[str, float]]]:
    """The rows behind an HNSW index, and what building took."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        place = (options.keep or Path(work)).resolve()
        with vb.connect(f"faiss://{place}") as store:
            spec = vb.CollectionSpec.single("bench", dim=options.dim, index=vb.HNSW(), **SPEC)
            found = store.create(spec, if_exists="open")
            taken = {}
            if found.count() == 0:
                for low in range(0, len(rows.years), CHUNK):
                    some = slice(low, low + CHUNK)
                    ids = np.arange(low, low + len(rows.years[some]))
                    columns = {"year": rows.years[some], "cluster": rows.clusters[some]}
                    found.upsert(vb.batch(spec, id=ids, vector=rows.vectors[some], **columns))
                taken["wait_ready_s"] = seconds(partial(found.wait_ready, 36_000))
            yield found, taken


def cases(mixture: data.Mixture, rows: Data, queries: int, seed: int) -> Iterator[Case]:
    """Every filter, and its queries; none of them is a row."""
    number = 1 << 30
    for share in SHARES:
        keep = round(1000 * share)
        edge = max(1, round(share * data.CLUSTERS))
        beyond = range(max(edge, data.CLUSTERS // 2), data.CLUSTERS)
        for kind, condition, kept, where in (
            ("random", field("year") < keep, rows.years < keep, range(data.CLUSTERS)),
            ("region, from inside", field("cluster") < edge, rows.clusters < edge, range(edge)),
            ("region, from outside", field("cluster") < edge, rows.clusters < edge, beyond),
        ):
            number += 1
            vectors = mixture.draw(queries, number + 100 * seed, where).vectors
            yield Case(f"{100 * share:g} % {kind}", share, "outside" in kind, condition, kept, vectors)


def measured(found: vb.Collection, case: Case, rows: Data) -> tuple[list[Line], dict[str, Any]]:
    """The lines of one filter, and more figures for the JSON."""
    first, second = _uses(found, case)

    def asked(query: FloatArray, condition: Filter | None) -> vb.Hits:
        [hits] = found.search(vb.Query(query, k=K, filter=condition))
        return hits

    for query in case.queries[:WARM]:
        asked(query, case.filter), asked(query, None)
    plain, narrow, plain_cpu, narrow_cpu, answers = [], [], [], [], []
    for query in case.queries:
        actions = {"plain": partial(asked, query, None), "narrow": partial(asked, query, case.filter)}
        times = in_turns({name: partial(seconds, action) for name, action in actions.items()}, 2)
        plain.append(1e6 * min(times["plain"]))
        narrow.append(1e6 * min(times["narrow"]))
        plain_cpu.append(_processor_us(actions["plain"]))
        narrow_cpu.append(_processor_us(actions["narrow"]))
        answers.append(asked(query, case.filter).ids)
    matches = np.flatnonzero(case.kept)
    true = matches[exact_top(rows.vectors[matches], case.queries, K)]
    recalls = np.array([len(np.intersect1d(a, b)) / len(b) for a, b in zip(answers, true, strict=True)])
    recall = float(recalls.mean())
    lower = recall - 1.645 * float(recalls.std(ddof=1)) / len(recalls) ** 0.5
    own, other = Samples(tuple(narrow)), Samples(tuple(plain))
    busy = Samples(tuple(narrow_cpu)), Samples(tuple(plain_cpu))
    lines = [
        Line(
            "filter",
            f"recall@{K}, {case.name}",
            "",
            recall,
            1.0,
            "brute force",
            Target("figure", ">=", RECALL),
        ),
        compared("filter", f"p50, {case.name}", "µs", own, other, "unfiltered", _latency(case, other.median)),
        compared("filter", f"p50 of processor time, {case.name}", "µs", *busy, "unfiltered"),
        Line("first use", case.name, "ms", first, target=Target("figure", "<=", LONGEST_MS)),
        Line("second use", case.name, "ms", second, target=Target("figure", "<=", LONGEST_MS)),
    ]
    details = {
        "matches": len(matches), "recall": recall, "recall_lower_95": lower, "p50_us": own.median,
        "unfiltered_p50_us": other.median, "ratio": own.median / other.median,
        "p95_us": float(np.percentile(narrow, 95)), "first_use_ms": first, "second_use_ms": second,
        "processor_p50_us": busy[0].median, "processor_ratio": busy[0].median / busy[1].median,
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    return lines, details


def _processor_us(action: Callable[[], object]) -> float:
    """Processor time of this thread for one call: the others that want the processor are not in it."""
    start = time.thread_time()
    action()
    return 1e6 * (time.thread_time() - start)


def _uses(found: vb.Collection, case: Case) -> tuple[float, float]:
    """Median milliseconds of the first and the second use of a filter, over filters of the same rows."""
    times: list[list[float]] = [[], []]
    for number in range(FRESH):
        condition = case.filter & (field("year") >= -1 - number)
        for use in times:
            query = vb.Query(case.queries[number], k=K, filter=condition)
            use.append(1000 * seconds(partial(found.search, query)))
    return statistics.median(times[0]), statistics.median(times[1])


def _latency(case: Case, unfiltered_us: float) -> Target:
    """What the p50 may be, as a ratio to a search without a filter."""
    if case.share <= 0.001:
        return Target("ratio", "<=", 1.0)
    if case.share < 0.1:
        return Target("ratio", "<=", max(4.0, 2000 / unfiltered_us))
    if case.outside:
        return Target("ratio", "<=", min(10.0, 1000 * LONGEST_MS / unfiltered_us))
    return Target("ratio", "<=", 2.5)


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    progress = Console(stderr=True)
    before = os.getloadavg()
    mixture = data.Mixture(options.dim)
    rows = drawn(mixture, options.rows, options.seed)
    lines: list[Line] = []
    details: dict[str, Any] = {}
    with collection(options, rows) as (found, taken):
        for case in cases(mixture, rows, options.queries, options.seed):
            more, details[case.name] = measured(found, case, rows)
            lines += more
            shown = {name: round(value, 3) for name, value in details[case.name].items()}
            progress.print(f"{case.name}: {shown}")
    title = "Filtered searches beside searches without a filter"
    parameters = {
        "rows": options.rows, "dim": options.dim, "queries": options.queries, "seed": options.seed, "k": K,
        **mixture.parameters,
    }  # fmt: skip
    result = {
        "machine": machine("faiss-cpu"), "load_average": {"before": before, "after": os.getloadavg()},
        "parameters": parameters, "building": taken, "details": details,
    }  # fmt: skip
    path = options.out / named("faiss_filters", None, options.label)
    return reported(title, lines, result, path)


if __name__ == "__main__":
    sys.exit(main())
