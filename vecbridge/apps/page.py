"""A contact sheet as one HTML page, with everything inside: no script, no file beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from vecbridge import texts, timestamps
from vecbridge.apps.contact_sheet import NO_PICTURE, PATH_FIELDS, Section, Sheet, Tile
from vecbridge.errors import InvalidRecordError, MissingDependencyError
from vecbridge.pages import render

THUMBNAIL_SIDE: Final = 320
_QUALITY: Final = 82
_MAX_PICTURES: Final = 200  # some 4 MB of page; what comes after is named, and not shown
_LONGEST_TEXT: Final = 300  # characters; a stylesheet shows fewer
_LONGEST_TITLE: Final = 100  # in the heading of the window


def write_page(path: Path, sheet: Sheet) -> None:
    """Writes a sheet as a page.

    Args:
        path: The HTML file to write.
        sheet: What it shows; text is escaped, pictures are embedded as JPEG of at most 320 pixels a side.

    Raises:
        OSError: The file cannot be written.
    """
    path.write_text(page(sheet), "utf-8")


def page(sheet: Sheet) -> str:
    """The page as text; see :func:`write_page`."""
    pictures = _Pictures()
    sections = [_section(each, pictures) for each in sheet.sections]
    title = ": ".join(
        [sheet.title, *(texts.one_line(each.title, _LONGEST_TITLE) for each in sheet.sections[:1])]
    )
    return render("sheet.html", title=title, sheet=sheet, sections=sections)


def thumbnail(path: Path, side: int = THUMBNAIL_SIDE) -> str | None:
    """A picture as a data URI: JPEG, at most ``side`` pixels wide and high; None where it cannot be read."""
    from vecbridge.sources.pictures import open_picture

    try:
        image = open_picture(path).image
    except (InvalidRecordError, MissingDependencyError):
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class _Pictures:
    """Thumbnails, up to what a page should hold."""

    def __init__(self) -> None:
        self._left = _MAX_PICTURES

    def source(self, path: Path | None) -> str | None:
        """A picture as a data URI; None where there is none to show."""
        if path is None or self._left == 0:
            return None
        source = thumbnail(path)
        self._left -= source is not None
        return source


def _section(section: Section, pictures: _Pictures) -> dict[str, Any]:
    """A search, as the template shows it."""
    return {
        "source": pictures.source(section.picture),
        "title": section.title if section.picture else texts.one_line(section.title, _LONGEST_TEXT),
        "named": section.picture is not None,
        "condition": section.condition,
        "tiles": [_tile(rank, each, pictures) for rank, each in enumerate(section.tiles, 1)],
    }


def _tile(rank: int, tile: Tile, pictures: _Pictures) -> dict[str, Any]:
    """A hit, as the template shows it. File names are whole, and titles are cut."""
    named = tile.caption in (tile.id, Path(tile.id).name)
    return {
        "rank": rank,
        "score": f"{tile.score:.3f}",
        "source": pictures.source(tile.picture),
        "text": NO_PICTURE if tile.text is None else texts.one_line(tile.text, _LONGEST_TEXT),
        "caption": tile.caption if named else texts.one_line(tile.caption, _LONGEST_TEXT),
        "named": named,
        "id": "" if tile.id == tile.caption else tile.id,
        "fields": list(_fields(tile)),
        "paths": PATH_FIELDS,
    }


def _fields(tile: Tile) -> Iterator[tuple[str, str]]:
    for name, value in tile.values:
        text = _text(value)
        if text and text not in (tile.caption, tile.text):
            yield name, text if name in PATH_FIELDS else texts.one_line(text, _LONGEST_TEXT)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, datetime):
        return timestamps.readable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
