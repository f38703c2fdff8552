"""Reading one namespace: what is committed on the disk, followed from call to call without a lock.

Whoever writes changes the files in this order, and ``==>`` is a sync: what stands on its right is not begun
before what stands on its left has reached the disk::

    new fields   spec.json lists them  ==>  a frame of a log has them
    commit       rows of vectors-<i>.f32  ==>  one frame of rows-<n>.log  ==>  acknowledged
    new log      rows-<n+1>.log           ==>  CURRENT names it           ==>  rows-<n>.log is removed
    compaction   generation <g+1>         ==>  CURRENT names it           ==>  generation <g> is removed
    index        lists-*.bin, *.faiss     -->  indexes.json lists it      ==>  what it grew from is removed

So at every moment, after a crash too, this holds:

- CURRENT names a generation and a log that are whole; it carries the collection's token.
- The vectors of every row of the log are in the vector files. What stands behind them, there or in the log,
  was never acknowledged: readers pass it by, and the next writer cuts it.
- A row number means the same row for as long as its generation lives.
- An index covers rows of the vector files; which of them are live is looked up in the log. One that is lost
  or damaged (it is not synced) costs time and nothing else.

A reader therefore needs no lock on a file. It compares the log and indexes.json with what its view was made
from, reads what was added, and makes another view; one that a call holds never changes::

       CURRENT ---> generation, log ---> rows-<n>.log ---> Snapshot --+
                         |                                            +--> View, kept until a file changes
                         +-------> vectors-<i>.f32, indexes.json -----+

Files may be removed while they are read: the view keeps them mapped, and a reader that comes upon a missing
one looks at CURRENT again.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pyarrow as pa

from vecbridge.errors import ConfigError, CorruptStoreError
from vecbridge.stores.faiss import log
from vecbridge.stores.faiss.exact import FieldVectors
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.log import Frame, NewFieldsError, Rows
from vecbridge.stores.faiss.place import Place, StoredSpec
from vecbridge.stores.faiss.rows import IdIndex, Snapshot
from vecbridge.stores.faiss.segments import Segments
from vecbridge.stores.faiss.selections import Selections
from vecbridge.stores.faiss.vectors import VectorFile

CURRENT: Final = "CURRENT"
_ATTEMPTS: Final = 3  # a compaction elsewhere can remove a file between two looks at it

Stamp: TypeAlias = "tuple[int, int]"  # modification time and inode: a file that is replaced has another


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one call sees: a snapshot, its vectors and its indexes.

    Attributes:
        generation: Which generation it is; row numbers are valid within one.
        snapshot: The rows.
        vectors: By vector field, the vectors.
        files: By vector field, their file.
        indexes: By vector field, the open indexes; they cover no more than the snapshot.
        states: By vector field, the state of the index as Status says it.
        listless: Vector fields of which an index lacks its lists.
    """

    generation: str
    snapshot: Snapshot
    vectors: dict[str, FieldVectors]
    files: dict[str, VectorFile]
    indexes: dict[str, list[Loaded]]
    states: dict[str, str]
    listless: frozenset[str]

    def pending(self, vector: str) -> int:
        """Rows that an index of the field could cover now and does not."""
        covered = sum(index.rows for index in self.indexes[vector])
        return self.snapshot.total - covered if self.states[vector] == "building" else 0


class Current(NamedTuple):
    """What CURRENT says.

    Attributes:
        token: Of the collection that it belongs to.
        generation: Name of the directory that holds the namespace.
        log: Number of the log in it.
    """

    token: str
    generation: str
    log: int


class Generation:
    """What is known of one generation; changed under the reader's mutex alone.

    Args:
        place: Where the namespace is.
        name: Name of its directory.
        number: Of the log that CURRENT names.
        stamp: Of CURRENT; None where there is none: nothing was ever written.
        mutex: The reader's.

    Attributes:
        offset: Bytes of the log that were read: the end of its last whole frame.
        frames: How many frames those are.
        files: The vector files, in the order of the spec.
        segments: The indexes.
        view: The state up to ``offset``.
    """

    def __init__(
        self, place: Place, name: str, number: int, stamp: Stamp | None, mutex: threading.RLock
    ) -> None:
        directory = place.directory / name
        self.name = name
        self.stamp = stamp
        self.frames = 0
        self.files = [
            VectorFile(directory / f"vectors-{position}.f32", field.dim)
            for position, field in enumerate(place.spec.vectors)
        ]
        self.segments = Segments(directory, place.spec, place.device, mutex)
        self._place = place
        self._use_log(number, 0)
        self.view = self._view_of(Snapshot.empty(place.spec))

    def _use_log(self, number: int, offset: int) -> None:
        self.number, self.offset = number, offset
        self.log_path = f"{self._place.directory / self.name}/rows-{number}.log"

    @property
    def directory(self) -> Path:
        """Its directory."""
        return self._place.directory / self.name

    @property
    def unchanged(self) -> bool:
        """Whether the view is the newest; called by every search of a reader, without the mutex.

        The log tells it alone: who has CURRENT name another one removes this one before acknowledging
        anything more. Only a writer that takes over from a dead one must ask CURRENT, as
        :meth:`Reader.look` does.
        """
        try:
            return os.stat(self.log_path).st_size == self.offset and self.segments.unchanged  # noqa: PTH116
        except FileNotFoundError:
            return False

    def follow(self) -> None:
        """Takes in what was committed and indexed since the last look.

        Raises:
            FileNotFoundError: The generation or its log is gone.
            CorruptStoreError: The files contradict themselves.
        """
        if os.stat(self.log_path).st_size != self.offset:  # noqa: PTH116
            frames, offset = log.read(Path(self.log_path), self._place, self.offset)
            self.advance(frames, offset)
        if self.segments.refresh(self.view.vectors):
            self.renew()

    def advance(self, frames: list[Frame], offset: int) -> None:
        """Takes in frames of the log that end at ``offset``."""
        if frames:
            self.view = self._view_of(self.view.snapshot.extended(frames))
        self.frames += len(frames)
        self.offset = offset  # last: who finds that it is the length of the log finds the view as well

    def grow(self, place: Place) -> None:
        """Takes in fields that were added: null in the rows that were read so far."""
        view = self._view_of(self.view.snapshot.widened(place.schema))
        self._place, self.view = place, view

    def renew(self) -> None:
        """Makes the view anew, after indexes were built or opened."""
        self.view = self._view_of(self.view.snapshot)

    def log_replaced(self, number: int, offset: int, frames: int, stamp: Stamp) -> None:
        """Goes on with another log of the same rows.

        Args:
            number: Of the log.
            offset: Its length.
            frames: How many it has.
            stamp: Of the CURRENT that names it.
        """
        self._use_log(number, offset)
        self.frames, self.stamp = frames, stamp

    def _view_of(self, snapshot: Snapshot) -> View:
        fields = self._place.spec.vectors
        files = {field.name: file for field, file in zip(fields, self.files, strict=True)}
        vectors = {
            field.name: FieldVectors.of(field, files[field.name].view(snapshot.total), snapshot)
            for field in fields
        }
        indexes = {field.name: self.segments.of(position) for position, field in enumerate(fields)}
        states = {
            field.name: self.segments.state(position, snapshot) for position, field in enumerate(fields)
        }
        listless = frozenset(
            field.name for position, field in enumerate(fields) if self.segments.lacks_lists(position)
        )
        return View(self.name, snapshot, vectors, files, indexes, states, listless)


class Reader:
    """Follows one namespace; shared by all of its handles in a store.

    Args:
        place: Where it is.

    Attributes:
        place: Where it is; another one when fields were added.
        mutex: Held while ``generation`` changes. It may be taken under the lock of :mod:`.upkeep`, and the
            writer's lock on the collection is taken under it; never the other way round.
        selections: Rows that match the filters that were used last.
        generation: What is known of the generation that CURRENT named last.
        newest: The view, while this process has the log open for writing: nobody else can make a newer one,
            nor replace or drop the collection, so that it is read without looking at a file.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.mutex = threading.RLock()
        self.selections = Selections()
        self.newest: View | None = None
        self._current = str(place.directory / CURRENT)
        self._ids = IdIndex()
        self._closed = False
        self.generation = self._nothing_written()

    def view(self) -> View:
        """The newest committed state.

        Raises:
            NotFoundError: The collection was dropped or replaced since it was opened.
            CorruptStoreError: The files contradict themselves.
            ConfigError: The store is closed.
        """
        if (newest := self.newest) is not None:
            return newest
        generation = self.generation
        if generation.stamp is not None and generation.unchanged:
            return generation.view
        return self.look()

    def look(self) -> View:
        """The same, after a look at CURRENT and not at the log alone.

        Raises:
            NotFoundError, CorruptStoreError, ConfigError: As :meth:`view`.
        """
        with self.mutex:
            if self._closed:
                raise ConfigError(f"the store of {self.place.spec.name!r} is closed")
            for _ in range(_ATTEMPTS):
                try:
                    return self._follow()
                except FileNotFoundError:
                    self.forget()
            try:
                return self._follow()
            except FileNotFoundError as exc:
                raise CorruptStoreError(f"{exc.filename} is missing; nothing was changed") from exc

    def rows_of(self, ids: pa.Array) -> tuple[View, Rows]:
        """The view, and the live row of each id in it (-1 where there is none)."""
        with self.mutex:
            view = self.view()
            self._ids.update(view.snapshot)
            return view, self._ids.find(ids, view.snapshot)

    def exists(self) -> bool:
        """Whether anything was ever written."""
        self.view()
        return self.generation.stamp is not None

    def current_stamp(self) -> Stamp:
        """The stamp of CURRENT.

        Raises:
            FileNotFoundError: Nothing was ever written, or the collection is gone.
        """
        state = os.stat(self._current)  # noqa: PTH116
        return state.st_mtime_ns, state.st_ino

    def renew(self) -> None:
        """Makes the view anew, after an index was built."""
        with self.mutex:
            self.generation.renew()
            self._renew_newest()

    def grow(self, stored: StoredSpec) -> None:
        """Takes in fields that were added to the collection; handles that know none of them go on reading."""
        if len(stored.spec.fields) <= len(self.place.spec.fields):
            return
        with self.mutex:
            if len(stored.spec.fields) > len(self.place.spec.fields):
                place = Place.at(self.place.directory, stored, self.place.device)
                self.generation.grow(place)
                self._renew_newest()
                self.place = place  # last: what is cut off before is done again

    def read_current(self) -> Current:
        """What CURRENT says.

        Raises:
            CorruptStoreError: It is damaged.
        """
        try:
            stored = json.loads(Path(self._current).read_bytes())
            generation, number = f"{stored['generation']}", f"{stored['log']}"
            if not (generation.isdecimal() and number.isdecimal()):
                raise ValueError("not numbers")
            return Current(stored["token"], generation, int(number))
        except (ValueError, KeyError, TypeError) as exc:
            raise CorruptStoreError(f"{self._current} is damaged: {exc!r}; nothing was changed") from exc

    def forget(self) -> None:
        """Knows nothing any more: the next call reads the files from the start."""
        self.newest = None
        self._ids = IdIndex()
        self.generation = self._nothing_written()

    def close(self) -> None:
        """Answers nothing any more, and lets go of the files."""
        self._closed = True
        self.forget()

    def _renew_newest(self) -> None:
        if self.newest is not None:
            self.newest = self.generation.view

    def _nothing_written(self) -> Generation:
        return Generation(self.place, "0", 0, None, self.mutex)

    def _follow(self) -> View:
        try:
            stamp = self.current_stamp()
        except FileNotFoundError:
            self.place.read_again()
            self._require_no_rows()
            if self.generation.stamp is not None:
                self.forget()
            return self.generation.view
        if stamp != self.generation.stamp:
            self._open(stamp)
        try:
            self.generation.follow()
        except NewFieldsError:
            self.grow(self.place.read_again())
            self.generation.follow()
        return self.generation.view

    def _require_no_rows(self) -> None:
        """A namespace without CURRENT is one that nothing was ever written to."""
        written = any(path.stat().st_size for path in self.place.directory.glob("*/rows-*.log"))
        if written and not Path(self._current).exists():
            raise CorruptStoreError(f"{self._current} is missing; nothing was changed")

    def _open(self, stamp: Stamp) -> None:
        current = self.read_current()
        self.place.require_token(current.token)
        self.forget()
        self.generation = Generation(self.place, current.generation, current.log, stamp, self.mutex)
