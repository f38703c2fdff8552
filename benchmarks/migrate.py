"""Migrations beside what the databases' own clients read, and beside scan and write one after the other.

    python benchmarks/migrate.py                    # starts genuine servers, where there are some to start
    python benchmarks/migrate.py --only lite --only snapshot
    python benchmarks/migrate.py --milvus milvus://127.0.0.1:19530    # one that is running

Prints a table and writes results/migrate.json and a figure beside it. What needs a server that is not there
is passed over, and said so. The exit code is 1 if a target does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support import exporting, growth, others, pairs, proving
from support.harness import Line, machine
from support.moving import MovingBench
from support.report import in_sections, named, reported

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[MovingBench], list[Line]]] = {
    "lite": pairs.lite,
    "weaviate": pairs.from_weaviate,
    "snapshot": exporting.snapshots,
    "memory": growth.memory,
    "verify": proving.proofs,
    "servers": pairs.servers,
    "vd": others.beside_vd,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of what is copied")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=7, help="pairs of a copy and its baseline")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--weaviate", help="URL of a server; without one, it is started from PATH")
    parser.add_argument("--milvus", help="URL of a server; without one, milvus==2.3.5 is started")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        bench = MovingBench(
            options.rows, options.dim, options.rounds, Path(work), options.weaviate, options.milvus
        )
        try:
            lines, sections = in_sections(bench, SECTIONS, options.only)
        finally:
            bench.close()
    result = {
        "machine": machine("faiss-cpu", "pymilvus", "weaviate-client"),
        "parameters": bench.parameters,
        "sections": sections,
        "details": bench.details,
    }
    title = "vecbridge's migrations beside raw baselines of the same run"
    return reported(title, lines, result, options.out / named("migrate", options.only))


if __name__ == "__main__":
    sys.exit(main())
