"""The long work on one namespace: extending its indexes, and compacting it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError
from vecbridge.storage import remove_tree
from vecbridge.stores.faiss.exact import FieldVectors
from vecbridge.stores.faiss.log import Frame
from vecbridge.stores.faiss.rows import Snapshot
from vecbridge.stores.faiss.segments import Segments
from vecbridge.stores.faiss.vectors import VectorFile
from vecbridge.stores.faiss.view import Reader
from vecbridge.stores.faiss.writer import Writer, write_log

_COPY_ROWS: Final = 32_768
_FLUSH_ROWS: Final = 20_000  # uncovered rows that flush() leaves to exact search


class Upkeep:
    """Keeps a namespace quick; only the process that writes does so.

    Its lock lets one build or compaction run at a time. Building an index holds nothing else, so that rows
    are written and read meanwhile; compacting holds the reader's mutex to its end. The lock is taken before
    that mutex, never after it.

    Args:
        reader: Of the namespace.
        writer: Of the same.
    """

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()

    def build(self, deadline: Deadline, *, only_where_slow: bool = False) -> None:
        """Builds what the indexes lack.

        Args:
            deadline: Of all of it.
            only_where_slow: Leaves out indexes that lack so few rows that searches do not feel it.

        Raises:
            DeadlineError: Time ran out; what was built is kept.
            StoreLockedError: Another process writes to the collection.
        """
        fields = self._reader.place.spec.vectors
        view = self._reader.view()
        if not view.listless and not any(view.pending(field.name) for field in fields):
            return
        with self._lock:
            with self._writer.writing() as generation:
                view, segments = generation.view, generation.segments
            for position, field in enumerate(fields):
                pending = view.pending(field.name)
                least = max(_FLUSH_ROWS, (view.snapshot.total - pending) // 10) if only_where_slow else 1
                if pending >= least:
                    try:
                        segments.extend(position, view.snapshot, view.vectors, deadline)
                    finally:
                        self._reader.renew()
                if segments.lacks_lists(position):
                    segments.complete(position, view.vectors)
                    self._reader.renew()

    def compact(self, deadline: Deadline) -> None:
        """Writes the live rows to a new generation, indexes included, and switches to it.

        Raises:
            DeadlineError: Time ran out; everything is as it was.
        """
        if not self._reader.exists():
            return
        with self._lock, self._writer.writing() as generation:
            old = generation.directory
            new = old.with_name(f"{int(generation.name) + 1}")
            remove_tree(new)
            try:
                new.mkdir()
                self._copy_live(new, deadline)
                self._writer.switch(new.name, 0)
            except BaseException:
                self._writer.close_log()
                if self._reader.read_current().generation != new.name:  # else only its sync failed
                    remove_tree(new)
                raise
            self._writer.close_log()
            remove_tree(old)

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Holds off every writer of this process while the namespace is removed, then knows nothing of it."""
        with self._lock, self._reader.mutex:
            try:
                yield
            finally:
                self._writer.close_log()

    def close(self) -> None:
        """Closes the files, after an index that is being built; the writer's lock is the store's."""
        with self._lock, self._reader.mutex:
            self._writer.close_log()
            self._reader.close()

    def _copy_live(self, directory: Path, deadline: Deadline) -> None:
        place, view = self._reader.place, self._reader.generation.view
        files = [
            VectorFile(directory / view.files[field.name].path.name, field.dim)
            for field in place.spec.vectors
        ]
        live = np.flatnonzero(view.snapshot.live)
        frames: list[Frame] = []
        for low in range(0, len(live), _COPY_ROWS):
            if time.monotonic() >= deadline.at:
                raise DeadlineError(f"compacting {place.directory} took too long; everything is as it was")
            rows = live[low : low + _COPY_ROWS]
            for file, field in zip(files, place.spec.vectors, strict=True):
                file.append(low, view.vectors[field.name].values[rows])
            frames.append(Frame(view.snapshot.take(rows, place.schema.names)))
        snapshot = Snapshot.empty(place.spec).extended(frames)
        write_log(directory / "rows-0.log", snapshot, place.fields)
        vectors = {
            field.name: FieldVectors.of(field, file.view(snapshot.total), snapshot)
            for field, file in zip(place.spec.vectors, files, strict=True)
        }
        segments = Segments(directory, place.spec, place.device, self._reader.mutex)
        for position in range(len(files)):
            if segments.state(position, snapshot) == "building":
                segments.extend(position, snapshot, vectors, deadline)
