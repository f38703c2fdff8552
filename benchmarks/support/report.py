"""Sections one after another, and what a benchmark leaves behind: a table, JSON, a figure, an exit code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from support import plots
from support.harness import Line, print_table

Bench = TypeVar("Bench")


def in_sections(
    bench: Bench, sections: Mapping[str, Callable[[Bench], list[Line]]], only: Sequence[str] | None
) -> tuple[list[Line], dict[str, dict[str, float]]]:
    """The lines of some sections, or of all of them; and for each how long it took, under which load."""
    progress = Console(stderr=True)
    lines: list[Line] = []
    told: dict[str, dict[str, float]] = {}
    for name, section in sections.items():
        if only is not None and name not in only:
            continue
        load = os.getloadavg()[0]
        progress.print(f"[bold]{name}[/] … (load average {load:.1f})")
        start = time.perf_counter()
        lines += section(bench)
        told[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "load_average_before": load,
            "load_average_after": os.getloadavg()[0],
        }
    return lines, told


def named(name: str, only: Sequence[str] | None, label: str | None = None) -> str:
    """What the files of a result are called: a run of some sections leaves those of the whole alone."""
    return "-".join([name, *(only or ()), *([label] if label else ())])


def reported(title: str, lines: list[Line], result: Mapping[str, Any], path: Path) -> int:
    """Prints the table, writes JSON and a figure; 1 if a target does not hold.

    Args:
        title: Of the table.
        lines: What was measured.
        result: What the JSON says beside them.
        path: Of both files, without a suffix.
    """
    print_table(title, lines, Console(width=None if sys.stdout.isatty() else 200))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = dict(result) | {"lines": [line.to_dict() for line in lines]}
    path.with_name(f"{path.name}.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    plots.draw(lines, path.with_name(f"{path.name}.png"))
    judged = [line.holds for line in lines if line.holds is not None]
    Console(stderr=True).print(f"{sum(judged)} targets hold, {len(judged) - sum(judged)} do not")
    return 0 if all(judged) else 1
