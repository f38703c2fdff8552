"""Render the icon sets to small RGBA pictures, one array a style."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import restyle
from training.concepts import Concepts, letters, plain_code
from training.concepts import load as load_concepts

TRAINING_SIZE = 72
HELD_OUT_SIZE = 96
GALLERY_SIZE = 128

Restyle = Callable[[str, float, random.Random], str]


@dataclass(frozen=True, slots=True)
class Style:
    """One style of pictures: an icon set, perhaps redrawn. `weight` is how often it is drawn in training."""

    name: str
    package: str
    weight: float
    redraw: Restyle | None = None
    size: int = TRAINING_SIZE


EMOJI_SETS = ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "fxemoji")  # Apache-2.0, MIT
REDRAWN_SETS = ("noto", "noto-v1", "fluent-emoji-flat", "fxemoji")  # gradients do not outline well
ICON_SETS = ("icon-park", "ph", "tabler", "mdi", "fluent-color", "flat-color-icons")  # Apache-2.0, MIT
FLAG_SETS = ("circle-flags", "flag")  # MIT

TRAINING_STYLES: tuple[Style, ...] = (
    *(Style(name, name, 1.0) for name in EMOJI_SETS),
    *(Style(f"{name}+outlined", name, 0.4, restyle.outlined) for name in REDRAWN_SETS),
    *(Style(f"{name}+sketched", name, 0.4, restyle.sketched) for name in REDRAWN_SETS),
    *(Style(f"{name}+recoloured", name, 0.4, restyle.recoloured) for name in REDRAWN_SETS),
    Style("fluent-emoji-high-contrast", "fluent-emoji-high-contrast", 0.3),
    *(Style(name, name, 0.25) for name in ICON_SETS),
    *(Style(name, name, 1.0) for name in FLAG_SETS),
)
VALIDATION = Style("twemoji", "twemoji", 0.0, size=HELD_OUT_SIZE)  # CC-BY 4.0: looked at, never trained on
TEST = Style("openmoji", "openmoji", 0.0, size=HELD_OUT_SIZE)  # CC BY-SA 4.0: looked at once, at the end


def icon_names(
    package: str, icons: dict[str, Any], packages: Path, concepts: Concepts
) -> Iterator[tuple[int, str]]:
    """Pairs (concept, icon name) of a set: by code point where the set tells it, else by English label."""
    if package in FLAG_SETS:
        yield from _flag_names(icons, concepts)
    elif package in ICON_SETS:
        yield from _labelled(icons, concepts)
    else:
        seen: set[int] = set()
        for row, name in (*_coded(package, icons, packages, concepts), *_labelled(icons, concepts)):
            if row not in seen:
                seen.add(row)
                yield row, name


def _coded(
    package: str, icons: dict[str, Any], packages: Path, concepts: Concepts
) -> Iterator[tuple[int, str]]:
    """Sets without a table of their own share the names of Noto or Fluent."""
    if package == "fxemoji":  # its names follow another scheme
        return
    own = packages / "@iconify-json" / package / "chars.json"
    borrowed = (
        ("fluent-emoji-flat", "noto") if package.startswith("fluent") else ("noto", "fluent-emoji-flat")
    )
    for source in (package,) if own.exists() else borrowed:
        table = json.loads((packages / "@iconify-json" / source / "chars.json").read_text("utf-8"))
        for code, name in table.items():
            row = concepts.by_code.get(plain_code(code))
            if row is not None and name in icons:
                yield row, name


def _labelled(icons: dict[str, Any], concepts: Concepts) -> Iterator[tuple[int, str]]:
    for name in icons:
        row = concepts.by_label.get(letters(_without_variant(name)))
        if row is not None:
            yield row, name


def _without_variant(name: str) -> str:
    words = name.split("-")
    while len(words) > 1 and (
        words[-1] in {"fill", "filled", "duotone", "bold", "outline"} or words[-1].isdigit()
    ):
        words.pop()
    return "-".join(words)


def _flag_names(icons: dict[str, Any], concepts: Concepts) -> Iterator[tuple[int, str]]:
    for name in icons:
        letters_of = name.removesuffix("-4x3")
        if len(letters_of) == 2 and letters_of.isalpha():
            code = "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):x}" for letter in letters_of)
            if code in concepts.by_code:
                yield concepts.by_code[code], name


def svg(icons: dict[str, Any], name: str, size: int, redraw: Restyle | None = None) -> str:
    """A square SVG document of one icon, redrawn if asked, the same way each time."""
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
    side = max(width, height)
    body: str = icon["body"].replace("currentColor", "#000")
    if redraw is not None:
        body = redraw(body, side, random.Random(name))
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} width="{size}" height="{size}" viewBox="{box}">{body}</svg>'


def render(document: str, size: int) -> Image.Image | None:
    """Rasterise to RGBA; None for what the renderer refuses, or leaves empty."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_string=document, width=size, height=size, skip_system_fonts=True)
    except ValueError:
        return None
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return picture if picture.getextrema()[3][1] else None


def render_style(style: Style, packages: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (n, size, size, 4) of one style, and the concept of each."""
    concepts = load_concepts(packages)
    icons = json.loads((packages / "@iconify-json" / style.package / "icons.json").read_text("utf-8"))
    pictures, rows = [], []
    for row, name in sorted(icon_names(style.package, icons["icons"], packages, concepts)):
        picture = render(svg(icons, name, style.size, style.redraw), style.size)
        if picture is not None:
            pictures.append(np.asarray(picture))
            rows.append(row)
    return np.stack(pictures), np.array(rows)


def _save(style: Style, packages: Path, folder: Path) -> str:
    file = folder / f"{style.name}.npz"
    if not file.exists():
        pictures, rows = render_style(style, packages)
        np.savez(file, pictures=pictures, concepts=rows)
    return f"{style.name}: {len(np.load(file)['concepts'])} pictures"


def render_all(packages: Path, folder: Path, *, workers: int = 2) -> None:
    """Render every style that `folder` does not have yet."""
    folder.mkdir(parents=True, exist_ok=True)
    styles = (*TRAINING_STYLES, VALIDATION, TEST)
    with ProcessPoolExecutor(workers) as pool:
        for line in pool.map(partial(_save, packages=packages, folder=folder), styles):
            print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Bank:
    """All training pictures in one array, and which of them show each concept."""

    pictures: NDArray[np.uint8]
    of_concept: dict[int, list[int]]
    weights: dict[int, list[float]]

    def draw(self, row: int, chance: random.Random) -> int:
        """The index of a picture of a concept, by the weight of its style."""
        return chance.choices(self.of_concept[row], self.weights[row])[0]


def load_bank(folder: Path, *, favourite: str | None = None) -> Bank:
    """All training pictures; those of the favourite style are drawn twice as often."""
    pictures: list[NDArray[np.uint8]] = []
    of_concept: dict[int, list[int]] = {}
    weights: dict[int, list[float]] = {}
    start = 0
    for style in TRAINING_STYLES:
        saved = np.load(folder / f"{style.name}.npz")
        pictures.append(saved["pictures"])
        rows = saved["concepts"].tolist()
        weight = style.weight * (2 if style.name == favourite else 1)
        for offset, row in enumerate(rows):
            of_concept.setdefault(row, []).append(start + offset)
            weights.setdefault(row, []).append(weight)
        start += len(rows)
    return Bank(np.concatenate(pictures), of_concept, weights)
