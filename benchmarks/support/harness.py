"""Timing in turns, judged lines, the machine, the table and the JSON."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.table import Table

import vecbridge as vb

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Samples:
    """One figure, measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "median": self.median,
            "low": min(self.values),
            "high": max(self.values),
            "n": len(self.values),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold.

    Attributes:
        of: Which number is judged: the figure, its ratio to the baseline, or its difference from it.
        sense: "<=" or ">=".
        bound: The limit.
    """

    of: Literal["figure", "ratio", "difference"]
    sense: Literal["<=", ">="]
    bound: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the result table.

    Attributes:
        section: Which section measured it.
        what: What was measured.
        unit: Unit of the figure and of the baseline.
        figure: vecbridge's figure, the median where there are several.
        baseline: The baseline's, None where there is nothing raw to compare with.
        against: What the baseline is.
        target: What must hold; None for a figure that is only reported.
        spread: Ranges of the two, where they were measured in several rounds.
        paired: The median of the ratios of each round, where it is judged instead.
    """

    section: str
    what: str
    unit: str
    figure: float
    baseline: float | None = None
    against: str = ""
    target: Target | None = None
    spread: tuple[Samples, Samples] | None = None
    paired: float | None = None

    @property
    def ratio(self) -> float | None:
        if self.paired is not None:
            return self.paired
        return self.figure / self.baseline if self.baseline else None

    @property
    def judged(self) -> float | None:
        """The number that the target is about."""
        if self.target is None or self.target.of == "ratio":
            return self.ratio
        if self.target.of == "figure":
            return self.figure
        return None if self.baseline is None else self.figure - self.baseline

    @property
    def holds(self) -> bool | None:
        """Whether the target holds; None without one."""
        if self.target is None:
            return None
        if self.judged is None:
            return False
        if self.target.sense == "<=":
            return self.judged <= self.target.bound
        return self.judged >= self.target.bound

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Line:
        """A line of JSON, without its spread."""
        plain = {key: values[key] for key in ("section", "what", "unit", "figure", "baseline", "against")}
        target = None if values["target"] is None else Target(**values["target"])
        return cls(**plain, target=target, paired=values["ratio"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {
            key: getattr(self, key) for key in ("section", "what", "unit", "figure", "baseline", "against")
        }
        values |= {"ratio": self.ratio, "judged": self.judged, "holds": self.holds}
        values["target"] = None if self.target is None else asdict(self.target)
        if self.spread is not None:
            values["spread"] = {
                "figure": self.spread[0].to_dict(),
                "baseline": self.spread[1].to_dict(),
            }
        return values


def compared(
    section: str,
    what: str,
    unit: str,
    figure: Samples,
    baseline: Samples,
    against: str,
    target: Target | None = None,
) -> Line:
    """A line of two medians."""
    return Line(section, what, unit, figure.median, baseline.median, against, target, (figure, baseline))


def paired(
    section: str,
    what: str,
    unit: str,
    figure: Samples,
    baseline: Samples,
    against: str,
    target: Target | None = None,
) -> Line:
    """A line of two figures that took turns: its ratio is the median of the ratios of each round.

    A slow minute of the machine meets both halves of a pair, and no median of one side alone.
    """
    ratio = statistics.median(a / b for a, b in zip(figure.values, baseline.values, strict=True))
    line = compared(section, what, unit, figure, baseline, against, target)
    return replace(line, paired=ratio)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turns(actions: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Every action once a round, in alternating order, so that a busy moment hits all alike.

    What a benchmark holds ready for them is kept from the garbage collector, which would walk through it in
    the time of whoever makes objects.
    """
    gc.collect()
    gc.freeze()
    results: dict[str, list[Result]] = {name: [] for name in actions}
    order = list(actions)
    for _ in range(rounds):
        for name in order:
            results[name].append(actions[name]())
        order.reverse()
    return results


def child(*arguments: str) -> dict[str, float]:
    """What a fresh interpreter measured; see child.py."""
    script = Path(__file__).with_name("child.py")
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(script), *arguments], check=True, stdout=subprocess.PIPE)
    whole = time.perf_counter() - start
    return dict(json.loads(done.stdout)) | {"process_s": whole}


def machine(*packages: str) -> dict[str, Any]:
    """What the figures were taken on, and with which versions of some packages; no names, no paths.

    The load average is that of the last minute, benchmark included.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "load_average": round(os.getloadavg()[0], 1),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        **_faiss_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "vecbridge": vb.__version__,
        **{package: version(package) for package in ("numpy", "pyarrow", *packages)},
    }


def _faiss_threads() -> dict[str, int]:
    """Not every benchmark needs FAISS."""
    if find_spec("faiss") is None:
        return {}
    import faiss

    return {"faiss_threads": faiss.omp_get_max_threads()}


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def shown(value: float | None, unit: str) -> str:
    """A number as the table shows it."""
    if value is None:
        return "-"
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def print_table(title: str, lines: list[Line], console: Console) -> None:
    """The result table."""
    table = Table(title=title)
    for name in ("section", "measured", "figure", "baseline", "against", "ratio", "target", "holds"):
        numeric = name in {"figure", "baseline", "ratio"}
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name != "measured")
    for line in lines:
        table.add_row(
            line.section,
            line.what,
            shown(line.figure, line.unit),
            shown(line.baseline, line.unit),
            line.against,
            "-" if line.ratio is None else f"{line.ratio:.2f}",
            described(line),
            {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[line.holds],
        )
    console.print(table)


def described(line: Line) -> str:
    """The target in words."""
    if line.target is None:
        return ""
    sign = {"<=": "≤", ">=": "≥"}[line.target.sense]
    unit = "×" if line.target.of == "ratio" else f" {line.unit}".rstrip()
    extra = "+" if line.target.of == "difference" else ""
    return f"{sign} {extra}{line.target.bound:g}{unit}"
