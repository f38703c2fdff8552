"""The gallery that ships with the model: 320 Noto pictures with names and keywords, for demo and tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training import concepts as concepts_module
from training.concepts import Caption, Concept, Concepts
from training.pictures import GALLERY_SIZE, icon_names, render, svg

PACKAGE = "noto"  # Apache-2.0
_COLORS = 160
_COUNTS = {"animals-nature": 80, "food-drink": 75, "travel-places": 75, "activities": 35, "objects": 55}
# What people try first, whatever the even spread would take.
_WANTED = (
    "🌄🌅🌇🌆🌃🌉🌌🌊🏖🏝🏔⛰🏞🏜🌋🗻🌈⛄🌠🐕🐶🐩🐈🐱🐴🐘"
    "🦁🐧🐬🦋🐝🦉🐢🌲🌴🌹🌻🍁🍕🍔🍟🍎🍌🍓🍇🥑🍞🧀🍣🍦🎂☕"
    "🍷🍺✈🚗🚲🚂🚀⛵🏰🗼🗽🏠🏥🎯⚽🏀🎾🏆🎨📱💻📷📚🔑💡🎸"
    "🎻👓👑👟🎁"
)
_YEARS = {0.6: 2010, 0.7: 2014, 1.0: 2015, 2.0: 2015, 3.0: 2016, 4.0: 2016, 5.0: 2017, 11.0: 2018, 12.0: 2019}
_YEARS |= {12.1: 2019, 13.0: 2020, 13.1: 2020, 14.0: 2021, 15.0: 2022, 15.1: 2023, 16.0: 2024, 17.0: 2025}


def write(packages: Path, folder: Path) -> int:
    """Render the gallery into `folder`; returns how many pictures it holds."""
    concepts = concepts_module.load(packages)
    icons = json.loads((packages / "@iconify-json" / PACKAGE / "icons.json").read_text("utf-8"))
    names = dict(icon_names(PACKAGE, icons["icons"], packages, concepts))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    lines = []
    for row in choose(concepts, set(names)):
        picture = render(svg(icons, names[row], GALLERY_SIZE), GALLERY_SIZE)
        if picture is not None:
            line = describe(concepts, concepts.rows[row])
            picture.quantize(_COLORS).save(folder / line["file"], optimize=True)
            lines.append(json.dumps(line, ensure_ascii=False))
    (folder / "gallery.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return len(lines)


def choose(concepts: Concepts, drawable: set[int]) -> list[int]:
    """The wanted concepts, and an even spread of the rest of each group."""
    wanted = {concepts.by_code[f"{ord(emoji):x}"] for emoji in _WANTED}
    chosen: set[int] = set()
    for group, count in _COUNTS.items():
        rows = [row for row in sorted(drawable) if concepts.groups.get(concepts.rows[row].group) == group]
        kept = [row for row in rows if row in wanted]
        rest = [row for row in rows if row not in wanted and not _repetitive(concepts.rows[row])]
        spare = max(0, min(count - len(kept), len(rest)))
        chosen.update(kept, (rest[k * len(rest) // spare] for k in range(spare)))
    return sorted(chosen)


def _repetitive(concept: Concept) -> bool:
    """Clock faces and moon phases: many pictures that differ in a hand."""
    label = concept.captions["en"].label
    return any(word in label for word in ("o’clock", "thirty", "moon"))


def describe(concepts: Concepts, concept: Concept) -> dict[str, Any]:
    """One line of gallery.jsonl. `year` is when the emoji was first released."""
    english = concept.captions["en"]
    spanish = concept.captions.get("es", Caption(english.label, ()))
    return {
        "file": f"{concept.code.lower()}.png",
        "name": english.label,
        "name_es": spanish.label,
        "keywords": list(english.tags),
        "keywords_es": list(spanish.tags),
        "group": concepts.groups[concept.group],
        "codepoint": concept.code,
        "year": _YEARS[concept.version],
    }
