"""The dead-letter file of a bulk write: the rows that were not written, and why.

``vecbridge load`` reads it, once the rows are mended.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import timestamps
from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import ConfigError
from vecbridge.records import canonical_json
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter

_KEYS: Final = {"id", "source", "error", "record"}
_BEGINNING: Final = b'{"id": '


class DeadLetterFile(Closing):
    """A dead-letter file that this process, and no other, appends to; its threads may share it.

    Args:
        path: The file; it is created where there is none, and removed by ``close()`` if it is empty then.
        continuing: A letter that stands in the file already is not appended again.

    Raises:
        ConfigError: The file cannot be opened, holds something else, or is in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], *, continuing: bool = False) -> None:
        self._is_new = not os.path.lexists(path)
        self._file = AppendFile(path, ConfigError)
        self._mutex = threading.Lock()
        self._known_rows: set[int] = set()
        try:
            self._require_dead_letters()
            self._known = {hash(line) for line in self._file.lines()} if continuing else set()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self._file.path)

    def continue_run(self) -> None:
        """An earlier part of this run was cut off: a row that stands in the file is not appended again.

        A row is told by its id, its source and its values, because the database may word the reason
        differently each time.
        """
        self._known_rows = {_row_of(json.loads(line)) for line in self._file.lines() if _is_dead_letter(line)}

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Appends dead letters; they are on the disk when this returns.

        Raises:
            StorageFullError: The disk is full.
            ConfigError: They cannot be written, or the file was opened by the process that this one was
                forked from.
        """
        fresh = [line.encode() + b"\n" for letter in letters if self._is_fresh(line := letter.to_json())]
        if fresh:
            with self._mutex:
                self._file.append(b"".join(fresh))

    def close(self) -> None:
        """Gives the lock back; removes the file if this object made it and nothing was appended."""
        with suppress(OSError):  # while it is locked: nobody else can have begun to write there
            if self._is_new and self._file.held and not self._file.path.stat().st_size:
                self._file.path.unlink()
        self._file.close()

    def _is_fresh(self, line: str) -> bool:
        if hash(line.encode()) in self._known:
            return False
        return not self._known_rows or _row_of(json.loads(line)) not in self._known_rows

    def _require_dead_letters(self) -> None:
        """Refuses other files, since appending removes a torn last line."""
        torn = self._file.torn
        first = next(self._file.lines(), None)
        is_dead_letter = (
            _is_dead_letter(first) if first is not None else _BEGINNING.startswith(torn[: len(_BEGINNING)])
        )
        if not is_dead_letter:
            raise ConfigError(f"{self._file.path} holds something other than dead letters: name another file")
        if _is_dead_letter(torn):  # an editor left out the newline at the end of the file
            self._file.append(torn + b"\n")


def row_values(batch: pa.RecordBatch, row: int, spec: CollectionSpec) -> dict[str, Any]:
    """One row as JSON values, without loss: what :attr:`DeadLetter.record` holds.

    Vectors are lists of numbers: float32 survives the way through JSON. Timestamps are ISO 8601 text. A json
    column holds its value, or its text where that is no JSON; it is left out where the column is null, since
    null is a JSON value.
    """
    [record] = batch.slice(row, 1).to_pylist()
    values = json_values(record)
    for field in spec.fields:
        if field.type != "json" or field.name not in values:
            continue
        if values[field.name] is None:
            del values[field.name]
        else:
            values[field.name] = _json_value(values[field.name])
    return values


def json_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of Python values as JSON values: NumPy arrays as lists, timestamps as text."""
    return {name: _json_ready(value) for name, value in record.items()}


def _json_ready(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else timestamps.text(value.astimezone(UTC))
    return value


def _json_value(text: Any) -> Any:
    try:
        return json.loads(canonical_json(text))
    except (TypeError, ValueError, RecursionError):
        return text


def _is_dead_letter(line: bytes) -> bool:
    try:
        values = json.loads(line)
    except ValueError:
        return False
    return isinstance(values, dict) and values.keys() == _KEYS


def _row_of(letter: Mapping[str, Any]) -> int:
    """A number for the row that a dead letter is of; for the letter where neither id nor place tells."""
    what = {**letter, "error": None} if letter["id"] is not None else letter
    return hash(json.dumps(what, sort_keys=True))
