"""The concepts the model learns: one per base emoji, labelled in six languages (emojibase, MIT)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANGUAGES = ("en", "es", "fr", "de", "pt", "it")
_PRESENTATION = re.compile(r"-?fe0f", re.IGNORECASE)


def plain_code(hexcode: str) -> str:
    """Lower-case a hexcode and drop the presentation selector, on which icon sets disagree."""
    return _PRESENTATION.sub("", hexcode.lower())


@dataclass(frozen=True, slots=True)
class Caption:
    """What one language says of a concept: a label, and keywords that other concepts may share."""

    label: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Concept:
    """One base emoji. `version` is the Emoji version that introduced it."""

    code: str
    group: int
    version: float
    captions: dict[str, Caption]


@dataclass(frozen=True)
class Concepts:
    """All concepts, in emojibase order; a concept is named by its row everywhere else."""

    rows: tuple[Concept, ...]
    groups: dict[int, str]

    @cached_property
    def by_code(self) -> dict[str, int]:
        return {plain_code(concept.code): row for row, concept in enumerate(self.rows)}

    @cached_property
    def by_label(self) -> dict[str, int]:
        """English labels stripped to letters and digits, for icon sets that name icons by label."""
        return {letters(concept.captions["en"].label): row for row, concept in enumerate(self.rows)}

    @cached_property
    def owners(self) -> dict[tuple[str, str], NDArray[np.bool_]]:
        """(language, keyword) → which concepts carry it."""
        owners: dict[tuple[str, str], NDArray[np.bool_]] = {}
        for row, concept in enumerate(self.rows):
            for language, caption in concept.captions.items():
                for tag in caption.tags:
                    owners.setdefault((language, tag), np.zeros(len(self.rows), bool))[row] = True
        return owners

    def sharing(self, language: str, tags: tuple[str, ...]) -> NDArray[np.bool_]:
        """Which concepts carry every one of `tags`: none of them is a wrong answer to such a caption."""
        shared = np.stack([self.owners[language, tag] for tag in tags])
        return np.asarray(shared.all(0))


def letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def load(packages: Path) -> Concepts:
    """Read the concepts from an installed `emojibase-data` under `packages` (a node_modules folder)."""
    data = packages / "emojibase-data"
    entries = {language: _entries(data / language / "data.json") for language in LANGUAGES}
    rows = tuple(_concept(code, entries) for code in entries["en"])
    groups = json.loads((data / "meta" / "groups.json").read_text("utf-8"))["groups"]
    return Concepts(rows, {int(number): name for number, name in groups.items()})


def with_regional(
    concepts: Concepts, packages: Path, language: str = "es", region: str = "es-mx"
) -> Concepts:
    """The same concepts with the labels and keywords of a region as further keywords of its language.

    Spain alone calls no picture of a sunset "atardecer"; Mexico does.
    """
    entries = _entries(packages / "emojibase-data" / region / "data.json")

    def widened(concept: Concept) -> Concept:
        known, more = concept.captions.get(language), entries.get(concept.code)
        if known is None or more is None:
            return concept
        tags = dict.fromkeys((*known.tags, more["label"], *more.get("tags", ())))
        tags.pop(known.label, None)
        caption = Caption(known.label, tuple(tags))
        return replace(concept, captions={**concept.captions, language: caption})

    return replace(concepts, rows=tuple(map(widened, concepts.rows)))


def _entries(file: Path) -> dict[str, dict[str, Any]]:
    return {entry["hexcode"]: entry for entry in json.loads(file.read_text("utf-8"))}


def _concept(code: str, entries: dict[str, dict[str, dict[str, Any]]]) -> Concept:
    captions = {language: _caption(known[code]) for language, known in entries.items() if code in known}
    english = entries["en"][code]
    return Concept(code, english.get("group", -1), english["version"], captions)


def _caption(entry: dict[str, Any]) -> Caption:
    label = entry["label"]
    tags = dict.fromkeys(tag for tag in entry.get("tags", []) if tag.lower() != label.lower())
    return Caption(label, tuple(tags))
