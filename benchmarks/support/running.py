"""The command line of a server's benchmark, its sections one after another, and what they leave behind."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from support import plots
from support.harness import Line, machine, print_table
from support.servers import ServerBench

Bench = TypeVar("Bench", bound=ServerBench)
RESULTS = Path(__file__).parents[1] / "results"


def parser(doc: str | None, sections: Mapping[str, object], *, url: str, dim: int) -> argparse.ArgumentParser:
    """The command line.

    Args:
        doc: What the script does.
        sections: By name.
        url: What happens without a URL.
        dim: Of the vectors, if it is not given.
    """
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("url", nargs="?", help=f"the server; without one, {url}")
    found.add_argument("--rows", type=int, default=20_000)
    found.add_argument("--dim", type=int, default=dim)
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--only", action="append", choices=sections, help="a section; may be repeated")
    found.add_argument("--out", type=Path, default=RESULTS, help="where JSON and figures go")
    return found


def measured(
    bench: Bench, sections: Mapping[str, Callable[[Bench], list[Line]]], only: list[str] | None
) -> list[Line]:
    """The lines of some sections, or of all of them."""
    lines: list[Line] = []
    for name, section in sections.items():
        if only is None or name in only:
            start = time.perf_counter()
            lines += section(bench)
            Console(stderr=True).print(f"[bold]{name}[/] {time.perf_counter() - start:.0f} s")
    return lines


def reported(
    bench: ServerBench,
    lines: list[Line],
    *,
    server: str,
    beside: str,
    names: tuple[str, str],
    options: argparse.Namespace,
    packages: tuple[str, ...],
) -> int:
    """Prints the table, writes JSON and figures; 1 if a target does not hold.

    Args:
        bench: What was measured.
        lines: The result.
        server: What the server is called.
        beside: What it was measured beside.
        names: Of the files of the result, and of those of the recall curves. A run of some sections leaves
            the result of the whole alone.
        options: Of the command line.
        packages: Whose versions matter.
    """
    result = {
        "machine": machine(*packages),
        "server": bench.version,
        "parameters": bench.parameters,
        "lines": [line.to_dict() for line in lines],
        "details": bench.details,
    }
    title = f"vecbridge on {server} {bench.version} beside {beside} in the same run"
    print_table(title, lines, Console(width=None if sys.stdout.isatty() else 200))
    name, curves = names
    if options.only is not None:
        name += "-" + "-".join(dict.fromkeys(line.section for line in lines))
    options.out.mkdir(parents=True, exist_ok=True)
    plots.draw(lines, _written(options.out / f"{name}.json", result))
    if "recall" in bench.details:
        recall = {key: result[key] for key in ("machine", "server", "parameters")}
        recall["curves"] = bench.details["recall"]
        path = _written(options.out / f"{curves}.json", recall)
        plots.draw_recall(recall, f"{server} {bench.version}", path)
    judged = [line.holds for line in lines if line.holds is not None]
    Console(stderr=True).print(f"{sum(judged)} targets hold, {len(judged) - sum(judged)} do not")
    return 0 if all(judged) else 1


def _written(path: Path, result: Mapping[str, Any]) -> Path:
    """Where the figure goes that belongs to a JSON file."""
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return path.with_suffix(".png")
