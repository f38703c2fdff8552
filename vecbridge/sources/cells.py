"""The cells of CSV sidecars: which type a column has, and rows that are read again from their place."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecbridge.schema import FieldType
from vecbridge.sources.lines import LineReader

_DELIMITERS: Final = (",", ";", "\t")  # spreadsheets of many countries write semicolons
_MAX_ROW_BYTES: Final = 16 * 2**20
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")  # 007 is a code, not a number
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TRUTH: Final = {"true": True, "false": False}
_EXACT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV file.

    Attributes:
        number: Of its first line, counted from 1.
        offset: Where it begins, in bytes.
        cells: Its text.
    """

    number: int
    offset: int
    cells: list[str]


class Table:
    """A CSV file with a line of names, in UTF-8 or, by its byte order mark, UTF-16.

    Commas, semicolons or tabs stand between its cells.

    Args:
        path: The file.
        keys: Names of which one must be a column; they tell the delimiter.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such table.
    """

    def __init__(self, path: str, keys: Sequence[str]) -> None:
        self.path = path
        for delimiter in _DELIMITERS:
            self._delimiter = delimiter
            try:
                first = next(self._rows(0, 1), None)
            except (csv.Error, ValueError) as exc:
                raise ValueError(_plain(exc)) from exc
            if first is None:
                raise ValueError("the file is empty")
            self.names = [name.strip() for name in first.cells]
            key = next((key for key in keys if key in self.names), None)
            if key is not None:
                break
        else:
            raise ValueError(f"its first line has no column {' or '.join(keys)}")
        repeated = next((name for name in self.names if name and self.names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"the column {repeated} comes twice")
        self.key: str = key

    def rows(self) -> Iterator[Row | tuple[int, str]]:
        """The rows below the names; (line, what is wrong) for one that cannot be read."""
        rows = self._rows(0, 1)
        next(rows)
        while True:
            try:
                row = next(rows, None)
            except (csv.Error, ValueError) as exc:
                offset, line = self._begun
                yield line, _plain(exc)
                rows = self._rows(_line_after(self.path, offset), line + 1)
                continue
            if row is None:
                return
            if len(row.cells) != len(self.names):
                yield row.number, f"{len(row.cells)} cells, and {len(self.names)} names in the first line"
            else:
                yield row

    def row(self, offset: int) -> dict[str, str]:
        """The row that begins at an offset, by name; columns without a name are left out.

        Raises:
            ValueError: There is no such row any more.
        """
        try:
            row = next(self._rows(offset, 1), None)
        except csv.Error as exc:
            raise ValueError(_plain(exc)) from exc
        if row is None or len(row.cells) != len(self.names):
            raise ValueError("the row is not there any more")
        return self.named(row)

    def named(self, row: Row) -> dict[str, str]:
        """The cells of a row by the names of their columns."""
        return {name: cell for name, cell in zip(self.names, row.cells, strict=True) if name}

    def _rows(self, offset: int, number: int) -> Iterator[Row]:
        with Path(self.path).open("rb") as file:
            lines = LineReader(file)
            file.seek(offset)
            self._line = number - 1
            # the reader takes the lines of one row and no more, so that the offsets are those of rows
            reader = csv.reader(self._lines(lines, offset), delimiter=self._delimiter, strict=True)
            while True:
                start, line = self._begun = file.tell(), self._line + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if any(cells):
                    yield Row(line, start, cells)

    def _lines(self, reader: LineReader, offset: int) -> Iterator[str]:
        while line := reader.line(_MAX_ROW_BYTES + 1):
            self._line += 1
            if len(line) > _MAX_ROW_BYTES:
                raise ValueError("the line is too long")
            yield reader.utf8(line, first=offset == 0 and self._line == 1).decode()


class CellTypes:
    """The narrowest type of a column of text cells, by looking at every one of them.

    ``int64``, ``float64`` (whole numbers among them exact), ``bool`` (``true`` and ``false``, in any case),
    or ``string``. An empty cell is null. ``007``, ``+1`` and ``nan`` stay text.
    """

    def __init__(self) -> None:
        self._left: set[FieldType] = {"int64", "float64", "bool"}
        self._seen = False

    def add(self, cell: str) -> None:
        """Looks at one cell."""
        text = cell.strip()
        if not text:
            return
        self._seen = True
        self._left = {type for type in self._left if _fits(text, type)}

    @property
    def empty(self) -> bool:
        """Whether every cell so far was empty."""
        return not self._seen

    @property
    def type(self) -> FieldType:
        """The narrowest type for all cells so far."""
        if self.empty:
            return "string"
        order: tuple[FieldType, ...] = ("int64", "float64", "bool")
        return next((type for type in order if type in self._left), "string")


def value(cell: str, type: FieldType) -> Any:
    """A cell as a JSON value of a type; the text itself where it does not fit."""
    text = cell.strip()
    if not text:
        return None
    if type == "string" or not _fits(text, type):
        return cell
    if type == "bool":
        return _TRUTH[text.lower()]
    return int(text) if type == "int64" else float(text)


def _fits(text: str, type: FieldType) -> bool:
    if type == "bool":
        return text.lower() in _TRUTH
    if type == "int64":
        return _INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63
    if type != "float64" or _FLOAT.fullmatch(text) is None:
        return False
    digits = text.removeprefix("-")
    if digits.isdigit():
        return len(digits) <= 16 and int(digits) <= _EXACT
    return math.isfinite(float(text))


def _line_after(path: str, offset: int) -> int:
    with Path(path).open("rb") as file:
        reader = LineReader(file)
        file.seek(offset)
        while line := reader.line(_MAX_ROW_BYTES):
            if reader.ends(line):
                break
        return file.tell()


def _plain(exc: Exception) -> str:
    text = str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return "it is not UTF-8, nor UTF-16 with its mark"
    if "unexpected end of data" in text:
        return "a quotation mark is not closed"
    if "new-line character" in text:
        return "its lines end with a carriage return alone"
    if "field larger" in text:
        return f"a cell is longer than {csv.field_size_limit():,} characters"
    if "expected after" in text:
        return "text follows a closing quotation mark"
    return text
