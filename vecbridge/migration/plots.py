"""The two plots of a report, as inline SVG: recall by filter, and scores of the same hits on both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # whose page has the plots
    from vecbridge.migration.proof import Recall, Scores

_WIDTH: Final = 360
_LINE: Final = 44  # height of a group of bars
_LABEL: Final = 50  # characters of a label
_SMALL: Final = 0.095  # a share below which a digit stands behind the point
_SQUARE: Final = 320
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 36, 12, 14


def recall_plot(recall: Sequence[Recall]) -> str:
    """Bars of both sides for each group of searches, with the recall that is wanted.

    Args:
        recall: Groups of one vector field.
    """
    low = min([0.9, *(min(each.source or 1.0, each.target, each.required) for each in recall)])
    low = math.floor(max(0.0, low - 0.02) * 10) / 10
    width = _WIDTH - 8

    def across(value: float) -> float:
        return round(4 + width * (min(max(value, low), 1) - low) / (1 - low), 1)

    height = _LINE * len(recall) + 30
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Recall by filter">']
    for number, each in enumerate(recall):
        top = _LINE * number
        parts.append(f'<text x="4" y="{top + 12}">{escape(_label(each))}</text>')
        bars = [("target", each.target, 17)]
        if each.source is not None:
            bars.insert(0, ("source", each.source, 17))
            bars[1] = ("target", each.target, 27)
        for side, value, shift in bars:
            length = max(across(value) - 4, 1)
            parts.append(
                f'<rect class="{side}" x="4" y="{top + shift}" width="{length:.1f}" height="8" rx="2">'
                f"<title>{side} {value:.4f}</title></rect>"
            )
        x = across(each.required)
        parts.append(
            f'<line class="wanted" x1="{x}" x2="{x}" y1="{top + 15}" y2="{top + 37}">'
            f"<title>wanted {each.required:.4f}</title></line>"
        )
    bottom = _LINE * len(recall) + 4
    parts.append(f'<line class="axis" x1="4" x2="{_WIDTH - 4}" y1="{bottom}" y2="{bottom}"/>')
    for value, anchor in ((low, "start"), ((low + 1) / 2, "middle"), (1.0, "end")):
        parts.append(f'<text x="{across(value)}" y="{bottom + 16}" text-anchor="{anchor}">{value:.2f}</text>')
    return "".join([*parts, "</svg>"])


def score_plot(scores: Scores) -> str:
    """Scores at the target by scores at the source; on the diagonal, they are the same."""
    low, high = _range([*scores.source, *scores.target])
    size, span = _SQUARE, high - low

    def x(value: float) -> float:
        return round(_LEFT + (size - _LEFT - _RIGHT) * (value - low) / span, 1)

    def y(value: float) -> float:
        return round(size - _BOTTOM - (size - _BOTTOM - _TOP) * (value - low) / span, 1)

    parts = [f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="Scores of the same hits">']
    parts.append(f'<line class="axis" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(low)}"/>')
    parts.append(f'<line class="axis" x1="{x(low)}" y1="{y(low)}" x2="{x(low)}" y2="{y(high)}"/>')
    parts.append(f'<line class="wanted" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}"/>')
    dots = dict.fromkeys(
        (x(left), y(right)) for left, right in zip(scores.source, scores.target, strict=True)
    )
    parts += [f'<circle cx="{left}" cy="{right}" r="2.5"/>' for left, right in dots]
    for value, anchor in ((low, "start"), (high, "end")):
        label = f"{value:.4g}"
        parts.append(f'<text x="{x(value)}" y="{size - 20}" text-anchor="{anchor}">{label}</text>')
        lower = y(value) + (10 if value == high else 0)
        parts.append(f'<text x="{_LEFT - 5}" y="{lower}" text-anchor="end">{label}</text>')
    middle = (_LEFT + size - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{size - 5}" text-anchor="middle">score at the source</text>')
    turned = f'transform="rotate(-90 12 {(size - _BOTTOM) / 2})"'
    parts.append(
        f'<text x="12" y="{(size - _BOTTOM) / 2}" text-anchor="middle" {turned}>at the target</text>'
    )
    return "".join([*parts, "</svg>"])


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
