"""Recall of searches without knobs, growing and indexed, under filters that keep much or little.

    python benchmarks/recall.py faiss                  # or milvus-lite, in a temporary directory
    python benchmarks/recall.py weaviate               # or milvus: starts a genuine server
    python benchmarks/recall.py milvus --url milvus://127.0.0.1:19530      # one that is running
    PYTHONPATH=OLD_CHECKOUT python benchmarks/recall.py faiss --label before    # another vecbridge

Prints a table and writes results/recall-BACKEND.json and a figure beside it; with --label, their names end in
it. The exit code is 1 where a promise is not kept, and 77 if there is no server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from support import recalling
from support.harness import machine
from support.recall_plots import draw
from support.servers import tests_of

import vecbridge as vb

HERE = Path(__file__).parent
NO_SERVER = 77
DATA = ("random-48", "clusters-128", "random-128")
PACKAGES = {
    "faiss": ("faiss-cpu",),
    "milvus": ("milvus", "pymilvus"),
    "milvus-lite": ("milvus-lite", "pymilvus"),
    "weaviate": ("weaviate-client",),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backend", nargs="?", choices=PACKAGES, default="faiss")
    parser.add_argument("--url", help="a server that is running")
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated; all of them")
    parser.add_argument(
        "--index", action="append", choices=recalling.indexes(3000), help="may be repeated; all"
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of 128 dimensions")
    parser.add_argument("--random-rows", type=int, default=3_000, help="rows of 48 dimensions")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument(
        "--timed",
        type=int,
        help="queries asked alone; the others are asked in one call. Default: all",
    )
    parser.add_argument("--label", help="ends the names of the files, such as before")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    options = parser.parse_args()
    if options.timed is not None and options.timed < recalling.LEAST_TIMED:
        parser.error(f"--timed {options.timed}: at least {recalling.LEAST_TIMED}")
    return options


@contextmanager
def serving(options: argparse.Namespace, work: str) -> Iterator[str]:
    """The URL of a store: the one given, one in a directory, or of a server that goes afterwards."""
    if options.url is not None:
        yield options.url
    elif options.backend == "faiss":
        yield f"faiss://{work}/store"
    elif options.backend == "milvus-lite":
        yield f"milvus+lite://{work}/bench.db"
    else:
        with tests_of(options.backend).own() as server:
            yield server.url


def measured(options: argparse.Namespace, url: str, progress: Console) -> list[dict[str, Any]]:
    """Every case: data, index, state."""
    cases: list[dict[str, Any]] = []
    limit = {} if options.backend == "faiss" else {"timeout": 120}
    with vb.connect(url, **limit) as store:
        store.collections()  # connects: the capabilities are then those of this server
        for name in options.data or DATA:
            rows = options.random_rows if name == "random-48" else options.rows
            data = recalling.drawn(name, rows, options.queries)
            asked = list(recalling.questions(data))
            for index in options.index or recalling.indexes(rows):
                if index in store.capabilities.indexes:
                    cases += recalling.measured(store, data, asked, index, options.timed, progress)
    return cases


def kept(case: dict[str, Any], line: dict[str, Any]) -> bool | None:
    """Whether the promise is kept; None where nothing is promised."""
    return line["bound"] >= recalling.LEAST if case["promised"] else None


def table(title: str, cases: list[dict[str, Any]]) -> Table:
    """A row for each case and share."""
    found = Table(title=title)
    for name in (
        "data",
        "index",
        "state",
        "filter",
        "recall",
        "lower bound",
        "p50 ms",
        "x unfiltered",
        "kept",
    ):
        found.add_column(name, justify="right" if name in {"recall", "lower bound", "p50 ms"} else "left")
    for case in cases:
        for line in case["lines"]:
            what = "none" if line["where"] == "all" else f"{100 * line['share']:g} % {line['where']}"
            found.add_row(
                f"{case['data']}, {case['rows']:,}",
                case["index"],
                case["state"],
                what,
                *(f"{line[key]:.3f}" for key in ("recall", "bound")),
                f"{line['p50_ms']:.2f}",
                f"{line['ratio']:.1f}",
                {True: "yes", False: "[red]no[/]", None: "not promised"}[kept(case, line)],
            )
    return found


def main() -> int:
    """Measure, print, write; 1 if a promise is not kept."""
    options, progress = arguments(), Console(stderr=True)
    genuine = options.url is None and options.backend in ("milvus", "weaviate")
    if genuine and (needed := tests_of(options.backend).missing()):
        progress.print(f"Nothing was measured: {needed}")
        return NO_SERVER
    before = os.getloadavg()
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work,
        serving(options, work) as url,
    ):
        server = tests_of("weaviate").version(url) if options.backend == "weaviate" else None
        cases = measured(options, url, progress)
    packages = [each for each in PACKAGES[options.backend] if not (options.url and each == "milvus")]
    result = {
        "backend": options.backend,
        "label": options.label,
        "server": server,  # that of Milvus is the version of its package
        "machine": machine(*packages),
        "load_average": {"before": before, "after": os.getloadavg()},
        "parameters": {
            "k": recalling.K,
            "queries": options.queries,
            "timed": options.timed,
            "clusters": recalling.CLUSTERS,
        },
        "cases": cases,
    }
    title = f"Recall@{recalling.K} at default knobs, {options.backend}"
    Console(width=None if sys.stdout.isatty() else 160).print(table(title, cases))
    options.out.mkdir(parents=True, exist_ok=True)
    name = "-".join(["recall", options.backend, *([options.label] if options.label else [])])
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    draw(result, options.out / f"{name}.png")
    judged = [kept(case, line) for case in cases for line in case["lines"] if case["promised"]]
    progress.print(f"{sum(map(bool, judged))} of {len(judged)} promises are kept")
    return 0 if all(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
