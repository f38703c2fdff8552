"""Bulk writing beside hand-written loops of each database's client, through faults, and what telemetry costs.

    python benchmarks/bulk.py                    # starts genuine servers, where there are some to start
    python benchmarks/bulk.py --only throughput --backend faiss --backend pinecone
    python benchmarks/bulk.py --milvus milvus://127.0.0.1:19530       # one that is running

Prints a table and writes results/bulk.json and a figure beside it. A server that is not there is passed over,
and said so. The exit code is 1 if a target does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support import faulting, loading, telling
from support.bulk import BulkBench
from support.harness import Line, machine
from support.report import in_sections, named, reported

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[BulkBench], list[Line]]] = {
    "throughput": loading.throughput,
    "faults": faulting.faults,
    "telemetry": telling.telemetry,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--backend", action="append", choices=loading.BACKENDS, help="may be repeated")
    parser.add_argument("--weaviate", help="URL of a server; without one, it is started from PATH")
    parser.add_argument("--milvus", help="URL of a server; without one, milvus==2.3.5 is started")
    parser.add_argument("--label", default="", help="ends the names of the files")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        bench = BulkBench(
            options.rows, options.dim, options.rounds, Path(work), options.backend, options.weaviate,
            options.milvus,
        )  # fmt: skip
        lines, sections = in_sections(bench, SECTIONS, options.only)
    result = {
        "machine": machine("faiss-cpu", "pymilvus", "weaviate-client", "pinecone"),
        "parameters": bench.parameters,
        "sections": sections,
        "details": bench.details,
    }
    title = "vb.write beside hand-written loops of the same run"
    return reported(title, lines, result, options.out / named("bulk", options.only, options.label))


if __name__ == "__main__":
    sys.exit(main())
