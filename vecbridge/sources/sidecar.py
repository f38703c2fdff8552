"""Fields that stand beside the pictures, in ``metadata.jsonl`` or ``gallery.jsonl``.

The layout is that of Hugging Face's ImageFolder: one JSON object a line, whose ``file_name`` is a path
relative to the sidecar. https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecbridge.schema import FieldType
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.inference import Observed, field_name
from vecbridge.sources.lines import Line, parse_object, read_line, read_lines

SIDECAR_NAMES: Final = frozenset({"metadata.jsonl", "gallery.jsonl"})
FILE_KEYS: Final = ("file_name", "file", "path", "image")


@dataclass(frozen=True, slots=True)
class _Place:
    sidecar: str
    number: int
    offset: int


class Sidecars:
    """The fields that sidecars add, by picture.

    A first pass over all lines finds the types, as :class:`~vecbridge.sources.inference.Observed` tells them.
    The lines themselves stay on disk; an offset a picture is held.

    Args:
        reserved: Field names that the pictures have already; a sidecar's ``width`` becomes ``width_2``.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.fields: dict[str, FieldType] = {}
        self.problems: list[DeadLetter] = []
        self._reserved = list(reserved)
        self._names: dict[str, str] = {}
        self._observed: dict[str, Observed] = {}
        self._places: dict[str, _Place] = {}

    def read(self, path: str, prefix: str) -> None:
        """Takes in one sidecar.

        Args:
            path: Its path.
            prefix: The folder it stands in, relative to the root: ``""``, or ``"a/b/"``.
        """
        try:
            for line in read_lines(path):
                self._take(path, prefix, line)
        except OSError as exc:
            self.problems.append(DeadLetter(None, path, f"the sidecar cannot be read: {exc.strerror}"))
        self.fields = {self._names[key]: seen.type for key, seen in self._observed.items()}

    def metadata(self, relative: str) -> dict[str, Any]:
        """The fields of one picture as JSON values; empty where it has none."""
        place = self._places.get(relative)
        if place is None:
            return {}
        values = parse_object(read_line(place.sidecar, place.offset))
        values.pop(_file_key(values))
        return {self._names[key]: value for key, value in values.items() if key in self._names}

    def unused(self, seen: set[str]) -> Iterator[DeadLetter]:
        """A dead letter for each line whose picture never came by."""
        for relative, place in self._places.items():
            if relative not in seen:
                yield DeadLetter(
                    relative, f"{place.sidecar}:{place.number}", "the file that it names is not there"
                )

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
            first = self._places[relative]
            error = f"{relative} stands in {first.sidecar}:{first.number} already"
            self.problems.append(DeadLetter(relative, origin, error, values))
            return
        self._places[relative] = _Place(path, line.number, line.offset)
        for name, value in values.items():
            if name not in self._names:
                self._names[name] = field_name(name, [*self._reserved, *self._names.values()])
                self._observed[name] = Observed()
            self._observed[name].add(value)


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
