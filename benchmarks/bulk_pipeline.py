"""The pipeline from pictures to records: how well its stages overlap, and whether its memory stays flat.

    python benchmarks/bulk_pipeline.py
    python benchmarks/bulk_pipeline.py --only overlap
    python benchmarks/bulk_pipeline.py --only memory --rows 20000 --rows 200000 --rows 1000000

Prints a table and writes results/bulk_pipeline.json and a figure beside it. The exit code is 1 if a target
does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support import flatness, overlapping
from support.harness import Line, machine
from support.pipelines import PipelineBench
from support.report import in_sections, named, reported

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[PipelineBench], list[Line]]] = {
    "overlap": overlapping.overlap,
    "memory": flatness.memory,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, action="append", help="rows for memory; may be repeated")
    parser.add_argument("--dim", type=int, default=512, help="for memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=3, help="how often the gallery is embedded")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument(
        "--store", action="append", choices=flatness.STORES, help="for memory; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where JSON and figure go")
    parser.add_argument("--work", type=Path, default=HERE, help="where a temporary directory is made")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        bench = PipelineBench(
            tuple(options.rows or (20_000, 200_000)), options.dim, options.rounds, options.copies, Path(work),
            tuple(options.store or flatness.STORES),
        )  # fmt: skip
        lines, sections = in_sections(bench, SECTIONS, options.only)
    result = {
        "machine": machine("faiss-cpu", "onnxruntime", "pillow"),
        "parameters": bench.parameters,
        "sections": sections,
        "details": bench.details,
    }
    path = options.out / named("bulk_pipeline", options.only)
    return reported("The pipeline of vb.ingest", lines, result, path)


if __name__ == "__main__":
    sys.exit(main())
