"""The Pinecone store beside Pinecone's own client, on an emulator with 20 ms of latency: emulated, not live.

    python benchmarks/pinecone_store.py

Prints a table and writes results/pinecone_store.json and a figure beside it. What the service would take for
the same requests is another matter; their number and their size are the same there. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from support import pinecone, plots
from support.harness import Line, machine, print_table
from support.pinecone import PineconeBench

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[PineconeBench], list[Line]]] = {
    "requests": pinecone.requests,
    "write": pinecone.writes,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--small-dim", type=int, default=64, help="where the latency counts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figures go")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    progress = Console(stderr=True)
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    lines: list[Line] = []
    with PineconeBench(options.rows, options.dim, options.small_dim, options.rounds) as bench:
        for name in names:
            start = time.perf_counter()
            lines += SECTIONS[name](bench)
            progress.print(f"[bold]{name}[/] {time.perf_counter() - start:.0f} s")
        result = {
            "machine": machine("pinecone"),
            "server": "emulated",
            "parameters": {
                "rows": bench.rows,
                "dim": bench.large.dim,
                "small_dim": bench.small.dim,
                "rounds": bench.rounds,
            },
            "lines": [line.to_dict() for line in lines],
            "details": bench.details,
        }
    title = "vecbridge on an emulated Pinecone beside its own client in the same run"
    print_table(title, lines, Console(width=None if sys.stdout.isatty() else 200))
    options.out.mkdir(parents=True, exist_ok=True)
    name = "pinecone_store" + ("" if options.only is None else "-" + "-".join(names))
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(lines, options.out / f"{name}.png")
    failed = [line for line in lines if line.holds is False]
    progress.print(f"{len([x for x in lines if x.holds])} targets hold, {len(failed)} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
