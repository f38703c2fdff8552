"""A contact sheet as one HTML page, with everything inside: no script, no file beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from vecbridge import timestamps
from vecbridge.apps.contact_sheet import NO_PICTURE, Section, Sheet, Tile
from vecbridge.errors import InvalidRecordError, MissingDependencyError

THUMBNAIL_SIDE: Final = 320
_QUALITY: Final = 82
_MAX_PICTURES: Final = 200  # some 4 MB of page; what comes after is named, and not shown
_LONGEST_VALUE: Final = 200

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #fff; --ink: #1c2026; --grey: #646c77;
  --line: #dfe3e8; --accent: #2463aa; --soft: #e8f0fa; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1e2228; --ink: #e8eaed;
  --grey: #9aa3ae; --line: #313740; --accent: #82b4f0; --soft: #22303f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 24px; margin: 0 0 8px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0; color: var(--grey); font-size: 13px; }
.facts div { display: flex; gap: 6px; min-width: 0; }
.facts dt::after { content: ":"; }
.facts dd { margin: 0; color: var(--ink); overflow-wrap: anywhere; }
section { margin-top: 28px; padding-top: 20px; border-top: 1px solid var(--line); }
.ask { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 14px; margin-bottom: 14px; }
.ask img { width: 72px; height: 72px; object-fit: contain; border-radius: 10px; background: #fff; }
h2 { font-size: 20px; margin: 0; overflow-wrap: anywhere; }
.ask code { background: var(--soft); color: var(--accent); padding: 3px 9px; border-radius: 7px;
  font-size: 13px; overflow-wrap: anywhere; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 14px; overflow: hidden;
  min-width: 0; }
figure { margin: 0; }
.picture { aspect-ratio: 1; background: #fff; display: grid; place-items: center; padding: 10px; }
.picture img { width: 100%; height: 100%; object-fit: contain; min-height: 0; }
.none { background: var(--soft); color: var(--grey); font-size: 14px; overflow-wrap: anywhere; }
figcaption { padding: 10px 14px 14px; border-top: 1px solid var(--line); }
.line { display: flex; justify-content: space-between; gap: 10px; align-items: baseline; }
.line b { overflow-wrap: anywhere; }
.line span { color: var(--grey); font-variant-numeric: tabular-nums; }
.id { color: var(--grey); font-size: 12px; overflow-wrap: anywhere; }
.values { margin: 8px 0 0; font-size: 12.5px; display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; }
.values dt { color: var(--grey); }
.values dd { margin: 0; overflow-wrap: anywhere; }
footer, .empty { color: var(--grey); font-size: 13px; }
footer { margin-top: 32px; }
@media (max-width: 520px) { main { padding: 18px 14px 32px; }
  ol { grid-template-columns: repeat(2, 1fr); gap: 10px; } .values { display: none; } }
""".strip()


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
    body = "\n".join(_section(each, pictures) for each in sheet.sections)
    facts = _definitions("facts", sheet.facts, wrap=True)
    footer = f"<footer>{escape(sheet.footer)}</footer>" if sheet.footer else ""
    title = escape(": ".join([sheet.title, *(each.title for each in sheet.sections[:1])]))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>\n<h1>{escape(sheet.title)}</h1>\n{facts}\n"
        f"{body}\n{footer}\n</main>\n</body>\n</html>\n"
    )


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

    def tag(self, path: Path | None, alt: str) -> str | None:
        if path is None or self._left == 0:
            return None
        source = thumbnail(path)
        if source is None:
            return None
        self._left -= 1
        return f'<img src="{source}" alt="{escape(alt)}" loading="lazy">'


def _section(section: Section, pictures: _Pictures) -> str:
    asked = pictures.tag(section.picture, section.title) or ""
    condition = f"<code>{escape(section.condition)}</code>" if section.condition else ""
    tiles = "\n".join(_tile(number, each, pictures) for number, each in enumerate(section.tiles, 1))
    found = f"<ol>\n{tiles}\n</ol>" if section.tiles else '<p class="empty">Nothing was found.</p>'
    heading = f'<div class="ask">{asked}<h2>{escape(section.title)}</h2>{condition}</div>'
    return f"<section>\n{heading}\n{found}\n</section>"


def _tile(number: int, tile: Tile, pictures: _Pictures) -> str:
    image = pictures.tag(tile.picture, tile.caption)
    instead = f'<div class="picture none"><span>{escape(_cut(tile.text) or NO_PICTURE)}</span></div>'
    shown = f'<div class="picture">{image}</div>' if image else instead
    key = "" if tile.id == tile.caption else f'<div class="id">{escape(tile.id)}</div>'
    values = _definitions("values", _texts(tile))
    return (
        f'<li><figure>{shown}<figcaption><div class="line"><b>{escape(tile.caption)}</b>'
        f'<span title="rank {number}">{tile.score:.3f}</span></div>{key}{values}</figcaption></figure></li>'
    )


def _texts(tile: Tile) -> Iterator[tuple[str, str]]:
    for name, value in tile.values:
        text = _text(value)
        if text and text not in (tile.caption, tile.text):
            yield name, _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, datetime):
        return timestamps.readable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _definitions(kind: str, pairs: Iterable[tuple[str, str]], *, wrap: bool = False) -> str:
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs]
    if wrap:
        lines = [f"<div>{line}</div>" for line in lines]
    return f'<dl class="{kind}">{"".join(lines)}</dl>' if lines else ""
