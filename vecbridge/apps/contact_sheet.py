"""Hits to look at: what a contact sheet holds, and the sheet as one picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecbridge import texts
from vecbridge.errors import MissingDependencyError
from vecbridge.query import Hit

# Fields that may say where a record's picture lies; `path` is what `vecbridge index` writes.
PATH_FIELDS: Final = ("path", "file", "file_name", "image")
# What `vecbridge index` notes about files; a sheet shows it only to those who ask for it.
FILE_FIELDS: Final = ("modified", "width", "height", "format", "bytes", "line", "path", "sha256")
_CAPTION_FIELDS: Final = ("name", "title", "caption")
# Families with accents, as Linux and macOS name their files; Pillow's own font has ASCII alone.
_FONTS: Final = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "Helvetica.ttc",
)
_BOLD_FONTS: Final = ("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "NotoSans-Bold.ttf", "Arial Bold.ttf")

NO_PICTURE: Final = "no picture here"
_LONGEST_TEXT: Final = 300
_INK: Final = (28, 32, 38)
_GREY: Final = (105, 113, 124)
_PAPER: Final = (246, 247, 249)
_CARD: Final = (255, 255, 255)
_LINE: Final = (224, 228, 233)
_ACCENT: Final = (36, 99, 170)
_MARGIN: Final = 32
_LABEL: Final = 300
_TILE: Final = 148
_GAP: Final = 14
_CAPTION: Final = 46
_COLORS: Final = 255


@dataclass(frozen=True, slots=True)
class Tile:
    """One hit.

    Attributes:
        id: The record's id.
        score: Its score.
        caption: What it is called.
        values: Its fields, (name, value).
        picture: Its picture, where that can be found on this machine.
        text: What it says, if it is a text and no picture; None where it is none.
    """

    id: str
    score: float
    caption: str
    values: tuple[tuple[str, Any], ...] = ()
    picture: Path | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One search.

    Attributes:
        title: What was asked.
        tiles: What was found, best first.
        picture: The picture that was asked for.
        condition: The filter, as text; "" for none.
    """

    title: str
    tiles: tuple[Tile, ...]
    picture: Path | None = None
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Searches below each other.

    Attributes:
        title: Heading.
        sections: The searches.
        facts: What they have in common, (name, value).
        footer: A last line, such as where the pictures come from.
    """

    title: str
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    footer: str = ""


def tile(hit: Hit, fields: Sequence[str]) -> Tile:
    """A hit as a tile.

    Args:
        hit: With its record.
        fields: Which of its fields to show.
    """
    record = hit.record or {}
    key = str(hit.id)
    strings = {name: value for name, value in record.items() if isinstance(value, str) and value}
    picture = None if strings.get("format") == "text" else _picture(strings)
    is_text = picture is None and (record.get("format") == "text" or "text" in strings)
    text = strings.get("text", "") if is_text else None
    caption = next((strings[name] for name in _CAPTION_FIELDS if name in strings), Path(key).name or key)
    values = tuple((name, record[name]) for name in fields if record.get(name) is not None)
    return Tile(key, hit.score, caption, values, picture, text)


def write_png(path: Path, sheet: Sheet) -> None:
    """Draws a sheet: a row a search, its question on the left.

    Args:
        path: The PNG file to write.
        sheet: At least one section.

    Raises:
        MissingDependencyError: Pillow is not installed.
        OSError: The file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as exc:
        raise MissingDependencyError("pillow", extra="onnx") from exc
    columns = max(1, *(len(each.tiles) for each in sheet.sections))
    width = 2 * _MARGIN + _LABEL + columns * (_TILE + _GAP) - _GAP
    row = _TILE + _CAPTION + 2 * _GAP
    top = _MARGIN + 76
    height = top + len(sheet.sections) * row + _MARGIN + (24 if sheet.footer else 0)
    image = Image.new("RGB", (width, height), _PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    pen.write((_MARGIN, _MARGIN - 4), sheet.title, 26, bold=True)
    facts = "   ".join(f"{name}: {value}" for name, value in sheet.facts)
    pen.write((_MARGIN, _MARGIN + 34), facts, 14, _GREY, width=width - 2 * _MARGIN)
    for number, section in enumerate(sheet.sections):
        _draw_section(image, pen, section, top + number * row)
    if sheet.footer:
        pen.write((_MARGIN, height - _MARGIN - 8), sheet.footer, 12, _GREY, width=width - 2 * _MARGIN)
    image.quantize(_COLORS).save(path, format="PNG", optimize=True)


def _draw_section(image: Any, pen: _Pen, section: Section, top: int) -> None:
    pen.draw.line((_MARGIN, top - _GAP, image.width - _MARGIN, top - _GAP), fill=_LINE)
    room = _LABEL - _GAP
    below = top + 4
    if section.picture is not None:
        card = (_MARGIN, top, _MARGIN + 103, top + 103)
        pen.draw.rounded_rectangle(card, radius=12, fill=_CARD, outline=_LINE)
        _paste(image, section.picture, (_MARGIN + 8, top + 8), 88)
        pen.write((_MARGIN, top + 114), section.title, 18, bold=True, width=room)
        below = top + 138
    else:
        for line in pen.wrapped(section.title, 22, room)[:3]:
            pen.write((_MARGIN, below), line, 22, bold=True)
            below += 29
    for line in pen.wrapped(section.condition, 14, room)[:4]:
        pen.write((_MARGIN, below + 4), line, 14, _ACCENT)
        below += 19
    for place, each in enumerate(section.tiles):
        _draw_tile(image, pen, each, _MARGIN + _LABEL + place * (_TILE + _GAP), top)


def _draw_tile(image: Any, pen: _Pen, tile: Tile, left: int, top: int) -> None:
    box = (left, top, left + _TILE - 1, top + _TILE - 1)
    pen.draw.rounded_rectangle(box, radius=12, fill=_CARD, outline=_LINE)
    if tile.picture is None or not _paste(image, tile.picture, (left + 10, top + 10), _TILE - 20):
        text = NO_PICTURE if tile.text is None else texts.one_line(tile.text, _LONGEST_TEXT)
        for number, line in enumerate(pen.wrapped(text, 13, _TILE - 24)[:7]):
            pen.write((left + 12, top + 12 + 17 * number), line, 13, _GREY, width=_TILE - 20)
    pen.write((left + 2, top + _TILE + 7), tile.caption, 15, width=_TILE - 4)
    pen.write((left + 2, top + _TILE + 26), f"{tile.score:.3f}", 13, _GREY)


def _paste(image: Any, path: Path, place: tuple[int, int], side: int) -> bool:
    """Puts a picture into a square, centred; False where it cannot be read."""
    from PIL import Image

    from vecbridge.errors import InvalidRecordError
    from vecbridge.sources.pictures import open_picture

    try:
        found = open_picture(path).image
    except InvalidRecordError:
        return False
    scale = side / max(found.size)
    shown = found.resize(
        (max(1, round(found.width * scale)), max(1, round(found.height * scale))), Image.Resampling.LANCZOS
    )
    image.paste(shown, (place[0] + (side - shown.width) // 2, place[1] + (side - shown.height) // 2))
    return True


class _Pen:
    """Writes text that fits; without a font that has accents, without accents."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self._fonts: dict[tuple[int, bool], tuple[Any, bool]] = {}

    def write(
        self,
        place: tuple[int, int],
        text: str,
        size: int,
        color: tuple[int, int, int] = _INK,
        *,
        bold: bool = False,
        width: int | None = None,
    ) -> None:
        """One line, cut with an ellipsis where it is longer than ``width``."""
        font, accents = self._font(size, bold)
        shown = text if accents else _ascii(text)
        while width is not None and shown and font.getlength(shown) > width:
            shown = shown.rstrip("…")[:-1].rstrip() + ("…" if accents else "")
        self.draw.text(place, shown, font=font, fill=color)

    def wrapped(self, text: str, size: int, width: int) -> list[str]:
        """The text in lines that fit."""
        font, accents = self._font(size, True)
        lines: list[str] = []
        for word in (text if accents else _ascii(text)).split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and font.getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def _font(self, size: int, bold: bool) -> tuple[Any, bool]:
        """A font, and whether it has accents."""
        from PIL import ImageFont

        if (size, bold) not in self._fonts:
            for name in (*_BOLD_FONTS, *_FONTS) if bold else _FONTS:
                try:
                    self._fonts[size, bold] = ImageFont.truetype(name, size), True
                    break
                except OSError:
                    continue
            else:
                self._fonts[size, bold] = ImageFont.load_default(size), False
        return self._fonts[size, bold]


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _picture(strings: dict[str, str]) -> Path | None:
    for name in PATH_FIELDS:
        if name in strings and "\0" not in strings[name]:
            path = Path(strings[name])
            try:
                if path.is_file():
                    return path
            except OSError:  # a name longer than the system takes
                continue
    return None
