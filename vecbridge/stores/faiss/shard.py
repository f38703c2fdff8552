"""One namespace on disk: reading what is committed, committing more, compacting."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge.errors import ConfigError, CorruptStoreError, DeadlineError, NotFoundError
from vecbridge.query import FloatArray
from vecbridge.records import vectors
from vecbridge.schema import CollectionSpec
from vecbridge.stores.faiss import log
from vecbridge.stores.faiss.exact import Space
from vecbridge.stores.faiss.files import WriterLock, mapped_errors, remove_tree, replace_file, sync_directory
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.log import Frame, Rows
from vecbridge.stores.faiss.rows import IdIndex, Norms, Snapshot, catalogue_schema
from vecbridge.stores.faiss.search import Selections
from vecbridge.stores.faiss.segments import Segments
from vecbridge.stores.faiss.vectors import VectorFile

_LOG: Final = logging.getLogger(__name__)
_CURRENT: Final = "CURRENT"
_COPY_ROWS: Final = 32_768
_REWRITE_FRAMES: Final = 4096  # frames after which the log is written anew, as one
_FLUSH_ROWS: Final = 20_000  # uncovered rows that flush() leaves to exact search


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one call sees: a snapshot, its vectors and its indexes.

    Attributes:
        generation: Which generation it is; row numbers are valid within one.
        snapshot: The rows.
        spaces: By vector field, the vectors.
        files: By vector field, their file.
        indexes: By vector field, the open indexes; they cover no more than the snapshot.
        states: By vector field, the state of the index as Status says it.
    """

    generation: str
    snapshot: Snapshot
    spaces: dict[str, Space]
    files: dict[str, VectorFile]
    indexes: dict[str, list[Loaded]]
    states: dict[str, str]

    def pending(self, vector: str) -> int:
        """Rows that an index of the field could cover now and does not."""
        covered = sum(index.rows for index in self.indexes[vector])
        return self.snapshot.total - covered if self.states[vector] == "building" else 0


class Shard:
    """One namespace of one collection; shared by all its handles in a store.

    Args:
        directory: Where it lives; the first write makes it.
        spec: The collection's spec.
        token: The collection's token, which changes when it is replaced.
        lock: The collection's writer lock.
        device: "cpu" or "cuda".
    """

    _view: View

    def __init__(
        self, directory: Path, spec: CollectionSpec, token: str, lock: WriterLock, device: str
    ) -> None:
        self.spec = spec
        self.selections = Selections()
        self._directory = directory
        self._current_path = str(directory / _CURRENT)
        self.token = token
        self._lock = lock
        self._device = device
        self._schema = catalogue_schema(spec)
        self._mutex = threading.RLock()
        self._building = threading.Lock()  # taken before the mutex, never after it
        self._closed = False
        self._log: int | None = None
        self._newest: View | None = None  # the view while the log is open: nobody else can make a newer one
        self._vectors: list[VectorFile] = []
        self._reset()

    def view(self) -> View:
        """The newest committed state.

        Raises:
            NotFoundError: The collection was dropped or replaced since it was opened.
            CorruptStoreError: The files contradict themselves.
        """
        if (newest := self._newest) is not None:
            return newest
        with self._mutex:
            if self._closed:
                raise ConfigError(f"the store of {self.spec.name!r} is closed")
            for _ in range(3):  # a compaction elsewhere can remove a file between two looks at it
                try:
                    self._refresh()
                    return self._view
                except FileNotFoundError:
                    self._forget()
            try:
                self._refresh()
            except FileNotFoundError as exc:
                raise CorruptStoreError(f"{exc.filename} is missing; nothing was changed") from exc
            return self._view

    def rows_of(self, ids: pa.Array) -> tuple[View, Rows]:
        """The view, and the live row of each id in it (-1 where there is none)."""
        with self._mutex:
            view = self.view()
            self._ids.update(view.snapshot)
            return view, self._ids.find(ids, view.snapshot)

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Commits a checked batch: returns when it is on the disk, whole.

        Raises:
            StoreLockedError: Another process writes to the collection.
            StorageFullError: No room; nothing was stored.
        """
        with self._mutex, self._writing(), mapped_errors(f"write to {self._directory}"):
            snapshot = self._view.snapshot
            with ThreadPoolExecutor(len(self._vectors)) as disk:  # it is busy while the frame is made
                written = [
                    disk.submit(file.append, snapshot.total, vectors(batch, field.name))
                    for file, field in zip(self._vectors, self.spec.vectors, strict=True)
                ]
                self._ids.update(snapshot)
                old = self._ids.find(batch.column("id"), snapshot)
                known = np.flatnonzero(old >= 0)
                frame = Frame(self._catalogued(batch), old[known], snapshot.total + known)
            for each in written:
                each.result()
            self._commit(frame)

    def delete(self, rows: Rows) -> None:
        """Commits the death of some live rows."""
        with self._mutex, self._writing(), mapped_errors(f"write to {self._directory}"):
            nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
            self._commit(Frame(nothing, rows, np.full(len(rows), -1)))

    @contextmanager
    def writer(self) -> Iterator[View]:
        """Holds off other writers, and gives the state that nobody else can change now."""
        with self._mutex, self._writing():
            yield self._view

    @property
    def is_writer(self) -> bool:
        """Whether this process holds the writer lock."""
        return self._lock.held

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Holds off every writer of this process while the namespace is removed, then knows nothing of it."""
        with self._building, self._mutex:
            yield
            self._forget()

    def exists(self) -> bool:
        """Whether anything was ever written."""
        self.view()
        return (self._directory / _CURRENT).exists()

    def index(self, deadline: float, *, least: bool = False) -> None:
        """Builds what the indexes lack.

        Args:
            deadline: On the monotonic clock.
            least: Only where so many rows are uncovered that searches feel it.

        Raises:
            DeadlineError: Time ran out; what was built is kept.
            StoreLockedError: Another process writes to the collection.
        """
        view = self.view()
        if not any(view.pending(each.name) for each in self.spec.vectors):
            return
        with self._building:
            with self._mutex, self._writing():
                view, segments = self._view, self._segments
            for position, field in enumerate(self.spec.vectors):
                pending = view.pending(field.name)
                enough = max(_FLUSH_ROWS, (view.snapshot.total - pending) // 10) if least else 1
                if pending >= enough:
                    try:
                        segments.extend(position, view.snapshot, view.spaces, deadline)
                    finally:
                        with self._mutex:
                            self._view = self._made(self._view.snapshot)
                            if self._log is not None:
                                self._newest = self._view

    def compact(self, deadline: float) -> None:
        """Writes the live rows to a new generation, indexes included, and switches to it.

        Raises:
            DeadlineError: Time ran out; everything is as it was.
            StorageFullError: No room; everything is as it was.
        """
        if not self.exists():
            return
        with self._building, self._mutex, self._writing():
            old = self._directory / self._current["generation"]
            new = self._directory / f"{int(self._current['generation']) + 1}"
            remove_tree(new)
            try:
                with mapped_errors(f"compact {self._directory}"):
                    new.mkdir()
                    self._copy_live(new, deadline)
                    self._switch(new.name, 0)
            except BaseException:
                remove_tree(new)
                raise
            self._forget()
            remove_tree(old)

    def close(self) -> None:
        """Closes the files, after an index that is being built; the lock is the store's."""
        with self._building, self._mutex:
            self._closed = True
            self._forget()

    def _forget(self) -> None:
        if self._log is not None:
            descriptor, self._log, self._newest = self._log, None, None
            os.close(descriptor)
        self._vectors = []
        self._reset()

    def _reset(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._current: dict[str, str] = {"generation": "0", "log": "0"}
        self._log_path = self._directory / "0" / "rows-0.log"
        self._offset = 0
        self._frames = 0
        self._ids = IdIndex()
        self._segments = Segments(self._directory, self.spec, self._device, self._mutex)
        self._view = self._made(Snapshot.empty(self.spec))

    def _refresh(self) -> None:
        try:
            state = os.stat(self._current_path)  # noqa: PTH116 - called by every search
        except FileNotFoundError:
            self._require_collection()
            self._require_no_rows()
            if self._stamp is not None:
                self._forget()
            return
        stamp = (state.st_mtime_ns, state.st_ino)
        if stamp != self._stamp:
            self._open_generation(stamp)
        snapshot = self._view.snapshot
        if os.stat(self._log_path).st_size != self._offset:  # noqa: PTH116
            frames, offset = log.read(self._log_path, self._schema, self._offset)
            if frames:
                self._view = self._made(snapshot.extended(frames))
            self._frames += len(frames)
            self._offset = offset
        if self._segments.refresh(self._view.spaces):
            self._view = self._made(self._view.snapshot)

    def _require_collection(self) -> None:
        try:
            stored = json.loads((self._directory.parent / "spec.json").read_bytes())
        except FileNotFoundError:
            stored = {}
        except ValueError as exc:
            raise CorruptStoreError(f"{self._directory.parent}: the spec is damaged: {exc}") from exc
        if not isinstance(stored, dict) or stored.get("token") != self.token:
            raise NotFoundError(f"collection {self.spec.name!r} was dropped or replaced since it was opened")

    def _require_no_rows(self) -> None:
        """A namespace without CURRENT is one that nothing was ever written to."""
        written = any(each.stat().st_size for each in self._directory.glob("*/rows-*.log"))
        if written and not Path(self._current_path).exists():
            raise CorruptStoreError(f"{self._current_path} is missing; nothing was changed")

    def _open_generation(self, stamp: tuple[int, int]) -> None:
        path = self._directory / _CURRENT
        try:
            current = json.loads(path.read_bytes())
            token, generation, number = current["token"], current["generation"], current["log"]
            if not (f"{generation}".isdigit() and f"{number}".isdigit()):
                raise ValueError("not numbers")
        except (ValueError, KeyError, TypeError) as exc:
            raise CorruptStoreError(f"{path} is damaged: {exc!r}; nothing was changed") from exc
        if token != self.token:
            raise NotFoundError(f"collection {self.spec.name!r} was dropped or replaced since it was opened")
        self._forget()
        self._stamp = stamp
        self._current = {"generation": str(generation), "log": str(number)}
        directory = self._directory / self._current["generation"]
        self._log_path = directory / f"rows-{number}.log"
        self._vectors = [
            VectorFile(directory / f"vectors-{position}.f32", field.dim)
            for position, field in enumerate(self.spec.vectors)
        ]
        self._segments = Segments(directory, self.spec, self._device, self._mutex)
        self._view = self._made(Snapshot.empty(self.spec))

    def _made(self, snapshot: Snapshot) -> View:
        names = [each.name for each in self.spec.vectors]
        files = dict(zip(names, self._vectors, strict=False))
        spaces = {
            field.name: Space(
                files[field.name].view(snapshot.total),
                snapshot.norms[field.name],
                field.metric,
                snapshot.unit[field.name],
            )
            for field in self.spec.vectors
            if field.name in files
        }
        indexes = {name: self._segments.of(position) for position, name in enumerate(names)}
        states = {name: self._segments.state(position, snapshot) for position, name in enumerate(names)}
        return View(self._current["generation"], snapshot, spaces, files, indexes, states)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Takes the writer lock, makes the namespace if it is new, and cuts what was never acknowledged."""
        if self._log is None:
            self.view()  # first: what was dropped has no lock, and what replaced it has its own
            self._lock.acquire()
            self.view()
            with mapped_errors(f"write to {self._directory}"):
                if self._stamp is None:
                    self._begin()
                    self._refresh()
                self._tidy()
                self._log = os.open(self._log_path, os.O_RDWR | os.O_CLOEXEC)
                os.ftruncate(self._log, self._offset)
            self._newest = self._view
        yield

    def _tidy(self) -> None:
        """Removes what a writer that died in the middle of something left behind."""
        generation = self._directory / self._current["generation"]
        for path in self._directory.iterdir():
            if path.is_dir() and path != generation:
                remove_tree(path)
        for path in (*self._directory.glob(".*"), *generation.glob(".*"), *generation.glob("rows-*.log")):
            if path.is_file() and path != self._log_path:
                path.unlink()

    def _begin(self) -> None:
        first = str(uuid.uuid4().int % 10**12)  # another one each time, so that no cursor outlives a drop
        generation = self._directory / first
        generation.mkdir(parents=True)
        (generation / "rows-0.log").touch()
        sync_directory(generation)
        self._switch(first, 0)
        sync_directory(self._directory.parent)

    def _switch(self, generation: str, number: int) -> None:
        current = {"token": self.token, "generation": generation, "log": str(number)}
        sync_directory(self._directory / generation)
        replace_file(self._directory / _CURRENT, json.dumps(current).encode())

    def _catalogued(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [batch.column(name) for name in self._schema.names if not name.startswith("_vb_norm_")]
        columns += [pa.array(_norms(vectors(batch, each.name))) for each in self.spec.vectors]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _commit(self, frame: Frame) -> None:
        assert self._log is not None
        try:
            offset = log.append(self._log, self._offset, frame.encode())
            self._view = self._newest = self._made(self._view.snapshot.extended([frame]))
            self._offset = offset
        except BaseException:  # KeyboardInterrupt among them: only the disk knows how far it came
            self._forget()
            raise
        self._frames += 1
        if self._frames >= _REWRITE_FRAMES:
            self._rewrite_log()

    def _rewrite_log(self) -> None:
        """Writes the log anew with few frames, so that opening stays quick; rows keep their numbers."""
        assert self._log is not None
        snapshot = self._view.snapshot
        number = int(self._current["log"]) + 1
        old = self._log_path
        path = old.with_name(f"rows-{number}.log")
        try:
            length = _write_log(path, snapshot)
            self._switch(self._current["generation"], number)
        except OSError as exc:  # the commit stands, and whichever log CURRENT names holds it
            _LOG.warning("%s cannot be written anew, which is tried again later: %s", old, exc)
            self._forget()
            return
        os.close(self._log)
        self._offset = length
        self._log = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._log_path, self._frames = path, len(snapshot.chunks) + 1
        self._current["log"] = str(number)
        state = os.stat(self._current_path)  # noqa: PTH116
        self._stamp = (state.st_mtime_ns, state.st_ino)
        old.unlink(missing_ok=True)

    def _copy_live(self, directory: Path, deadline: float) -> None:
        view = self._view
        files = [VectorFile(directory / f.path.name, f.dim) for f in self._vectors]
        live = np.flatnonzero(view.snapshot.live)
        frames: list[Frame] = []
        for low in range(0, len(live), _COPY_ROWS):
            if time.monotonic() >= deadline:
                raise DeadlineError(f"compacting {self._directory} took too long; everything is as it was")
            rows = live[low : low + _COPY_ROWS]
            for file, field in zip(files, self.spec.vectors, strict=True):
                file.append(low, view.spaces[field.name].vectors[rows])
            frames.append(Frame(view.snapshot.take(rows, self._schema.names)))
        snapshot = Snapshot.empty(self.spec).extended(frames)
        _write_log(directory / "rows-0.log", snapshot)
        names = [each.name for each in self.spec.vectors]
        spaces = {
            name: Space(
                file.view(snapshot.total), snapshot.norms[name], view.spaces[name].metric, snapshot.unit[name]
            )
            for name, file in zip(names, files, strict=True)
        }
        segments = Segments(directory, self.spec, self._device, self._mutex)
        for position in range(len(names)):
            if segments.state(position, snapshot) == "building":
                segments.extend(position, snapshot, spaces, deadline)


def _write_log(path: Path, snapshot: Snapshot) -> int:
    """A log that says the same as the snapshot, in one frame a chunk; returns its length."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        offset = 0
        for chunk in snapshot.chunks:
            offset = log.append(descriptor, offset, Frame(chunk.batch).encode())
        if snapshot.dead:
            dead, successors = np.concatenate(snapshot.dead), np.concatenate(snapshot.successors)
            nothing = snapshot.chunks[0].batch.slice(0, 0)
            offset = log.append(descriptor, offset, Frame(nothing, dead, successors).encode())
        return offset
    finally:
        os.close(descriptor)


def _norms(values: FloatArray) -> Norms:
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", values, values).astype(np.float64)
    odd = ~np.isfinite(squares) | (squares < 1e-30)  # too long or too short for float32
    if odd.any():
        squares[odd] = (values[odd].astype(np.float64) ** 2).sum(axis=1)
    norms: Norms = np.sqrt(squares)
    return norms
