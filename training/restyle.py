"""Redraw an SVG in another hand, so that the model sees each picture in more styles than the icon sets have.

Restyling the vectors instead of the pixels gives clean outlines and flat palettes.
A restyled picture keeps the licence of its source.
"""

from __future__ import annotations

import colorsys
import random
import re
from collections.abc import Callable

Color = tuple[float, float, float]
_PAINT = re.compile(r'((?:fill|stroke|stop-color)(?:="|:))(#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3})\b')
_SHAPES = "path,circle,ellipse,rect,polygon,polyline"
_PALETTE = (
    *("#000000", "#ffffff", "#757575", "#bdbdbd", "#424242", "#f44336", "#e91e63", "#9c27b0", "#3f51b5"),
    *("#2196f3", "#81d4fa", "#009688", "#4caf50", "#cddc39", "#ffeb3b", "#ffc107", "#ff9800", "#795548"),
    "#ffccbc",
)


def outlined(body: str, size: float, chance: random.Random) -> str:
    """Draw a dark line round every shape."""
    width = size * chance.uniform(0.012, 0.03)
    rule = f"{_SHAPES}{{stroke:#000;stroke-width:{width:.3f};stroke-linejoin:round}}"
    return f"<style>{rule}</style>{body}"


def sketched(body: str, size: float, chance: random.Random) -> str:
    """Flatten every colour to a small palette (or to white), and outline."""
    blank = chance.random() < 0.15
    return outlined(_repaint(body, (lambda _: (1.0, 1.0, 1.0)) if blank else _nearest), size, chance)


def recoloured(body: str, size: float, chance: random.Random) -> str:
    """Shift all hues together a little, and each colour by itself a little more."""
    shift, gain = chance.gauss(0, 0.03), chance.uniform(0.6, 1.5)

    def jitter(color: Color) -> Color:
        hue, light, saturation = colorsys.rgb_to_hls(*color)
        hue = (hue + shift + chance.gauss(0, 0.03)) % 1.0
        light = min(1.0, max(0.0, light + chance.gauss(0, 0.07)))
        return colorsys.hls_to_rgb(hue, light, min(1.0, saturation * gain))

    return _repaint(body, jitter)


def _repaint(body: str, change: Callable[[Color], Color]) -> str:
    changed: dict[str, str] = {}

    def paint(match: re.Match[str]) -> str:
        old = match.group(2).lower()
        if old not in changed:
            changed[old] = _to_hex(change(_to_color(old)))
        return match.group(1) + changed[old]

    return _PAINT.sub(paint, body)


def _to_color(text: str) -> Color:
    digits = text[1:] if len(text) == 7 else "".join(digit * 2 for digit in text[1:])
    return int(digits[0:2], 16) / 255, int(digits[2:4], 16) / 255, int(digits[4:6], 16) / 255


def _to_hex(color: Color) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


def _nearest(color: Color) -> Color:
    return min(
        map(_to_color, _PALETTE),
        key=lambda known: sum((a - b) ** 2 for a, b in zip(color, known, strict=True)),
    )
