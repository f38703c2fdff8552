"""Labelled items: a JSONL file that says which categories apply to which pictures or texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vecbridge.apps.calibration import Labels
from vecbridge.apps.evaluation import labels_of
from vecbridge.apps.moderated import read_item
from vecbridge.apps.policy import Kind, Policy
from vecbridge.apps.scorers import Scorer, Scores
from vecbridge.errors import ConfigError, Failure, InvalidRecordError, VecbridgeError, suggestion
from vecbridge.sources.lines import parse_object, read_lines
from vecbridge.texts import shown

_KEYS = ("file", "text", "labels")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Items of one kind, and the categories that apply to each.

    Attributes:
        kind: What they are.
        items: Paths or texts.
        labels: Names of categories, an item's in a tuple; () where none applies.
    """

    kind: Kind
    items: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    def table(self, policy: Policy) -> Labels:
        """The labels as bool of shape (items, categories that apply to the kind)."""
        return labels_of(self.labels, policy.applying(self.kind))


def read_labelled(path: str | os.PathLike[str], policy: Policy) -> Labelled:
    """Reads a file of lines such as ``{"file": "a.png", "labels": ["weapons"]}``.

    A picture is named by ``file``, from the folder of the labels; a text stands in ``text``. ``labels`` are
    names of categories, and an empty list says that none applies.

    Args:
        path: JSON lines.
        policy: Labels must name its categories.

    Raises:
        ConfigError: The file cannot be read, a line is none of these, pictures and texts are mixed, an item
            is there twice, or a label is no category that applies to them; the message names the line.
    """
    file = Path(path)
    rows: list[tuple[Kind, str, tuple[str, ...]]] = []
    known: dict[str, int] = {}
    try:
        for line in read_lines(file):
            place = f"{file}:{line.number}"
            if line.data is None:
                raise ConfigError(f"{place}: the line is too long")
            try:
                values = parse_object(line.data)
            except (ValueError, VecbridgeError) as exc:
                raise ConfigError(f"{place}: {exc}") from None
            kind, item, labels = _row(values, place, file.parent)
            _require_categories(kind, labels, place, policy)
            if rows and kind != rows[0][0]:
                raise ConfigError(f"{place}: a {kind} among {rows[0][0]}s: label them in two files")
            if item in known:
                raise ConfigError(f"{place}: the same item as in line {known[item]}")
            known[item] = line.number
            rows.append((kind, item, labels))
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror or exc}") from exc
    if not rows:
        raise ConfigError(f"{file}: no labelled items")
    return Labelled(rows[0][0], tuple(item for _, item, _ in rows), tuple(labels for _, _, labels in rows))


def score_labelled(scorer: Scorer, labelled: Labelled, policy: Policy, *, batch_size: int = 32) -> Scores:
    """The model's own scores of labelled items: float64 of shape (items, categories).

    Unlike a moderator, it stops at an item that cannot be scored, since figures without it would mislead.

    Raises:
        InvalidRecordError: Items cannot be read; ``rows`` names them.
        ConfigError: No category applies to this kind of items.
    """
    categories = policy.applying(labelled.kind)
    if not categories:
        raise ConfigError(f"no category of the policy applies to {labelled.kind}s")
    parts: list[Scores] = []
    for start in range(0, len(labelled.items), batch_size):
        part = labelled.items[start : start + batch_size]
        contents = [read_item(labelled.kind, item) for item in part]
        failures = [
            Failure(start + row, part[row], str(each.error))
            for row, each in enumerate(contents)
            if each.error is not None
        ]
        if failures:
            raise InvalidRecordError(failures[0].error, failures)
        parts.append(scorer.score(labelled.kind, [each.value for each in contents], categories))
    return np.concatenate(parts)


def _row(values: dict[str, Any], place: str, folder: Path) -> tuple[Kind, str, tuple[str, ...]]:
    for key in values:
        if key not in _KEYS:
            raise ConfigError(f"{place}: unknown key {shown(key)}{suggestion(key, _KEYS)}")
    labels = values.get("labels")
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise ConfigError(f"{place}: labels must be a list of names of categories, and may be empty")
    if ("file" in values) == ("text" in values):
        raise ConfigError(f"{place}: either file or text is needed")
    item = values.get("file", values.get("text"))
    if not isinstance(item, str) or not item:
        raise ConfigError(f"{place}: file and text are strings that are not empty")
    if "text" in values:
        return "text", item, tuple(labels)
    return "image", str(folder / item), tuple(labels)


def _require_categories(kind: Kind, labels: Sequence[str], place: str, policy: Policy) -> None:
    known = [each.name for each in policy.applying(kind)]
    for label in labels:
        if label not in known:
            hint = suggestion(label, known)
            raise ConfigError(f"{place}: no category for {kind}s is called {shown(label)}{hint}")
