"""The Milvus store beside hand-written pymilvus and langchain-milvus, on a server that is running.

    python benchmarks/milvus_store.py                                 # milvus-lite, in a temporary directory
    python benchmarks/milvus_store.py milvus://127.0.0.1:19530        # after `milvus-server` of milvus==2.3.5

Prints a table and writes results/milvus_store-SERVER.json and a figure beside it, and the recall curves as
results/milvus_recall-SERVER.json and .png. Collections that it makes are dropped. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from support import milvus, plots
from support.harness import Line, machine, print_table
from support.milvus import MilvusBench

from vecbridge.urls import parse

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[MilvusBench], list[Line]]] = {
    "write": milvus.writes,
    "search": milvus.searches,
    "scan": milvus.scans,
    "recall": milvus.recall,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="the server; without one, milvus-lite")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figures go")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    progress = Console(stderr=True)
    work = tempfile.TemporaryDirectory(prefix=".bench-", dir=HERE)
    url = options.url or f"milvus+lite://{work.name}/bench.db"
    lite = parse(url).scheme == "milvus+lite"
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    lines: list[Line] = []
    with work, MilvusBench(url, options.rows, options.dim, options.rounds) as bench:
        for name in names:
            start = time.perf_counter()
            lines += SECTIONS[name](bench)
            progress.print(f"[bold]{name}[/] {time.perf_counter() - start:.0f} s")
        result = {
            "machine": machine("pymilvus", "langchain-milvus", *(["milvus-lite"] if lite else [])),
            "server": bench.version,
            "parameters": {"rows": bench.rows, "dim": bench.dim, "rounds": bench.rounds},
            "lines": [line.to_dict() for line in lines],
            "details": bench.details,
        }
    title = (
        f"vecbridge on {'milvus-lite' if lite else 'Milvus'} {bench.version} beside pymilvus in the same run"
    )
    print_table(title, lines, Console(width=None if sys.stdout.isatty() else 200))
    options.out.mkdir(parents=True, exist_ok=True)
    name = "milvus_store-" + ("lite" if lite else "server")
    if options.only is not None:
        name += "-" + "-".join(names)
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(lines, options.out / f"{name}.png")
    if "recall" in bench.details:
        curves = {
            "server": bench.version,
            "parameters": result["parameters"],
            "curves": bench.details["recall"],
        }
        path = options.out / f"milvus_recall-{'lite' if lite else 'server'}"
        path.with_suffix(".json").write_text(json.dumps(curves, indent=2) + "\n", "utf-8")
        plots.draw_recall(curves, path.with_suffix(".png"))
    failed = [line for line in lines if line.holds is False]
    progress.print(f"{len([x for x in lines if x.holds])} targets hold, {len(failed)} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
