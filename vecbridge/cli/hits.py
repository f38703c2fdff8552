"""Hits as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from vecbridge.cli import output
from vecbridge.query import Hit

_GAP: Final = 2
_NARROWEST: Final = 8
_WIDEST: Final = 40
# What a folder of pictures says about its files: shown when there is room after the fields that people wrote.
_LAST: Final = ("width", "height", "format", "bytes", "modified", "line", "path")


def hits_table(
    hits: Sequence[Hit], fields: Sequence[str], *, width: int, all_fields: bool
) -> tuple[Table, list[str]]:
    """The hits, best first.

    Args:
        hits: At least one.
        fields: What their records hold, in order.
        width: Columns of the terminal.
        all_fields: Show every field, folded as need be; otherwise those that have a value and fit.

    Returns:
        The table, and the fields that it leaves out although they have values.
    """
    cells = {name: [output.cell((hit.record or {}).get(name)) for hit in hits] for name in fields}
    wanted = list(fields) if all_fields else sorted((name for name in fields if any(cells[name])), key=_rank)
    ids = [output.cell(hit.id) for hit in hits]
    scores = [f"{hit.score:.4f}" for hit in hits]
    spare = (
        width
        - len(str(len(hits)))
        - max(5, *map(len, scores))
        - 2 * _GAP
        - min(_natural("id", ids), width // 3)
    )
    chosen = []
    for name in wanted:
        need = _natural(name, cells[name]) + _GAP
        if all_fields or need <= spare:
            chosen.append(name)
            spare -= need
    # one row a hit, unless the fields were asked for: then everything is shown, folded
    made = _empty(["id", *chosen], fold=all_fields)
    for row in range(len(hits)):
        made.add_row(
            str(row + 1),
            scores[row],
            *_row(ids[row], [cells[name][row] for name in chosen], all_fields, width),
        )
    return made, [name for name in wanted if name not in chosen]


def _row(key: str, values: Sequence[str], folded: bool, width: int) -> list[Text]:
    limit = width if folded else _WIDEST
    return [Text(key), *(Text(_short(value, limit)) for value in values)]


def _empty(names: Sequence[str], *, fold: bool) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    made.add_column("#", justify="right", no_wrap=True)
    made.add_column("score", justify="right", no_wrap=True)
    for name in names:
        made.add_column(
            name, overflow="fold" if fold or name == "id" else "ellipsis", no_wrap=not fold and name != "id"
        )
    return made


def _natural(name: str, values: Sequence[str]) -> int:
    return min(max(_NARROWEST, cell_len(name), *map(cell_len, values)), _WIDEST)


def _short(text: str, limit: int) -> str:
    return text if cell_len(text) <= limit else text[: limit - 1] + "…"


def _rank(name: str) -> int:
    return _LAST.index(name) + 1 if name in _LAST else 0
