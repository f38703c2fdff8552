"""The figure beside the JSON: every ratio with its target, and the figures that have no baseline.

    python benchmarks/support/plots.py      # draws the figures of results/ anew, from the JSON

A line without a target is drawn too, in grey, whether vecbridge is faster there or slower.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.harness import Line, described

GOOD, BAD, PLAIN, MARK = "#00897b", "#c62828", "#90a4ae", "#263238"
ABSOLUTE = {"open": "Opening", "fresh": "Filters never seen before", "first": "First uses of a filter"}
MILLISECONDS = {"s": 1000.0, "ms": 1.0, "µs": 0.001}
LONG_RANGE = 12  # from which ratio of the longest bar to the shortest the scale is logarithmic
RESULTS = Path(__file__).parents[1] / "results"


def draw(lines: list[Line], path: Path) -> None:
    """One panel for each kind of figure that was measured; no file if there is none."""
    panels: dict[str, list[Line]] = {}
    for line in lines:
        if title := _panel(line):
            panels.setdefault(title, []).append(line)
    if not panels:
        return
    figure, axes = plt.subplots(
        len(panels),
        figsize=(12, 0.5 + 1.0 * len(panels) + 0.34 * sum(len(some) for some in panels.values())),
        height_ratios=[len(some) + 2 for some in panels.values()],
        layout="constrained",
        squeeze=False,
    )
    for place, (title, some) in zip(axes[:, 0], panels.items(), strict=True):
        _bars(place, title, some)
    figure.suptitle(
        "Green: the target holds; red: it does not; grey: no target. A stroke is the target.", fontsize=10
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(line: Line) -> str:
    """The title of the panel that a line belongs to; "" where it has nothing to be compared with."""
    if line.section in ABSOLUTE:
        return f"{ABSOLUTE[line.section]}, ms (less is better)"
    if line.section == "requests":
        return "Share of the largest request that is used (more is better)"
    if line.section == "recall" or line.what.startswith("recall"):
        return "Recall@10 (more is better)"
    if line.ratio is None:
        return ""
    if line.section == "filter":
        return "p50 of a filtered search, times the unfiltered one's (less is better)"
    if line.unit == "rows/s":
        return "Rows per second, times the baseline's (more is better)"
    if line.unit.endswith("/s"):
        return "Rate, times the baseline's (more is better)"
    return "Time or memory, times the baseline's (less is better)"


def _is_figure(line: Line) -> bool:
    """Whether the figure itself is drawn, not its ratio to the baseline."""
    return (
        line.section in ABSOLUTE or line.section in {"requests", "recall"} or line.what.startswith("recall")
    )


def _drawn(line: Line) -> tuple[float, float | None]:
    """The length of a line's bar, and where its target is."""
    factor = MILLISECONDS.get(line.unit, 1.0) if line.section in ABSOLUTE else 1.0
    value = line.figure * factor if _is_figure(line) else line.ratio or 0.0
    if line.target is None:
        return value, None
    if line.target.of == "difference" and line.baseline:
        return value, (line.baseline + line.target.bound) / line.baseline
    return value, line.target.bound * factor


def _bars(axes: Axes, title: str, lines: list[Line]) -> None:
    drawn = [_drawn(line) for line in lines]
    values = [value for value, _ in drawn]
    colours = [PLAIN if x.holds is None else GOOD if x.holds else BAD for x in lines]
    lengths = [each for pair in drawn for each in pair if each]
    ratios = not _is_figure(lines[0])
    logarithmic = bool(lengths) and max(lengths) > LONG_RANGE * min(lengths)
    start = 1.0 if ratios and logarithmic else 0.0  # a logarithmic bar has no other natural start
    widths = [value - start for value in values]
    bars = axes.barh(range(len(lines)), widths, left=start, color=colours, height=0.7)
    axes.set_yticks(range(len(lines)), [_label(line) for line in lines])
    for bar, (value, target), line in zip(bars, drawn, lines, strict=True):
        place = (max(value, target or 0.0, start), bar.get_y() + bar.get_height() / 2)
        text = f"{value:.3g}   {described(line)}".rstrip()
        axes.annotate(
            text, place, (6, 0), textcoords="offset points", va="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
        if target is not None:
            low = bar.get_y()
            axes.plot([target, target], [low, low + bar.get_height()], color=MARK, linewidth=2)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if ratios:
        axes.axvline(1, color=MARK, linewidth=0.8, linestyle=":", zorder=0)
    if logarithmic:
        low, high = min(*lengths, start or min(lengths)), max(lengths)
        axes.set_xscale("log")
        axes.set_xlim(0.8 * low, high * (high / low) ** 0.25)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    elif lengths:
        axes.set_xlim(0, 1.25 * max(lengths))


def _label(line: Line) -> str:
    what = line.what.removeprefix("recall@10, ").removeprefix("p50, ")
    alone = not line.against or _is_figure(line) or line.section == "filter"
    return what if alone else f"{what}\nbeside {line.against}"


def draw_recall(result: dict[str, Any], server: str, path: Path) -> None:
    """Recall over the knob, and over the time of a query; a star is the default."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for name, curve in result["curves"].items():
        knob, points = curve["knob"], curve["points"]
        recalls = [each["recall"] for each in points]
        [drawn] = axes[0].plot([each[knob] for each in points], recalls, marker="o", label=f"{name}: {knob}")
        # No lines: the times of neighbouring settings differ less than the machine's hours do.
        axes[1].plot([each["p50_ms"] for each in points], recalls, "o", color=drawn.get_color())
        if default := curve.get("default"):
            axes[1].plot(default["p50_ms"], default["recall"], "*", color=drawn.get_color(), markersize=14)
    knobs = dict.fromkeys(curve["knob"] for curve in result["curves"].values())
    settings = sorted(
        {point[curve["knob"]] for curve in result["curves"].values() for point in curve["points"]}
    )
    axes[0].set(xscale="log", xlabel=" or ".join(knobs), ylabel="recall@10 against exact search")
    axes[0].set_xticks(settings, [str(each) for each in settings], fontsize=7)
    axes[0].minorticks_off()
    axes[1].set(xlabel="p50 of a query, ms; a star: default knobs")
    axes[1].set_xlim(left=0)
    axes[0].legend(frameon=False)
    for place in axes:
        place.grid(alpha=0.3)
        place.spines[["top", "right"]].set_visible(False)
    parameters = result["parameters"]
    figure.suptitle(f"{server}: {parameters['rows']:,} x {parameters['dim']}, cosine")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def redraw(directory: Path) -> None:
    """The figures of every result in a directory."""
    servers = {
        "milvus_recall-lite": "milvus-lite",
        "milvus_recall-server": "Milvus",
        "weaviate_recall": "Weaviate",
    }
    for path in sorted(directory.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        if path.stem == "import_cost":  # its script draws milliseconds
            continue
        if "lines" in result:
            draw([Line.from_dict(each) for each in result["lines"]], path.with_suffix(".png"))
        elif path.stem in servers:
            draw_recall(result, f"{servers[path.stem]} {result['server']}", path.with_suffix(".png"))


if __name__ == "__main__":
    redraw(RESULTS)
