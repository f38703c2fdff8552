"""The figure beside the JSON: ratios with their targets, and what filters cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from support.harness import Line, described

GOOD, BAD, PLAIN, MARK = "#00897b", "#c62828", "#90a4ae", "#263238"


def draw(lines: list[Line], path: Path) -> None:
    """One panel for each kind of figure that was measured."""
    ratios = [x for x in lines if x.target is not None and x.target.of == "ratio" and x.section != "filter"]
    recalls = [x for x in lines if x.section == "filter" and x.what.startswith("recall")]
    latencies = [x for x in lines if x.section == "filter" and x.what.startswith("p50")]
    opened = [x for x in lines if x.section == "open"]
    fresh = [x for x in lines if x.section == "fresh"]
    filled = [x for x in lines if x.section == "requests"]
    panels = [
        ("Ratio to the baseline (mark: target)", ratios),
        ("Recall@10 under a filter", recalls),
        ("p50 of a filtered search, times unfiltered", latencies),
        ("Opening, ms", opened),
        ("Filters never seen before, ms", fresh),
        ("Share of the largest request that is used", filled),
    ]
    panels = [(title, some) for title, some in panels if some]
    if not panels:
        return
    figure, axes = plt.subplots(
        len(panels),
        figsize=(10, 1.0 * len(panels) + 0.28 * sum(len(some) for _, some in panels)),
        height_ratios=[len(some) + 2 for _, some in panels],
        layout="constrained",
        squeeze=False,
    )
    for place, (title, some) in zip(axes[:, 0], panels, strict=True):
        _bars(place, title, some)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bars(axes: Axes, title: str, lines: list[Line]) -> None:
    scale = {"s": 1000.0}  # the panel of absolute times is in milliseconds
    absolute = any(x.section in {"open", "fresh"} for x in lines)
    values, targets = [], []
    for line in lines:
        factor = scale.get(line.unit, 1.0) if absolute else 1.0
        of_figure = absolute or line.section == "requests" or line.what.startswith("recall")
        values.append(line.figure * factor if of_figure else line.ratio or 0.0)
        targets.append(None if line.target is None else line.target.bound * factor)
    colours = [PLAIN if x.holds is None else GOOD if x.holds else BAD for x in lines]
    bars = axes.barh([_label(x) for x in lines], values, color=colours, height=0.7)
    for bar, value, target, line in zip(bars, values, targets, lines, strict=True):
        place = (max(value, target or 0.0), bar.get_y() + bar.get_height() / 2)
        text = f"{value:.3g}   {described(line)}".rstrip()
        axes.annotate(text, place, (6, 0), textcoords="offset points", va="center", fontsize=8)
        if target is not None:
            low = bar.get_y()
            axes.plot([target, target], [low, low + bar.get_height()], color=MARK, linewidth=2)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(*values, *(each or 0.0 for each in targets)))
    axes.spines[["top", "right"]].set_visible(False)


def _label(line: Line) -> str:
    what = line.what.removeprefix("recall@10, ").removeprefix("p50, ")
    return f"{what} / {line.against}" if line.section in {"write", "load", "search", "scan"} else what


def draw_recall(result: dict[str, Any], server: str, path: Path) -> None:
    """Recall over the knob, and over the time of a query."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for name, curve in result["curves"].items():
        knob, points = curve["knob"], curve["points"]
        recalls = [each["recall"] for each in points]
        axes[0].plot([each[knob] for each in points], recalls, marker="o", label=f"{name}: {knob}")
        axes[1].plot([each["p50_ms"] for each in points], recalls, marker="o", label=name)
    knobs = dict.fromkeys(curve["knob"] for curve in result["curves"].values())
    axes[0].set(xscale="log", xlabel=" or ".join(knobs), ylabel="recall@10 against exact search")
    axes[1].set(xlabel="p50 of a query, ms")
    axes[0].legend(frameon=False)
    for place in axes:
        place.grid(alpha=0.3)
        place.spines[["top", "right"]].set_visible(False)
    parameters = result["parameters"]
    figure.suptitle(f"{server}: {parameters['rows']:,} x {parameters['dim']}, cosine")
    figure.savefig(path, dpi=120)
    plt.close(figure)
