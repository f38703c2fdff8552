"""Recall against the share that a filter keeps: a panel for each index, a row for each data set and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from support.recalling import LEAST, SHARES

# Colour, marker, label; the points of one share stand side by side, since most of them are at the top.
STYLES = {
    "all": ("#263238", "D", "no filter"),
    "random": ("#00897b", "o", "rows anywhere"),
    "region": ("#1565c0", "s", "rows of a region"),
    "outside": ("#ef6c00", "^", "rows of a region, queries outside"),
}
ASIDE = {"all": 0.0, "random": -0.18, "region": 0.0, "outside": 0.18}
PLACES = {share: place for place, share in enumerate((1.0, *SHARES))}


def draw(result: dict[str, Any], path: Path) -> None:
    """One picture for all cases of a backend."""
    cases = result["cases"]
    rows = list(dict.fromkeys((case["data"], case["rows"], case["state"]) for case in cases))
    columns = list(dict.fromkeys(case["index"] for case in cases))
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(max(8.0, 1.5 + 3 * len(columns)), 1.2 + 1.5 * len(rows)),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for case in cases:
        row = rows.index((case["data"], case["rows"], case["state"]))
        _panel(axes[row][columns.index(case["index"])], case)
    for some, row in zip(axes, rows, strict=True):
        shown = [case["lines"] for case in cases if (case["data"], case["rows"], case["state"]) == row]
        lowest = min(line["bound"] for lines in shown for line in lines)
        some[0].set_ylim(min(0.9, lowest - 0.03), 1.015)
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(name, fontsize=10)
    for place, (data, count, state) in zip(axes[:, 0], rows, strict=True):
        place.set_ylabel(f"{data}\n{count:,} rows\n{state}", fontsize=9)
    for place in axes[-1]:
        place.set_xlabel("share of the rows that a filter keeps, %", fontsize=8)
    for place in axes.flat:
        place.set_visible(bool(place.lines))
    handles, labels = next(place for place in axes.flat if place.lines).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    label = f" ({result['label']})" if result["label"] else ""
    parameters = result["parameters"]
    figure.suptitle(
        f"{result['backend']}{label}: recall@{parameters['k']} at default knobs, "
        f"{parameters['queries']} queries\n"
        f"bars end at the lower 95 % bound; the dashed line is {LEAST}",
        fontsize=10,
    )
    figure.align_ylabels(axes[:, 0])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, case: dict[str, Any]) -> None:
    """No filter, and the three ways to filter."""
    for where, (colour, marker, label) in STYLES.items():
        lines = [line for line in case["lines"] if line["where"] == where]
        axes.errorbar(
            [PLACES[line["share"]] + ASIDE[where] for line in lines],
            [line["recall"] for line in lines],
            yerr=[[line["recall"] - line["bound"] for line in lines], [0] * len(lines)],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            label=label,
        )
    axes.axhline(LEAST, color="#263238" if case["promised"] else "#b0bec5", linestyle="--", linewidth=0.8)
    axes.set_xticks(list(PLACES.values()), ["all", *(f"{100 * share:g}" for share in SHARES)], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
