"""An evaluation as one HTML page, with everything inside: no script, no file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vecbridge.apps.evaluation import AtThreshold, CategoryFigures, Curve, Evaluation
from vecbridge.apps.policy import VERDICTS
from vecbridge.pages import render

#: Headings of a table of categories, whose rows :func:`rows` gives.
HEADINGS: Final = (
    "category",
    "with",
    "without",
    "AP",
    "at",
    "threshold",
    "precision",
    "recall",
    "false pos.",
)
_MOST_POINTS: Final = 400  # of a curve; more than a screen has
_SIZE: Final = 320
_NEAR_EDGE: Final = 0.8  # recall from which on a label stands to the left of its dot
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 36, 12, 14


def write_evaluation(path: Path, evaluation: Evaluation, *, model: str) -> None:
    """Writes an evaluation as a page.

    Args:
        path: The HTML file to write.
        evaluation: What it shows.
        model: Which model's scores these are.

    Raises:
        OSError: The file cannot be written.
    """
    path.write_text(page(evaluation, model=model), "utf-8")


def page(evaluation: Evaluation, *, model: str) -> str:
    """The page as text; see :func:`write_evaluation`."""
    scores = "calibrated" if evaluation.calibrated else "the model's own"
    facts = [
        ("model", model),
        ("labelled items", f"{evaluation.items} {evaluation.kind}s"),
        ("scores", scores),
        ("with a label", verdicts(evaluation.unwanted)),
        ("without one", verdicts(evaluation.wanted)),
    ]
    return render(
        "evaluation.html",
        title="Moderation: scores and labels",
        facts=facts,
        warnings=evaluation.warnings,
        headings=HEADINGS,
        rows=[row for each in evaluation.categories for row in rows(each)],
        plots=[
            (each.name, _plot(each, each.curve)) for each in evaluation.categories if each.curve is not None
        ],
    )


def verdicts(counts: dict[str, int]) -> str:
    """How many items got which verdict, in words.

    Example:
        >>> verdicts({"allow": 3, "review": 0, "block": 1})
        '3 allow, 0 review, 1 block'
    """
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def rows(figures: CategoryFigures) -> Iterator[tuple[str, ...]]:
    """The two rows of a category: at its threshold for review, and at that for blocking."""
    average = "" if figures.average_precision is None else f"{figures.average_precision:.3f}"
    counts = (figures.name, str(figures.positives), str(figures.negatives), average)
    yield (*counts, "review", *_cells(figures.review))
    yield ("", "", "", "", "block", *_cells(figures.block))


def _cells(at: AtThreshold) -> tuple[str, ...]:
    shares = (at.precision, at.recall, at.false_positives)
    return (f"{at.threshold:g}", *("" if each is None else f"{each:.3f}" for each in shares))


def _plot(figures: CategoryFigures, curve: Curve) -> dict[str, Any]:
    step = max(1, len(curve.recall) // _MOST_POINTS)
    kept = sorted({*range(0, len(curve.recall), step), len(curve.recall) - 1})
    marks = [
        {"x": _x(at.recall), "y": _y(at.precision), "label": name, "left": at.recall > _NEAR_EDGE}
        for name, at in (("review", figures.review), ("block", figures.block))
        if at.precision is not None and at.recall is not None
    ]
    ticks = []
    for value, anchor in ((0.0, "start"), (1.0, "end")):
        ticks.append({"x": _x(value), "y": _SIZE - 20, "anchor": anchor, "label": f"{value:g}"})
        ticks.append({"x": _LEFT - 5, "y": _y(value) + 10 * value, "anchor": "end", "label": f"{value:g}"})
    return {
        "size": _SIZE,
        "axes": [(_x(0), _y(0), _x(1), _y(0)), (_x(0), _y(0), _x(0), _y(1))],
        "points": " ".join(f"{_x(curve.recall[row])},{_y(curve.precision[row])}" for row in kept),
        "marks": marks,
        "ticks": ticks,
        "middle": (_LEFT + _SIZE - _RIGHT) / 2,
        "height": (_SIZE - _BOTTOM) / 2,
    }


def _x(value: float) -> float:
    return round(_LEFT + (_SIZE - _LEFT - _RIGHT) * value, 1)


def _y(value: float) -> float:
    return round(_SIZE - _BOTTOM - (_SIZE - _BOTTOM - _TOP) * value, 1)
