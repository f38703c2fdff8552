"""The Pinecone store beside Pinecone's own client, on an emulator with 20 ms of latency: emulated, not live.

    python benchmarks/pinecone_store.py

Prints a table and writes results/pinecone_store.json and a figure beside it. What the service would take for
the same requests is another matter; their number and their size are the same there. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from support import pinecone
from support.harness import Line, machine
from support.pinecone import PineconeBench
from support.report import in_sections, named, reported

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
    with PineconeBench(options.rows, options.dim, options.small_dim, options.rounds) as bench:
        lines, sections = in_sections(bench, SECTIONS, options.only)
        result = {
            "machine": machine("pinecone"),
            "server": "emulated",
            "parameters": {
                "rows": bench.rows,
                "dim": bench.large.dim,
                "small_dim": bench.small.dim,
                "rounds": bench.rounds,
            },
            "sections": sections,
            "details": bench.details,
        }
    title = "vecbridge on an emulated Pinecone beside its own client in the same run"
    return reported(title, lines, result, options.out / named("pinecone_store", options.only))


if __name__ == "__main__":
    sys.exit(main())
