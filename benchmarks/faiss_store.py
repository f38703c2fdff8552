"""The FAISS store beside raw baselines of the same run: writing, loading, searching, opening, scanning.

Prints a table and writes results/faiss_store.json and a figure beside it. The exit code is 1 if a target
does not hold. Speed is a ratio to a baseline measured in turns with it, on the same disk and cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from support import opening, plots, scanning, searching, writing
from support.bench import EF, EF_CONSTRUCTION, Bench, M
from support.harness import Line, machine, print_table

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


def measured(bench: Bench, names: list[str], console: Console) -> tuple[list[Line], dict[str, float]]:
    """The lines of some sections, and the seconds that each took."""
    lines, taken = [], {}
    for name in names:
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        console.print(f"[bold]{name}[/] … (load average {load})")
        start = time.perf_counter()
        lines += SECTIONS[name](bench)
        taken[name] = round(time.perf_counter() - start, 1)
    return lines, taken


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    progress = Console(stderr=True)
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
            lines, taken = measured(bench, names, progress)
        finally:
            bench.close()
    print_table(
        "vecbridge's FAISS store beside raw baselines of the same run",
        lines,
        Console(width=None if sys.stdout.isatty() else 200),
    )
    parameters = {
        "rows": bench.rows, "dim": bench.dim, "rounds": bench.rounds,
        "large_rows": bench.large_rows, "large_dim": bench.large_dim,
        "large_index": bench.large_index, "m": M, "ef_construction": EF_CONSTRUCTION, "ef": EF,
    }  # fmt: skip
    result = {
        "machine": machine("faiss-cpu", "lancedb"),
        "load_average": {"before": before, "after": os.getloadavg()},
        "parameters": parameters,
        "seconds": taken,
        "lines": [line.to_dict() for line in lines],
        "details": bench.details,
    }
    write(
        result,
        lines,
        options.out,
        "faiss_store" if options.only is None else "faiss_store-" + "-".join(names),
    )
    failed = [line for line in lines if line.holds is False]
    judged = [line for line in lines if line.holds is not None]
    progress.print(f"{len(judged) - len(failed)} of {len(judged)} targets hold; {sum(taken.values()):.0f} s")
    return 1 if failed else 0


def write(result: dict[str, Any], lines: list[Line], directory: Path, name: str) -> None:
    """JSON and figure; a run of some sections leaves those of the whole alone."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(lines, directory / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
