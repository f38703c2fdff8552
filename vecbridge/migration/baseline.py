"""What a sync takes for granted at the target: the rows of the last state, or of a scan of the target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import JournalError
from vecbridge.migration.ledger import ENTRY, UNSETTLED, Entries, Keys, Ledger, storage_errors
from vecbridge.migration.statefile import StateHeader, mapped, unsettled, write_sorted

Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

_CHUNK: Final = 1 << 18  # entries


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Entries sorted by key, each key once; mapped from a file.

    Attributes:
        entries: The digest of one is UNSETTLED where an earlier run may or may not have sent its row.
    """

    entries: Entries

    def __len__(self) -> int:
        return len(self.entries)

    def known(self, keys: Keys) -> Mask:
        """Which of these keys it has."""
        return self._digests(keys)[1]

    def look_up(self, entries: Entries) -> tuple[Mask, Mask]:
        """Which of these rows it has, and which of them with the same digest."""
        digests, known = self._digests(entries["key"])
        return known, known & (digests == entries["digest"]) & (digests != UNSETTLED)

    def unsettled(self, keys: Keys) -> Mask:
        """Of which of these keys an earlier run may or may not have sent the row."""
        digests, known = self._digests(keys)
        open_ones: Mask = known & (digests == UNSETTLED)
        return open_ones

    def parts(self) -> Iterator[Keys]:
        """All its keys, some at a time."""
        for start in range(0, len(self.entries), _CHUNK):
            yield np.array(self.entries["key"][start : start + _CHUNK])

    def _digests(self, keys: Keys) -> tuple[Keys, Mask]:
        if not len(self.entries):
            return np.zeros(len(keys), np.uint64), np.zeros(len(keys), np.bool_)
        places = np.searchsorted(self.entries["key"], keys)
        found = self.entries[np.minimum(places, len(self.entries) - 1)]
        known: Mask = found["key"] == keys
        return found["digest"], known


def sorted_entries(ledger: Ledger, path: Path) -> Entries:
    """The latest entry of each key of a ledger, sorted, in a file; memory is one bucket."""
    with storage_errors(path), path.open("wb") as file:
        rows = write_sorted(file, ledger, b"")
    return mapped(path, 0, rows)


def with_unsettled(entries: Entries, touched: Iterable[Keys], directory: Path) -> Entries:
    """Entries of which some are marked as unsettled, those that are not among them included."""
    ledger = Ledger(directory / "merged")
    for start in range(0, len(entries), _CHUNK):
        ledger.add(np.array(entries[start : start + _CHUNK]))
    for keys in touched:
        ledger.add(unsettled(of_keys(keys)))
    return sorted_entries(ledger, directory / "baseline")


def of_keys(keys: Keys) -> Entries:
    """Unsettled entries of some keys."""
    entries = np.zeros(len(keys), ENTRY)
    entries["key"] = keys
    return entries


class SyncJournal(Closing):
    """The keys of the rows that a sync sends or deletes, on the disk before it does.

    A run that is cut off leaves rows at the target of which its state knows nothing. The next run finds their
    keys here and takes nothing for granted about them: it sends them again, or deletes them if they have
    vanished. The first line says which migration it is, each further line has the keys of a page::

        {"vecbridge_state": 1, …}
        9f86d081884c7d65a3f1…

    When the new state is in its place, the file is emptied. It stays, because it is the lock as well.

    Args:
        path: The file.
        header: Which migration this is; without a state, the hash key of a journal that is there counts.

    Attributes:
        header: With the hash key that counts.

    Raises:
        JournalError: Another migration's, or another run has it open.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: Path, header: StateHeader, *, has_state: bool) -> None:
        self._path = path
        self._file = AppendFile(path, JournalError)
        self._begun = False
        try:
            first = next(self._file.lines(), None)
            self.header = header
            if first is None:
                return
            existing = StateHeader.from_bytes(first, path)
            existing.require_same(header, path)
            if has_state and existing.key != header.key:
                raise JournalError(f"{path} belongs to an earlier state: remove it")
            self.header, self._begun = existing, True
        except BaseException:
            self.close()
            raise

    def touched(self) -> Iterator[Keys]:
        """The keys that an earlier run recorded."""
        for number, line in enumerate(self._file.lines(), start=1):
            if number == 1:
                continue
            try:
                yield np.frombuffer(bytes.fromhex(line.decode()), "<u8")
            except ValueError:
                raise JournalError(f"{self._path}: line {number} is damaged") from None

    def record(self, keys: Keys) -> None:
        """Adds keys; they are on the disk when this returns."""
        line = keys.astype("<u8").tobytes().hex().encode() + b"\n"
        if not self._begun:
            line = self.header.to_bytes() + line
        self._file.append(line)
        self._begun = True

    def clear(self) -> None:
        """Empties it: all that it names is settled."""
        with storage_errors(self._path):
            os.truncate(self._path, 0)

    def close(self) -> None:
        """Gives the lock back."""
        self._file.close()
