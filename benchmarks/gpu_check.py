"""Checks and measures the embedders, and FAISS, on an NVIDIA GPU: one command, under ten minutes.

    make gpu-check PYTHON=python3                # with the packages that this Python has
    python benchmarks/gpu_check.py --device cpu --batch 8 --pictures 8     # tries the check itself out

It runs the tests that are marked ``gpu``, compares every vector and hit with those of the CPU, and measures
pictures a second at several batch sizes and dtypes. Prints a table and writes results/gpu.json. The exit code
is 1 if something does not hold, and 77 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from support import comparing, faissgpu, gpu, gpumarked, gpurates
from support.gpu import GpuBench
from support.harness import Line, Target, machine, print_table

HERE = Path(__file__).parent
MOST_SECONDS = 600
#: Kept for what is under way when the time for rates ends.
RESERVE_SECONDS = 60
SECTIONS: dict[str, Callable[[GpuBench], list[Line]]] = {
    "tests": gpumarked.marked,
    "vectors": comparing.vectors,
    "onnx": comparing.onnx,
    "faiss": faissgpu.lists,
    "rates": gpurates.rates,
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, action="append", help="a batch size; may be repeated")
    parser.add_argument("--pictures", type=int, default=64, help="JPEG files that are made")
    parser.add_argument("--rows", type=int, default=50_000, help="of the FAISS collections")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the JSON goes")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Check, measure, print, write."""
    options = arguments(given)
    if reason := gpu.missing(options.device):
        print(f"No GPU to check: {reason}.", file=sys.stderr)
        return 77
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        bench = GpuBench(
            options.device, Path(work), options.batch or gpu.BATCHES, options.rounds,
            until=start + MOST_SECONDS - RESERVE_SECONDS, pictures=options.pictures, rows=options.rows,
        )  # fmt: skip
        lines, took = checked(bench, options.only)
    whole = time.monotonic() - start
    lines.append(Line("whole", "this check", "s", whole, target=Target("figure", "<=", MOST_SECONDS)))
    print_table(f"vecbridge on {options.device}", lines, Console(width=None if sys.stdout.isatty() else 200))
    name = "gpu" if options.device == "cuda" else "gpu-tried-on-cpu"
    if options.only is not None:
        name += "-" + "-".join(took)
    write(options.out / f"{name}.json", bench, lines, took)
    judged = [line.holds for line in lines if line.holds is not None]
    Console(stderr=True).print(f"{sum(judged)} targets hold, {len(judged) - sum(judged)} do not")
    return 0 if all(judged) else 1


def checked(bench: GpuBench, only: list[str] | None) -> tuple[list[Line], dict[str, float]]:
    """The lines of some sections, or of all of them, and the seconds that each took."""
    lines: list[Line] = []
    took: dict[str, float] = {}
    for name, section in SECTIONS.items():
        if only is None or name in only:
            start = time.monotonic()
            lines += section(bench)
            took[name] = round(time.monotonic() - start, 1)
            Console(stderr=True).print(f"[bold]{name}[/] {took[name]:.0f} s")
    return lines, took


def write(path: Path, bench: GpuBench, lines: list[Line], took: dict[str, float]) -> None:
    """The JSON."""
    result: dict[str, Any] = {
        "machine": machine("torch", "transformers", "pillow") | gpu.about(bench.device),
        "parameters": bench.parameters,
        "seconds": took,
        "lines": [line.to_dict() for line in lines],
        "details": bench.details,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
