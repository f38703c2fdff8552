"""The state file: what was sent to the target, so that a later sync sends what is different.

    {"vecbridge_state": 1, "key": …, "plan": …, …}      one line of JSON, blanks up to a multiple of 16 bytes
    key, digest                                         16 bytes a row, sorted by key, each key once
    …
    rows, checksum, "vbstate1"                          48 bytes; BLAKE2b of everything before

It is written aside and renamed, so that a reader finds the old one or the new one. While a copy makes one,
the entries stand in the order of their arrival in FILE.partial, which has the same first line. Of entries
with the same key the last one counts.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, Self

import numpy as np

from vecbridge.closing import Closing
from vecbridge.errors import ConfigError, JournalError
from vecbridge.locks import FileLock
from vecbridge.migration.ledger import (
    BUCKETS,
    ENTRY,
    KEY_BYTES,
    UNSETTLED,
    Entries,
    Ledger,
    new_key,
    require_room,
    storage_errors,
)
from vecbridge.migration.plans import Plan
from vecbridge.storage import sync_directory

FORMAT: Final = "vecbridge_state"
VERSION: Final = 1
_MAGIC: Final = b"vbstate1"
_TRAILER: Final = struct.Struct("<Q32s8s")
_LONGEST_HEADER: Final = 64 << 20
_CHUNK: Final = 1 << 20  # bytes, or entries


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class StateHeader:
    """What a state belongs to; no secrets.

    Attributes:
        plan: How rows are converted.
        source_identity: Which collection of its name the source is.
        target_identity: Which collection of its name the target is.
        key: The hash key of all entries, 16 random bytes.
        created: When the state was begun; ISO 8601, UTC.
    """

    plan: Plan
    source_identity: str
    target_identity: str
    key: bytes = field(default_factory=new_key)
    created: str = field(default_factory=_now, compare=False)

    def require_same(self, other: StateHeader, path: Path) -> None:
        """Refuses the state of another migration.

        Args:
            other: What this run does; its hash key does not count.
            path: The file, for the message.

        Raises:
            JournalError: Names what differs, and the way out.
        """
        differences = [
            f"{name} {theirs!r}, not {ours!r}"
            for name, theirs, ours in zip(_BOUND, self._bound(), other._bound(), strict=True)
            if theirs != ours
        ]
        if differences:
            raise JournalError(
                f"{path} belongs to another migration: it has {'; '.join(differences)}: name another file, "
                "or remove it to compare both sides anew"
            )

    def _bound(self) -> tuple[str, ...]:
        plan = self.plan
        return plan.source, plan.target, self.source_identity, self.target_identity, plan.digest()

    def to_bytes(self) -> bytes:
        """The first line of the file."""
        values = {
            FORMAT: VERSION,
            "key": self.key.hex(),
            "source": self.plan.source,
            "target": self.plan.target,
            "source_identity": self.source_identity,
            "target_identity": self.target_identity,
            "created": self.created,
            "plan_digest": self.plan.digest(),
            "plan": self.plan.to_dict(),
        }
        line = json.dumps(values, separators=(",", ":")).encode()
        return line + b" " * (-(len(line) + 1) % ENTRY.itemsize) + b"\n"

    @classmethod
    def from_bytes(cls, line: bytes, path: Path) -> Self:
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            JournalError: No state, a damaged one, or one of a newer vecbridge.
        """
        try:
            values = json.loads(line)
            version = values[FORMAT]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise JournalError(f"{path} is no state file") from None
        if version != VERSION:
            raise JournalError(f"{path}: a state of format {version!r}; this vecbridge reads {VERSION}")
        try:
            plan, key = Plan.from_dict(values["plan"]), bytes.fromhex(values["key"])
            header = cls(plan, values["source_identity"], values["target_identity"], key, values["created"])
        except (ConfigError, KeyError, TypeError, ValueError) as exc:
            raise _damaged(path, str(exc)) from None
        if len(header.key) != KEY_BYTES or plan.digest() != values["plan_digest"]:
            raise _damaged(path, "its plan or its key is not the one that was written")
        return header


_BOUND: Final = ("source", "target", "source identity", "target identity", "plan")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A state file that was read.

    Attributes:
        header: What it belongs to.
        entries: Sorted by key, each key once; mapped from the file, not read into memory.
    """

    header: StateHeader
    entries: Entries

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and checks a state file.

        Raises:
            FileNotFoundError: There is none.
            JournalError: No state file, or a damaged one.
        """
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
            header = StateHeader.from_bytes(line, path)
            size = path.stat().st_size - _TRAILER.size
            if size < len(line):
                raise _damaged(path, "it is cut short")
            checksum = blake2b(line, digest_size=32)
            for start in range(len(line), size, _CHUNK):
                checksum.update(file.read(min(_CHUNK, size - start)))
            rows, expected, magic = _TRAILER.unpack(file.read(_TRAILER.size))
        if magic != _MAGIC or size - len(line) != rows * ENTRY.itemsize:
            raise _damaged(path, "its size is not that of its rows")
        if checksum.digest() != expected:
            raise _damaged(path, "its checksum is wrong")
        return cls(header, mapped(path, len(line), rows))


def _damaged(path: Path, why: str) -> JournalError:
    return JournalError(f"{path} is damaged: {why}: remove it to compare both sides anew")


def mapped(path: Path, offset: int, rows: int) -> Entries:
    """Entries of a file as a read-only array; memory is what is looked at."""
    if not rows:
        return np.empty(0, ENTRY)
    return np.memmap(path, ENTRY, "r", offset, (rows,))


def partial_path(path: Path) -> Path:
    """Where the entries of a state stand while a copy makes it."""
    return path.with_name(path.name + ".partial")


def unsettled(entries: Entries) -> Entries:
    """Entries of rows that may be at the target, whatever they hold there: the next sync sends them."""
    marked = entries.copy()
    marked["digest"] = UNSETTLED
    return marked


def write_state(path: Path, header: StateHeader, ledger: Ledger) -> int:
    """Writes a state file, with the latest entry of each key, and puts it in the place of the old one.

    Returns:
        How many rows it has.

    Raises:
        StorageFullError: The disk is full; the old state is as it was.
    """
    new = path.with_name(path.name + ".new")
    with storage_errors(path):
        with new.open("wb") as file:
            rows = write_sorted(file, ledger, header.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_directory(path.parent)
    return rows


def write_sorted(file: BinaryIO, ledger: Ledger, line: bytes) -> int:
    """Writes first line, sorted entries and trailer; memory is one bucket. Returns the number of rows."""
    checksum, rows = blake2b(line, digest_size=32), 0
    file.write(line)
    for number in range(BUCKETS):
        entries = ledger.latest_bucket(number)
        data = entries.tobytes()
        checksum.update(data)
        file.write(data)
        rows += len(entries)
    file.write(_TRAILER.pack(rows, checksum.digest(), _MAGIC))
    return rows


class StateWriter(Closing):
    """Makes the state file of a copy, which can be cut off at any time; thread-safe.

    A row must be in the state before it can be at the target, or nobody would delete it there if it vanished
    from the source in between: add ``unsettled(entries)`` before a page is sent, and ``entries`` when it
    is acknowledged.

    Args:
        path: The state file; the entries stand in ``FILE.partial`` until :meth:`finish`.
        header: What it belongs to. Where a partial file of the same migration is there, it goes on, with the
            hash key of that time: use :attr:`key`.

    Attributes:
        header: With the hash key that counts.

    Raises:
        JournalError: The partial file belongs to another migration, or another run has it open.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], header: StateHeader) -> None:
        self.path = Path(path)
        self._partial = partial_path(self.path)
        self._lock = FileLock(self._partial)
        self._mutex = threading.Lock()
        with _held(self._lock):
            self.header, self._start = self._open(header)
            size = os.fstat(self._lock.descriptor).st_size - self._start
            self._end = self._start + size // ENTRY.itemsize * ENTRY.itemsize  # what a crash cut short goes

    @property
    def key(self) -> bytes:
        """The hash key of the entries."""
        return self.header.key

    @property
    def position(self) -> int:
        """How many entries it has."""
        return (self._end - self._start) // ENTRY.itemsize

    def add(self, entries: Entries) -> int:
        """Adds entries; they are on the disk when this returns.

        Returns:
            The position behind them.

        Raises:
            StorageFullError: The disk is full.
        """
        with self._mutex, storage_errors(self._partial):
            _write_at(self._lock.descriptor, entries.tobytes(), self._end)
            os.fsync(self._lock.descriptor)
            self._end += entries.nbytes
            return self.position

    def resume(self, position: int) -> None:
        """Has the rows behind a position, of which nobody knows what became, sent again by the next sync.

        Args:
            position: As of :meth:`add`, from the last line of the copy's journal.

        Raises:
            JournalError: The file is shorter than that.
        """
        with self._mutex, storage_errors(self._partial):
            if position > self.position:
                raise JournalError(
                    f"{self._partial} has {self.position:,} rows; the journal of the copy counts {position:,}"
                )
            descriptor = self._lock.descriptor
            for place in range(self._start + position * ENTRY.itemsize, self._end, _CHUNK):
                data = os.pread(descriptor, min(_CHUNK, self._end - place), place)
                _write_at(descriptor, unsettled(np.frombuffer(data, ENTRY)).tobytes(), place)
            os.fsync(descriptor)

    def finish(self) -> int:
        """Makes the state file and removes the partial one; how many rows it has."""
        with self._mutex, scratch(self.path) as directory:
            require_room(directory, 2 * self.position)
            ledger = Ledger(directory)
            for place in range(self._start, self._end, _CHUNK):
                data = os.pread(self._lock.descriptor, min(_CHUNK, self._end - place), place)
                ledger.add(np.frombuffer(data, ENTRY))
            rows = write_state(self.path, self.header, ledger)
            self._partial.unlink()
            sync_directory(self.path.parent)
        self.close()
        return rows

    def close(self) -> None:
        """Gives the lock back; what was added stays."""
        self._lock.release()

    def _open(self, header: StateHeader) -> tuple[StateHeader, int]:
        """The header that counts, and where the entries start."""
        with self._partial.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
        if line.endswith(b"\n"):
            existing = StateHeader.from_bytes(line, self._partial)
            existing.require_same(header, self._partial)
            return existing, len(line)
        line = header.to_bytes()
        with storage_errors(self._partial):
            os.ftruncate(self._lock.descriptor, 0)  # a first line that a crash cut short
            _write_at(self._lock.descriptor, line, 0)
            os.fsync(self._lock.descriptor)
            sync_directory(self.path.parent)
        return header, len(line)


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    """Takes a lock, and gives it back if what follows fails."""
    try:
        Path(lock.path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        yield
    except BlockingIOError:
        raise JournalError(f"{lock.path}: another run is writing to it") from None
    except BaseException:
        lock.release()
        raise


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty directory beside a state file; what a run that was cut off left there is removed."""
    directory = path.with_name(path.name + ".sorting")
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written
