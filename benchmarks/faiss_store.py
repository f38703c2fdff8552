"""The FAISS store beside raw baselines of the same run: writing, loading, searching, opening, scanning.

Prints a table and writes results/faiss_store.json and a figure beside it. The exit code is 1 if a target
does not hold. Speed is a ratio to a baseline measured in turns with it, on the same disk and cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support import opening, scanning, searching, writing
from support.bench import EF, EF_CONSTRUCTION, Bench, M
from support.harness import Line, machine
from support.report import in_sections, named, reported

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[Bench], list[Line]]] = {
    "write": writing.durable_writes,
    "load": writing.index_load,
    "search": searching.unfiltered,
    "filter": searching.filtered,
    "large": opening.large,
    "scan": scanning.scans,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the ordinary collections")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of what takes seconds")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--large-rows", type=int, help="rows to open and filter (default: 10 x --rows)")
    parser.add_argument("--dim-large", type=int, default=32, help="filters and opening do not read vectors")
    parser.add_argument("--large-index", choices=("ivf", "hnsw", "flat"), default="ivf")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        bench = Bench(
            rows=options.rows,
            dim=options.dim,
            rounds=options.rounds,
            work=Path(work),
            large_rows=options.large_rows or 10 * options.rows,
            large_dim=options.dim_large,
            large_index=options.large_index,
        )
        try:
            lines, sections = in_sections(bench, SECTIONS, options.only)
        finally:
            bench.close()
    parameters = {
        "rows": bench.rows, "dim": bench.dim, "rounds": bench.rounds,
        "large_rows": bench.large_rows, "large_dim": bench.large_dim,
        "large_index": bench.large_index, "m": M, "ef_construction": EF_CONSTRUCTION, "ef": EF,
    }  # fmt: skip
    result = {
        "machine": machine("faiss-cpu", "lancedb"),
        "load_average": {"before": before, "after": os.getloadavg()},
        "parameters": parameters,
        "sections": sections,
        "details": bench.details,
    }
    title = "vecbridge's FAISS store beside raw baselines of the same run"
    return reported(title, lines, result, options.out / named("faiss_store", options.only))


if __name__ == "__main__":
    sys.exit(main())
