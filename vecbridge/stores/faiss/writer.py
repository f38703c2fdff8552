"""Committing to one namespace: vectors first, then a frame of the log; nothing else makes a row real.

The process that writes holds the lock of the collection from its first write until its store is closed, and
keeps the log open meanwhile. :mod:`.view` draws the order in which files change.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge.driver import outdated
from vecbridge.errors import NotFoundError, StoreLockedError
from vecbridge.query import FloatArray
from vecbridge.records import vectors
from vecbridge.storage import remove_tree, replace_file, sync_directory
from vecbridge.stores.faiss import log
from vecbridge.stores.faiss.files import WriterLock
from vecbridge.stores.faiss.log import Frame, Rows
from vecbridge.stores.faiss.place import Place
from vecbridge.stores.faiss.rows import Norms, Snapshot
from vecbridge.stores.faiss.view import CURRENT, Generation, Reader

_LOG: Final = logging.getLogger(__name__)
_APART_FROM: Final = 1 << 20  # bytes of vectors from which another thread writes them in less time
_REWRITE_FRAMES: Final = 4096  # frames after which the log is written anew, as one


class Writer:
    """Writes to one namespace.

    Args:
        reader: Of the same namespace; its mutex is held by everything here.
        lock: The collection's, shared by its namespaces; None where this process may only read.
        disk: Writes vectors while the caller makes the frame.
    """

    def __init__(self, reader: Reader, lock: WriterLock | None, disk: Executor) -> None:
        self._reader = reader
        self._lock = lock
        self._disk = disk
        self._log: int | None = None  # open for as long as the reader's ``newest`` is the newest
        self._unfinished: list[Future[None]] = []

    @property
    def _place(self) -> Place:
        return self._reader.place

    @property
    def holds_lock(self) -> bool:
        """Whether this process is the one that writes to the collection."""
        return self._lock is not None and self._lock.held

    @contextmanager
    def writing(self, batch: pa.RecordBatch | None = None) -> Iterator[Generation]:
        """Holds off every other writer, and gives the state that nobody else can change now.

        Args:
            batch: Rows that are to be written.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: The collection was dropped or replaced.
            SchemaError: The rows lack fields that were added since their handle was opened.
        """
        with self._reader.mutex:
            if self._log is None:
                if batch is not None:  # who is refused leaves the lock to others
                    self._reader.grow(self._place.read_again())
                    self._require_all_fields(batch)
                self._open_log()
            if batch is not None:
                self._require_all_fields(batch)
            yield self._reader.generation

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Commits a checked batch: returns when it is on the disk, whole."""
        with self.writing(batch) as generation:
            snapshot = generation.view.snapshot
            self._write_vectors(generation, batch)
            try:
                old = self._reader.rows_of(batch.column("id"))[1]
                known = np.flatnonzero(old >= 0)
                replacing = snapshot.total + known
                frame = Frame(self._catalogued(batch), old[known], replacing, self._place.fields)
            finally:
                wait(self._unfinished)
            for written in self._unfinished:
                written.result()
            self._commit(generation, frame)

    def upsert_absent(self, batch: pa.RecordBatch, *, whole: bool) -> Rows:
        """Commits the rows whose ids are not there.

        Args:
            batch: As of :meth:`upsert`.
            whole: Commit nothing if one of the ids is there.

        Returns:
            Positions of the rows whose ids are there.
        """
        with self.writing(batch):
            known = self._reader.rows_of(batch.column("id"))[1] >= 0
            if not known.any():
                self.upsert(batch)
            elif not whole and not known.all():
                self.upsert(batch.filter(pa.array(~known)))
            present: Rows = np.flatnonzero(known)
            return present

    def delete(self, rows: Rows) -> None:
        """Commits the death of some live rows."""
        with self.writing() as generation:
            nothing = pa.RecordBatch.from_pylist([], schema=self._place.schema)
            self._commit(generation, Frame(nothing, rows, np.full(len(rows), -1), self._place.fields))

    def switch(self, generation: str, number: int) -> None:
        """Has CURRENT name a generation and a log of it, which are complete."""
        current = {"token": self._place.token, "generation": generation, "log": str(number)}
        sync_directory(self._place.directory / generation)
        sync_directory(self._place.directory)  # the generation's name, before CURRENT says it
        replace_file(self._place.directory / CURRENT, json.dumps(current).encode())

    def close_log(self) -> None:
        """Closes the log and forgets what is known: only the disk knows how far a failed commit came."""
        self._reader.forget()
        if self._log is not None:
            descriptor, self._log = self._log, None
            os.close(descriptor)

    def _open_log(self) -> None:
        """Takes the lock, makes the namespace if it is new, and cuts what was never acknowledged."""
        reader = self._reader
        self._take_lock()
        if not reader.exists():
            self._begin()
            reader.view()
        self._remove_remains()
        generation = reader.generation
        descriptor = os.open(generation.log_path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, generation.offset)
        except BaseException:
            os.close(descriptor)
            raise
        self._log, reader.newest = descriptor, generation.view

    def _take_lock(self) -> None:
        if self._lock is None:
            raise StoreLockedError(f"{self._place.directory.parent} was opened for reading only")
        self._reader.view()  # first: what was dropped has no lock, and what replaced it has its own
        shared = self._lock.held
        self._lock.acquire()
        try:
            self._reader.look()
            self._reader.grow(self._place.read_again())  # by another process: it had the lock before
        except NotFoundError:  # replaced between the two looks: the lock is of what is gone
            if not shared:
                self._lock.release()
            raise

    def _begin(self) -> None:
        first = str(uuid.uuid4().int % 10**12)  # another one each time, so that no cursor outlives a drop
        directory = self._place.directory / first
        directory.mkdir(parents=True)
        (directory / "rows-0.log").touch()
        self.switch(first, 0)
        sync_directory(self._place.directory.parent)

    def _remove_remains(self) -> None:
        """Removes what a writer that died in the middle of something left behind."""
        here, generation = self._place.directory, self._reader.generation
        for path in here.iterdir():
            if path.is_dir() and path != generation.directory:
                remove_tree(path)
        hidden = (*here.glob(".*"), *generation.directory.glob(".*"))
        for path in (*hidden, *generation.directory.glob("rows-*.log")):
            if path.is_file() and str(path) != generation.log_path:
                path.unlink()

    def _require_all_fields(self, batch: pa.RecordBatch) -> None:
        spec = self._place.spec
        if batch.num_columns != len(spec.column_names):
            raise outdated(spec.name)

    def _write_vectors(self, generation: Generation, batch: pa.RecordBatch) -> None:
        """Writes the vectors behind those of the snapshot, or begins to where that takes long."""
        wait(self._unfinished)  # of an upsert that was interrupted: they would overwrite these
        total = generation.view.snapshot.total
        columns = [vectors(batch, field.name) for field in self._place.spec.vectors]
        if len(columns) == 1 and columns[0].nbytes < _APART_FROM:
            self._unfinished = []
            generation.files[0].append(total, columns[0])
            return
        self._unfinished = [
            self._disk.submit(file.append, total, values)
            for file, values in zip(generation.files, columns, strict=True)
        ]

    def _catalogued(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = self._place.schema
        fields = self._place.spec.vectors
        columns = [batch.column(name) for name in schema.names[: len(schema) - len(fields)]]
        columns += [pa.array(_norms(vectors(batch, field.name))) for field in fields]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _commit(self, generation: Generation, frame: Frame) -> None:
        assert self._log is not None
        try:
            offset = log.append(self._log, generation.offset, frame.encode())
            generation.advance([frame], offset)
            self._reader.newest = generation.view
        except BaseException:  # KeyboardInterrupt among them
            self.close_log()
            raise
        if generation.frames >= _REWRITE_FRAMES:
            self._rewrite_log(generation)

    def _rewrite_log(self, generation: Generation) -> None:
        """Writes the log anew with few frames, so that opening stays quick; rows keep their numbers."""
        assert self._log is not None
        snapshot = generation.view.snapshot
        old, number = Path(generation.log_path), generation.number + 1
        path = old.with_name(f"rows-{number}.log")
        try:
            length = write_log(path, snapshot, self._place.fields)
            self.switch(generation.name, number)
            os.close(self._log)
            self._log = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            frames, stamp = len(snapshot.chunks) + 1, self._reader.current_stamp()
            generation.log_replaced(number, length, frames, stamp)
            old.unlink(missing_ok=True)
        except OSError as exc:  # the commit stands, and whichever log CURRENT names holds it
            _LOG.warning("%s cannot be written anew, which is tried again later: %s", old, exc)
            self.close_log()
        except BaseException:  # KeyboardInterrupt: only CURRENT knows which log is to be gone on with
            self.close_log()
            raise


def write_log(path: Path, snapshot: Snapshot, fields: int) -> int:
    """Writes a log that says the same as the snapshot, in one frame a chunk; returns its length.

    Args:
        path: The log.
        snapshot: The rows.
        fields: As of :class:`~vecbridge.stores.faiss.log.Frame`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        offset = 0
        for chunk in snapshot.chunks:
            offset = log.append(descriptor, offset, Frame(chunk.batch, fields=fields).encode())
        if snapshot.dead:
            dead, successors = np.concatenate(snapshot.dead), np.concatenate(snapshot.successors)
            nothing = snapshot.chunks[0].batch.slice(0, 0)
            offset = log.append(descriptor, offset, Frame(nothing, dead, successors, fields).encode())
        return offset
    finally:
        os.close(descriptor)


def _norms(values: FloatArray) -> Norms:
    """Euclidean norms in float64, right for vectors whose squares float32 cannot hold, too."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", values, values).astype(np.float64)
    odd = ~np.isfinite(squares) | (squares < 1e-30)  # too long or too short for float32
    if odd.any():
        squares[odd] = (values[odd].astype(np.float64) ** 2).sum(axis=1)
    norms: Norms = np.sqrt(squares)
    return norms
