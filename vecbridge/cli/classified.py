"""What ``classify`` found: as a table, as CSV and as JSON; and how labels are given."""

from __future__ import annotations

import csv as csv_format
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.text import Text

from vecbridge.cli import common, output
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.apps.accuracy import ClassificationReport
    from vecbridge.apps.labels import Labels
    from vecbridge.apps.zeroshot import Candidate, Prediction, ZeroShotClassifier
    from vecbridge.embed.base import Embedder, FloatArray

NONE: Final = "(none of these)"
_STDOUT: Final = "-"
_MOST_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One picture.

    Attributes:
        id: Its id.
        prediction: What it was taken for.
        truth: What it is, where somebody says so.
    """

    id: str | int
    prediction: Prediction
    truth: str | None


@dataclass(slots=True)
class Classified:
    """The result, as it grows.

    Attributes:
        k: Labels to show a picture.
        language: Of the templates; None where they are the user's own.
        truth: The field with the right label.
        model: The model.
        classifier: Of the model.
        rows: What was classified.
        failures: What could not be read, (id, reason).
    """

    k: int
    language: str | None
    truth: str | None
    model: str = ""
    classifier: ZeroShotClassifier | None = None
    rows: list[Row] = field(default_factory=list)
    failures: list[tuple[str | int | None, str]] = field(default_factory=list)

    def begin(self, clip: Embedder, classifier: ZeroShotClassifier) -> None:
        """Notes the model, and says what users should know about it."""
        self.classifier, self.model = classifier, clip.identity.model
        if clip.note:
            common.report_model(clip)

    def add(self, ids: Sequence[str | int], vectors: FloatArray, truths: Sequence[Any]) -> None:
        """Classifies some vectors."""
        assert self.classifier is not None
        predictions = self.classifier.classify_vectors(vectors, k=self.k)
        for key, prediction, truth in zip(ids, predictions, truths, strict=True):
            self.rows.append(Row(key, prediction, None if truth is None else str(truth)))

    def fail(self, key: str | int | None, error: str) -> None:
        """Notes what could not be read."""
        self.failures.append((key, error))

    @property
    def report(self) -> ClassificationReport | None:
        """How many are right; None where nobody says what is."""
        if self.truth is None or not self.rows or self.classifier is None:
            return None
        from vecbridge.apps.accuracy import evaluate

        predictions = [row.prediction for row in self.rows]
        return evaluate(predictions, [row.truth for row in self.rows], self.classifier.labels)


def split(given: Sequence[str] | None) -> list[str]:
    """Texts of an option that takes several, separated by commas."""
    return [text.strip() for option in given or [] for text in option.split(",") if text.strip()]


def read_label_options(labels: Sequence[str] | None, path: Path | None) -> Labels:
    """The labels of ``--labels`` or ``--labels-file``.

    Raises:
        ConfigError: Neither, both, or a file that cannot be read.
    """
    if labels and path is not None:
        raise ConfigError("--labels or --labels-file, one of the two")
    if path is None:
        return split(labels)
    try:
        text = path.read_text("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"--labels-file {path}: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"--labels-file {path}: not UTF-8 at byte {exc.start}") from None
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"--labels-file {path}: {exc}") from None
    if not isinstance(found, dict | list):
        raise ConfigError(f"--labels-file {path}: a list of labels, or an object of labels and their texts")
    return found


def require_outputs(csv: Path | None, *, as_json: bool) -> None:
    """Refuses two results on standard output.

    Raises:
        ConfigError: ``--json`` and ``--csv -``.
    """
    if as_json and csv is not None and str(csv) == _STDOUT:
        raise ConfigError("--json and --csv - both write to standard output: give --csv a file")


def show(result: Classified, csv: Path | None, *, as_json: bool) -> None:
    """Writes the result as it was asked for, and notes on it to stderr."""
    if csv is not None:
        _write_csv(result, csv)
    if as_json:
        output.document(_document(result))
    elif csv is None or str(csv) != _STDOUT:
        if csv is None and result.rows:
            output.show(_table(result))
        if (report := result.report) is not None:
            output.show(*([""] if csv is None else []), output.pairs(_lines(report, result.k)))
    _notes(result, csv)


def _notes(result: Classified, csv: Path | None) -> None:
    count = output.number(len(result.rows), "picture")
    none = sum(row.prediction.label is None for row in result.rows)
    output.note(f"{count} by {result.model}{f', {none:,} of them none of these' if none else ''}.")
    if result.classifier is not None and result.classifier.logit_scale is None:
        output.note("The files of this model have no logit scale: there are cosines, and no probabilities.")
    if (report := result.report) is not None and not report.right.of:
        output.warn(
            f"no value of {result.truth!r} is one of the labels, so that each counts as none of these"
        )
    if csv is not None and str(csv) != _STDOUT:
        output.note(f"CSV: {csv}")
    for key, error in result.failures[:_MOST_FAILURES]:
        output.warn(f"{key}: {error}" if key is not None else error)
    if len(result.failures) > _MOST_FAILURES:
        output.warn(f"and {len(result.failures) - _MOST_FAILURES:,} more that cannot be read")


def _table(result: Classified) -> Any:
    """A line a picture: its label, what that rests on, and the next labels."""
    has_scale = result.classifier is not None and result.classifier.logit_scale is not None
    measure = "probability" if has_scale else "cosine"
    names = [
        "id",
        "label",
        measure,
        *(["next"] if result.k > 1 else []),
        *(["truth"] if result.truth else []),
    ]
    rows = []
    for row in result.rows:
        first, *rest = row.prediction.candidates
        label = row.prediction.label
        cells: list[Any] = [row.id, Text(NONE, "dim") if label is None else label, _number(first)]
        if label is None:
            rest = [first, *rest]
            cells[2] = ""
        if result.k > 1:
            cells.append(", ".join(f"{each.label} {_number(each)}" for each in rest))
        rows.append([*cells, *([row.truth] if result.truth else [])])
    return output.table(names, rows, right=[measure])


def _number(candidate: Candidate) -> str:
    value = candidate.cosine if candidate.probability is None else candidate.probability
    return f"{value:.3f}"


def _lines(report: ClassificationReport, k: int) -> list[tuple[str, str]]:
    lines = [("right", str(report.right))]
    if k > 1:
        lines.append((f"among the first {k}", str(report.in_candidates)))
    lines.append(("always the commonest label", str(report.largest)))
    lines.append(("rejected, wrongly", str(report.false_reject)))
    if report.false_accept.of:
        lines.append(("accepted, wrongly", str(report.false_accept)))
    return lines


def _document(result: Classified) -> dict[str, Any]:
    classifier, report = result.classifier, result.report
    assert classifier is not None
    return {
        "model": result.model,
        "labels": list(classifier.labels),
        "language": result.language,
        "templates": list(classifier.templates),
        "logit_scale": classifier.logit_scale,
        "logit_bias": classifier.logit_bias,
        "none_below": classifier.none_below,
        "items": [
            {"id": row.id, **row.prediction.to_dict(), **({"truth": row.truth} if result.truth else {})}
            for row in result.rows
        ],
        "failed": [{"id": key, "error": error} for key, error in result.failures],
        "report": None if report is None else report.to_dict(),
    }


def _write_csv(result: Classified, path: Path) -> None:
    """A line a picture; an empty label is "none of these"."""
    number = min(result.k, len(result.classifier.labels)) if result.classifier is not None else 0
    parts = [
        f"{name}_{place}" for place in range(1, number + 1) for name in ("label", "cosine", "probability")
    ]
    with _opened(path) as file:
        writer = csv_format.writer(file, lineterminator="\n")
        writer.writerow(["id", "label", *parts, *(["truth"] if result.truth else [])])
        for row in result.rows:
            cells = [
                value
                for each in row.prediction.candidates
                for value in (each.label, f"{each.cosine:.6f}", _probability(each))
            ]
            label = row.prediction.label or ""
            writer.writerow([row.id, label, *cells, *([row.truth or ""] if result.truth else [])])


def _probability(candidate: Candidate) -> str:
    return "" if candidate.probability is None else f"{candidate.probability:.6g}"


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if str(path) == _STDOUT:
        yield sys.stdout
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: A key stands twice, of which Python would keep the last.
    """
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"label {name!r} stands twice")
    return dict(pairs)
