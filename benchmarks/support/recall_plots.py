"""Recall against the share that a filter keeps: a panel for each index, a row for each data set and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from support.recalling import LEAST, SHARES

STYLES = {
    "random": ("#00897b", "o", "rows anywhere"),
    "region": ("#1565c0", "s", "rows of a region"),
    "outside": ("#ef6c00", "^", "rows of a region, queries outside"),
}


def draw(result: dict[str, Any], path: Path) -> None:
    """One picture for all cases of a backend."""
    cases = result["cases"]
    rows = list(dict.fromkeys((case["data"], case["rows"], case["state"]) for case in cases))
    columns = list(dict.fromkeys(case["index"] for case in cases))
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(1.5 + 3 * len(columns), 1 + 2.1 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    lowest = min(line["bound"] for case in cases for line in case["lines"])
    for case in cases:
        row = rows.index((case["data"], case["rows"], case["state"]))
        _panel(axes[row][columns.index(case["index"])], case, lowest)
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
        f"{parameters['queries']} queries; bars end at the lower 95 % bound",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, case: dict[str, Any], lowest: float) -> None:
    """The three ways to filter; all of them start at the search without a filter."""
    plain = next(line for line in case["lines"] if line["where"] == "all")
    for where, (colour, marker, label) in STYLES.items():
        some = [line for line in case["lines"] if line["where"] == where]
        lines = some if where == "outside" else [plain, *some]
        recalls = [line["recall"] for line in lines]
        axes.errorbar(
            [100 * line["share"] for line in lines],
            recalls,
            yerr=[[line["recall"] - line["bound"] for line in lines], [0] * len(lines)],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            label=label,
        )
    axes.axhline(LEAST, color="#263238" if case["promised"] else "#b0bec5", linestyle="--", linewidth=0.8)
    axes.set(xscale="log", xlim=(130, 70 * min(SHARES)), ylim=(min(0.9, lowest - 0.03), 1.01))
    ticks = [100, *(100 * share for share in SHARES)]
    axes.set_xticks(ticks, [f"{each:g}" for each in ticks], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
