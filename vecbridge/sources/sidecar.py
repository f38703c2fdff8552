"""Fields that stand beside the pictures, in ``metadata.jsonl``, ``metadata.csv`` or ``gallery.jsonl``.

The layout is that of Hugging Face's ImageFolder: one JSON object a line, or a row of CSV, whose ``file_name``
is a path relative to the sidecar. https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecbridge.schema import FieldType
from vecbridge.sources.cells import CellTypes, Row, Table, value
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.inference import Observed, common_type, field_name
from vecbridge.sources.lines import Line, parse_object, read_line, read_lines

SIDECAR_NAMES: Final = frozenset({"metadata.jsonl", "metadata.csv", "gallery.jsonl"})
FILE_KEYS: Final = ("file_name", "file", "path", "image")


@dataclass(frozen=True, slots=True)
class _Place:
    sidecar: str
    number: int
    offset: int
    table: Table | None = None

    def __str__(self) -> str:
        return f"{self.sidecar}:{self.number}"


@dataclass(slots=True)
class _Conflict:
    relative: str
    first: _Place
    second: _Place
    pictures: int = 0


class Sidecars:
    """The fields that sidecars add, by picture.

    A first pass over all lines finds the types, as :class:`~vecbridge.sources.inference.Observed` and, for
    CSV, :class:`~vecbridge.sources.cells.CellTypes` tell them. The lines themselves stay on disk; an offset a
    picture is held. Where two sidecars name one picture, the one that was read first holds.

    Args:
        reserved: Field names that the pictures have already; a sidecar's ``width`` becomes ``width_2``.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.fields: dict[str, FieldType] = {}
        self.problems: list[DeadLetter] = []
        self._reserved = list(reserved)
        self._names: dict[str, str] = {}
        self._observed: dict[str, Observed] = {}
        self._cells: dict[str, CellTypes] = {}
        self._held: dict[str, FieldType] = {}
        self._places: dict[str, _Place] = {}

    def read(self, path: str, prefix: str) -> None:
        """Takes in one sidecar.

        Args:
            path: Its path.
            prefix: The folder it stands in, relative to the root: ``""``, or ``"a/b/"``.
        """
        try:
            if path.endswith(".csv"):
                self._read_table(Table(path, FILE_KEYS), prefix)
            else:
                for line in read_lines(path):
                    self._take(path, prefix, line)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            self.problems.append(DeadLetter(None, path, f"the sidecar cannot be read: {reason}"))
        self.fields = {field: self._type(key) for key, field in self._names.items()}

    def hold(self, types: Mapping[str, FieldType]) -> None:
        """The cells of CSV, which are all text, are read as these types, such as a collection's."""
        self._held = dict(types)

    @property
    def empty(self) -> frozenset[str]:
        """Fields for which no line of any sidecar has a value."""
        return frozenset(
            field
            for key, field in self._names.items()
            if all(each.empty for each in (self._observed.get(key), self._cells.get(key)) if each is not None)
        )

    def metadata(self, relative: str) -> dict[str, Any]:
        """The fields of one picture as JSON values; empty where it has none."""
        place = self._places.get(relative)
        if place is None:
            return {}
        if place.table is not None:
            return self._typed(place.table, place.table.row(place.offset))
        values = parse_object(read_line(place.sidecar, place.offset))
        values.pop(_file_key(values))
        return {self._names[key]: value for key, value in values.items() if key in self._names}

    def unused(self, seen: set[str]) -> Iterator[DeadLetter]:
        """A dead letter for each line whose picture never came by."""
        for relative, place in self._places.items():
            if relative not in seen:
                yield DeadLetter(relative, str(place), "the file that it names is not there")

    def __contains__(self, relative: object) -> bool:
        return relative in self._places

    def _take(self, path: str, prefix: str, line: Line) -> None:
        origin = f"{path}:{line.number}"
        try:
            if line.data is None:
                raise ValueError("the line is too long")
            values = parse_object(line.data)
            key = _file_key(values)
            relative = posixpath.normpath(prefix + values.pop(key))
        except ValueError as exc:
            self.problems.append(DeadLetter(None, origin, f"not a line of a sidecar: {exc}"))
            return
        if relative in self._places:
            error = f"{relative} stands in {self._places[relative]} already"
            self.problems.append(DeadLetter(relative, origin, error, values))
            return
        self._places[relative] = _Place(path, line.number, line.offset)
        for name, found in values.items():
            self._name(name)
            self._observed.setdefault(name, Observed()).add(found)

    def _read_table(self, table: Table, prefix: str) -> None:
        for name in table.names:
            if name and name != table.key:
                self._name(name)
                self._cells.setdefault(name, CellTypes())
        conflicts: dict[str, _Conflict] = {}
        for row in table.rows():
            if isinstance(row, Row):
                self._take_row(table, prefix, row, conflicts)
            else:
                origin, error = f"{table.path}:{row[0]}", f"not a row of a sidecar: {row[1]}"
                self.problems.append(DeadLetter(None, origin, error))
        for sidecar, conflict in conflicts.items():
            error = (
                f"{sidecar} says otherwise about {conflict.pictures} of its pictures, and holds for them: "
                f"the first is {conflict.relative}, {conflict.first} and {conflict.second}"
            )
            self.problems.append(DeadLetter(None, table.path, error))

    def _take_row(self, table: Table, prefix: str, row: Row, conflicts: dict[str, _Conflict]) -> None:
        cells = table.named(row)
        place = _Place(table.path, row.number, row.offset, table)
        file = cells.pop(table.key).strip()
        if not file:
            self.problems.append(DeadLetter(None, str(place), f"not a row of a sidecar: no {table.key}"))
            return
        relative = posixpath.normpath(prefix + file)
        first = self._places.get(relative)
        if first is None:
            self._places[relative] = place
            for name, cell in cells.items():
                self._cells[name].add(cell)
        elif first.table is not None:
            error = f"{relative} stands in {first} already"
            self.problems.append(DeadLetter(relative, str(place), error, dict(cells)))
        elif not _agree(parse_object(read_line(first.sidecar, first.offset)), cells):
            conflict = conflicts.setdefault(first.sidecar, _Conflict(relative, first, place))
            conflict.pictures += 1

    def _name(self, name: str) -> None:
        if name not in self._names:
            self._names[name] = field_name(name, [*self._reserved, *self._names.values()])

    def _type(self, name: str) -> FieldType:
        json, cells = self._observed.get(name), self._cells.get(name)
        if json is None or cells is None:
            return cells.type if cells is not None else json.type if json is not None else "string"
        return common_type({json.type, cells.type})

    def _typed(self, table: Table, cells: dict[str, str]) -> dict[str, Any]:
        cells.pop(table.key)
        values = {}
        for name, cell in cells.items():
            held = self._held.get(self._names[name])
            kept = held if held in ("string", "int64", "float64", "bool") else self._cells[name].type
            values[self._names[name]] = value(cell, kept)
        return values


def _agree(values: Mapping[str, Any], cells: Mapping[str, str]) -> bool:
    """Whether JSON says what the cells of a row say; an empty cell says nothing."""
    for name, cell in cells.items():
        types = CellTypes()
        types.add(cell)
        if cell.strip() and values.get(name) not in (cell, value(cell, types.type)):
            return False
    return True


def _file_key(values: dict[str, Any]) -> str:
    for key in FILE_KEYS:
        if isinstance(values.get(key), str):
            return key
    raise ValueError(f"no {' or '.join(FILE_KEYS)}")


def sidecar_prefix(relative: str) -> str:
    """The folder of a sidecar as :meth:`Sidecars.read` takes it."""
    folder = posixpath.dirname(relative)
    return f"{folder}/" if folder else ""


def is_sidecar(path: str) -> bool:
    """Whether a file is a sidecar, by its name."""
    return Path(path).name in SIDECAR_NAMES
