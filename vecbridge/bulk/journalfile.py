"""The file of a journal: a line that says which run it belongs to, and entries that are only ever added."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import JournalError

FORMAT: Final = "vecbridge_journal"
FINISHED: Final = {"finished": True}


class JournalFile(Closing, ABC):
    """The file of a journal that this process, and no other, is writing.

    Args:
        path: The file; it starts a run where there is none, and continues it where there is one.
        header: Which run that is, as its first line has it.

    Attributes:
        continues: Whether there was a run to continue.
        was_finished: Whether that run had come to the end of the source.

    Raises:
        JournalError: Another run's, a damaged one, no journal at all, or in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        self._file = AppendFile(path, JournalError)
        self.continues = True
        self.was_finished = False
        self._is_complete = False
        try:
            self._start(json_line(header))
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self._file.path)

    @abstractmethod
    def take(self, values: dict[str, Any]) -> None:
        """Takes in an entry that an earlier run has made.

        Raises:
            TypeError: It is damaged.
        """
        ...

    def append(self, line: bytes) -> None:
        """Adds an entry; it is on the disk when this returns.

        Raises:
            ConfigError: The journal was opened by the process that this one was forked from.
            StorageFullError: The disk is full.
            JournalError: The line cannot be written.
        """
        self._file.append(line)
        self._is_complete = False

    def complete(self) -> None:
        """Adds the entry that says that the source has ended, unless it is the last one already.

        Raises:
            StorageFullError: The disk is full.
            JournalError: The line cannot be written.
        """
        if not self._is_complete:
            self._file.append(json_line(FINISHED))
            self._is_complete = True

    def discard(self) -> None:
        """Removes the journal of a run that has left nothing behind, unless an earlier part of it has."""
        if not self.continues and self._file.held:
            with suppress(OSError):
                self._file.path.unlink()
        self.close()

    def close(self) -> None:
        """Gives the lock back."""
        self._file.close()

    def _start(self, header: bytes) -> None:
        lines = self._file.lines()
        first = next(lines, None)
        if first is None:
            if not header.startswith(self._file.torn[: len(FORMAT) + 2]):
                raise JournalError(f"{self.path} is no journal")
            self._file.append(header)
            self.continues = False
            return
        self._require_same_run(first, header)
        for number, line in enumerate(lines, start=2):
            values = self._values(line, number)
            self._is_complete = values == FINISHED
            self.was_finished |= self._is_complete
            if not self._is_complete:
                try:
                    self.take(values)
                except TypeError as exc:
                    raise JournalError(f"{self.path}: line {number} is damaged") from exc

    def _require_same_run(self, first: bytes, header: bytes) -> None:
        theirs, ours = self._values(first, 1), json.loads(header)
        if FORMAT not in theirs:
            raise JournalError(f"{self.path} is no journal")
        if theirs[FORMAT] != ours[FORMAT]:
            raise JournalError(f"{self.path}: {_other_format(theirs[FORMAT], ours[FORMAT])}")
        if isinstance(theirs.get("spec"), dict):
            theirs["spec"], ours["spec"] = _comparable(theirs["spec"], ours["spec"])
        identity = theirs.setdefault("identity", ours["identity"])  # journals did not have it once
        different = [key for key in ours if key != "identity" and theirs.get(key) != ours[key]]
        if different:
            shown = "; ".join(f"{key} {theirs.get(key)!r}, not {ours[key]!r}" for key in different)
            raise JournalError(f"{self.path} belongs to another run: it has {shown}")
        if identity != ours["identity"]:
            name = ours["target"]["collection"]
            raise JournalError(
                f"{self.path}: the collection {name!r} was dropped and made anew: write with a new journal"
            )

    def _values(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError as exc:
            raise JournalError(f"{self.path}: line {number} is damaged: {exc}") from exc
        if not isinstance(values, dict):
            raise JournalError(f"{self.path}: line {number} is damaged")
        return values


def _other_format(theirs: Any, ours: int) -> str:
    if (theirs, ours) == (1, 2):
        return (
            "it notes batches of records, as vecbridge index did once and load does, and not files: "
            "name another journal; what is written already is replaced by the same"
        )
    return f"its format is {FORMAT} {theirs}, not {ours}: name another journal"


def _comparable(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two specs with the fields that both have: fields may be added between the parts of a run."""

    def only(spec: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
        shared = [field for field in spec.get("fields", []) if field["name"] in names]
        return {**spec, "fields": sorted(shared, key=lambda field: str(field["name"]))}

    both = {each["name"] for each in theirs.get("fields", [])} & {
        each["name"] for each in ours.get("fields", [])
    }
    return only(theirs, both), only(ours, both)


def json_line(values: Mapping[str, Any]) -> bytes:
    """An entry of a journal."""
    return (json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
