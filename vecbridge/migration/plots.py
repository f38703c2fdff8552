"""Where the marks of a report's two plots stand; the templates draw them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # whose page has the plots
    from vecbridge.migration.proof import Recall, Scores

_WIDTH: Final = 360
_LINE: Final = 44  # height of a group of bars
_LABEL: Final = 50  # characters of a label
_SMALL: Final = 0.095  # a share below which a digit stands behind the point
_SQUARE: Final = 320
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 36, 12, 14


def recall_plot(recall: Sequence[Recall]) -> dict[str, Any]:
    """Bars of both sides for each group of searches, with the recall that is wanted.

    Args:
        recall: Groups of one vector field.
    """
    low = min([0.9, *(min(each.source or 1.0, each.target, each.required) for each in recall)])
    low = math.floor(max(0.0, low - 0.02) * 10) / 10
    width = _WIDTH - 8

    def across(value: float) -> float:
        return round(4 + width * (min(max(value, low), 1) - low) / (1 - low), 1)

    def bar(side: str, value: float, top: int) -> dict[str, Any]:
        length = f"{max(across(value) - 4, 1):.1f}"
        return {"side": side, "value": f"{value:.4f}", "top": top, "length": length}

    groups = []
    for number, each in enumerate(recall):
        top = _LINE * number
        sides = [("source", each.source), ("target", each.target)]
        known = [(side, value) for side, value in sides if value is not None]
        bars = [bar(side, value, top + 17 + 10 * place) for place, (side, value) in enumerate(known)]
        groups.append(
            {
                "label": _label(each),
                "top": top,
                "bars": bars,
                "x": across(each.required),
                "wanted": f"{each.required:.4f}",
            }
        )
    bottom = _LINE * len(recall) + 4
    scale = ((low, "start"), ((low + 1) / 2, "middle"), (1.0, "end"))
    return {
        "width": _WIDTH,
        "height": _LINE * len(recall) + 30,
        "groups": groups,
        "axis": (4, bottom, _WIDTH - 4, bottom),
        "ticks": [_tick(across(value), bottom + 16, anchor, f"{value:.2f}") for value, anchor in scale],
    }


def score_plot(scores: Scores) -> dict[str, Any]:
    """Scores at the target by scores at the source; on the diagonal, they are the same."""
    low, high = _range([*scores.source, *scores.target])
    size, span = _SQUARE, high - low

    def x(value: float) -> float:
        return round(_LEFT + (size - _LEFT - _RIGHT) * (value - low) / span, 1)

    def y(value: float) -> float:
        return round(size - _BOTTOM - (size - _BOTTOM - _TOP) * (value - low) / span, 1)

    dots = dict.fromkeys(
        (x(left), y(right)) for left, right in zip(scores.source, scores.target, strict=True)
    )
    ticks = []
    for value, anchor in ((low, "start"), (high, "end")):
        label = f"{value:.4g}"
        ticks.append(_tick(x(value), size - 20, anchor, label))
        ticks.append(_tick(_LEFT - 5, y(value) + (10 if value == high else 0), "end", label))
    return {
        "size": size,
        "axes": [(x(low), y(low), x(high), y(low)), (x(low), y(low), x(low), y(high))],
        "diagonal": (x(low), y(low), x(high), y(high)),
        "dots": list(dots),
        "ticks": ticks,
        "middle": (_LEFT + size - _RIGHT) / 2,
        "height": (size - _BOTTOM) / 2,
    }


def _tick(x: float, y: float, anchor: str, label: str) -> dict[str, Any]:
    return {"x": x, "y": y, "anchor": anchor, "label": label}


def _label(recall: Recall) -> str:
    if recall.namespace is None:
        return share_name(recall)
    return f"namespace {recall.namespace or '(default)'}"[:_LABEL]


def share_name(recall: Recall) -> str:
    """What a group of searches is called."""
    return "no filter" if recall.filter is None else f"filter, {percent(recall.share)}"


def percent(share: float) -> str:
    """A share for people."""
    return f"{share:.1%}" if share < _SMALL else f"{share:.0%}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.04 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin
