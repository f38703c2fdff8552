"""The command line of a server's benchmark, its sections one after another, and what they leave behind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from support import plots, report
from support.harness import Line, machine
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


def reported(
    bench: ServerBench,
    lines: list[Line],
    sections: Mapping[str, Any],
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
        sections: How long each took, under which load.
        server: What the server is called.
        beside: What it was measured beside.
        names: Of the files of the result, and of those of the recall curves. A run of some sections leaves
            the result of the whole alone.
        options: Of the command line.
        packages: Whose versions matter.
    """
    result: dict[str, Any] = {
        "machine": machine(*packages),
        "server": bench.version,
        "parameters": bench.parameters,
        "sections": sections,
        "details": bench.details,
    }
    title = f"vecbridge on {server} {bench.version} beside {beside} in the same run"
    name, curves = names
    some = None if options.only is None else list(dict.fromkeys(line.section for line in lines))
    if "recall" in bench.details:
        recall = {key: result[key] for key in ("machine", "server", "parameters")}
        recall["curves"] = bench.details["recall"]
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{curves}.json"
        path.write_text(json.dumps(recall, indent=2) + "\n", "utf-8")
        plots.draw_recall(recall, f"{server} {bench.version}", path.with_suffix(".png"))
    return report.reported(title, lines, result, options.out / report.named(name, some))
