"""Runs the sections of a benchmark one after the other, and writes what they measured."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from support import plots
from support.harness import Line, machine, print_table


def measure(
    sections: Mapping[str, Callable[[Any], list[Line]]], bench: Any, options: argparse.Namespace
) -> tuple[list[Line], dict[str, dict[str, float]]]:
    """The lines of the sections that were asked for, and how long each took and at which load.

    Args:
        sections: By name.
        bench: What each of them is called with.
        options: ``only`` are the sections that were asked for; None is all.
    """
    lines: list[Line] = []
    taken: dict[str, dict[str, float]] = {}
    for name in chosen(sections, options):
        load, start = os.getloadavg()[0], time.perf_counter()
        Console(stderr=True).print(f"[bold]{name}[/] … (load average {load:.1f})")
        lines += sections[name](bench)
        seconds = round(time.perf_counter() - start, 1)
        taken[name] = {
            "seconds": seconds, "load_average_before": load, "load_average_after": os.getloadavg()[0],
        }  # fmt: skip
    return lines, taken


def chosen(sections: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """The sections that were asked for, in their own order."""
    return [name for name in sections if options.only is None or name in options.only]


def publish(
    name: str, title: str, lines: Sequence[Line], about: Mapping[str, Any], packages: Sequence[str], out: Path
) -> int:
    """Prints a table, writes the JSON and the figure; 1 if a target does not hold.

    Args:
        name: Of the files.
        title: Of the table.
        lines: What was measured.
        about: What else the JSON says: parameters, sections, details.
        packages: Whose versions it says.
        out: The folder of the files.
    """
    print_table(title, list(lines), Console(width=None if sys.stdout.isatty() else 200))
    result = {"machine": machine(*packages), **about, "lines": [line.to_dict() for line in lines]}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(list(lines), out / f"{name}.png")
    judged = [line.holds for line in lines if line.holds is not None]
    Console(stderr=True).print(f"{sum(judged)} targets hold, {len(judged) - sum(judged)} do not")
    return 0 if all(judged) else 1
