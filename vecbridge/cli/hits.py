"""Formats hits as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from vecbridge import timestamps
from vecbridge.apps.contact_sheet import FILE_FIELDS
from vecbridge.cli import output
from vecbridge.query import Hit

_GAP: Final = 2
_NARROWEST: Final = 4
_WIDEST: Final = 40
# Fields by which collections that `vecbridge index` made are known, and of these what no list of hits needs.
_OF_FILES: Final = {"format", "bytes", "modified"}
_NOT_LISTED: Final = ("bytes", "sha256")


def hits_table(
    hits: Sequence[Hit], fields: Sequence[str], *, width: int, all_fields: bool
) -> tuple[Table, list[str]]:
    """The hits, best first.

    Args:
        hits: At least one.
        fields: Names of the fields of their records, in order.
        width: Columns of the terminal.
        all_fields: Show every field whole, and fold long values; otherwise only fields that have a value and
            fit, times as dates, and neither the size nor the digest of a file.

    Returns:
        The table, and the fields that have values but did not fit.
    """
    values = {name: [(hit.record or {}).get(name) for hit in hits] for name in fields}
    of_files = not all_fields and _OF_FILES.issubset(fields)
    cells = {name: list(map(output.cell if all_fields else _short_cell, values[name])) for name in fields}
    wanted = list(fields)
    if of_files:
        cells["modified"] = list(map(_modified, values["modified"]))
    if not all_fields:
        dropped = _NOT_LISTED if of_files else ()
        wanted = sorted((name for name in fields if any(cells[name]) and name not in dropped), key=_rank)
    ids = [output.cell(hit.id) for hit in hits]
    scores = [f"{hit.score:.4f}" for hit in hits]
    widest = max(_WIDEST, width // 4)
    taken_width = (
        len(str(len(hits)))
        + max(map(len, scores))
        + 2 * _GAP
        + min(_column_width("id", ids, widest), width // 2)
    )
    shown = wanted if all_fields else _fitting(wanted, cells, width - taken_width, widest)
    numeric = [name for name in shown if _is_numeric(values[name]) and not (of_files and name == "modified")]
    table = _empty_table(shown, numeric, fold=all_fields)
    for row, key in enumerate(ids):
        line = [cells[name][row] for name in shown]
        texts = line if all_fields else [_short(value, widest) for value in line]
        table.add_row(str(row + 1), scores[row], Text(key), *map(Text, texts))
    return table, [name for name in wanted if name not in shown]


def _fitting(names: Sequence[str], cells: Mapping[str, Sequence[str]], room: int, widest: int) -> list[str]:
    """The fields that fit into ``room`` columns; earlier ones are preferred."""
    chosen = []
    for name in names:
        needed = _column_width(name, cells[name], widest) + _GAP
        if needed <= room:
            chosen.append(name)
            room -= needed
    return chosen


def _empty_table(names: Sequence[str], numbers: Sequence[str], *, fold: bool) -> Table:
    """A table without rows. Ids are never cut; other values are cut to one line unless ``fold``."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("id", overflow="fold")
    for name in names:
        justify: Any = "right" if name in numbers else "left"
        table.add_column(name, justify=justify, overflow="fold" if fold else "ellipsis", no_wrap=not fold)
    return table


def _short_cell(value: Any) -> str:
    """A value as text; of a time, the date in UTC."""
    return f"{timestamps.utc(value):%Y-%m-%d}" if isinstance(value, datetime) else output.cell(value)


def _modified(value: Any) -> str:
    """When a file was modified. Collections of before it was a timestamp have seconds since 1970."""
    if isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError, OSError):  # years that the calendar does not have
            value = datetime.fromtimestamp(value, UTC)
    return _short_cell(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
    )


def _column_width(name: str, values: Sequence[str], widest: int) -> int:
    return min(max(_NARROWEST, cell_len(name), *map(cell_len, values)), widest)


def _short(text: str, limit: int) -> str:
    return text if cell_len(text) <= limit else set_cell_size(text, limit - 1).rstrip() + "…"


def _rank(name: str) -> int:
    """Sorts fields that people wrote before those that describe the file."""
    return FILE_FIELDS.index(name) + 1 if name in FILE_FIELDS else 0
