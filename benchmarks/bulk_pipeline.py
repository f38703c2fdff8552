"""The pipeline from pictures to records: how well its stages overlap, and whether its memory stays flat.

    python benchmarks/bulk_pipeline.py
    python benchmarks/bulk_pipeline.py --only overlap
    python benchmarks/bulk_pipeline.py --only memory --rows 20000 --rows 200000 --rows 1000000

Prints a table and writes results/bulk_pipeline.json and a figure beside it. The exit code is 1 if a target
does not hold.
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

from rich.console import Console
from support import flatness, overlapping, plots
from support.harness import Line, machine, print_table
from support.pipelines import PipelineBench

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
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    progress = Console(stderr=True)
    lines: list[Line] = []
    sections: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.work.resolve()) as work:
        bench = PipelineBench(
            tuple(options.rows or (20_000, 200_000)), options.dim, options.rounds, options.copies, Path(work),
            tuple(options.store or flatness.STORES),
        )  # fmt: skip
        for name in names:
            load = os.getloadavg()[0]
            progress.print(f"[bold]{name}[/] … (load average {load:.1f})")
            start = time.perf_counter()
            lines += SECTIONS[name](bench)
            sections[name] = {
                "seconds": round(time.perf_counter() - start, 1),
                "load_average_before": load,
                "load_average_after": os.getloadavg()[0],
            }
    print_table("The pipeline of vb.ingest", lines, Console(width=None if sys.stdout.isatty() else 200))
    result = {
        "machine": machine("faiss-cpu", "onnxruntime", "pillow"),
        "parameters": bench.parameters,
        "sections": sections,
        "lines": [line.to_dict() for line in lines],
        "details": bench.details,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = "bulk_pipeline" if options.only is None else "bulk_pipeline-" + "-".join(names)
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(lines, options.out / f"{name}.png")
    judged = [line.holds for line in lines if line.holds is not None]
    progress.print(f"{sum(judged)} targets hold, {len(judged) - sum(judged)} do not")
    return 0 if all(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
