"""The derived indexes of one generation: which rows they cover, how they are built and opened again.

Each index covers a bounded range of rows, so that extending one rewrites a bounded file, and an index is
never needed: rows that none covers are searched exactly. A file that is missing, truncated, damaged or
built with other parameters is left out with a warning, and built again by the next writer.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from vecbridge import indexes as parameters
from vecbridge.driver import Deadline
from vecbridge.errors import CorruptStoreError, DeadlineError
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, Metric, VectorField
from vecbridge.storage import replace_file
from vecbridge.stores.faiss import gpu, lists
from vecbridge.stores.faiss import indexes as faiss_indexes
from vecbridge.stores.faiss.exact import FieldVectors
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.rows import Mask, Snapshot
from vecbridge.stores.faiss.vectors import VectorFile

_LOG: Final = logging.getLogger(__name__)
SEGMENT_BYTES: Final = 2 << 30  # vectors that one index covers: what building it holds in memory
SEGMENT_ROWS: Final = 65_536  # and that many at least
_ADD_ROWS: Final = 8192


@dataclass(frozen=True, slots=True)
class Segment:
    """One index file.

    Attributes:
        vector: Position of the vector field in the spec.
        first: First row that it covers.
        rows: How many.
        file: Its name.
        unit: Whether a graph reads the file of unit vectors instead of the truth.
        params: What it was built with.
        size: Bytes of the file.
        crc: Its checksum.
    """

    vector: int
    first: int
    rows: int
    file: str
    unit: bool
    params: str
    size: int
    crc: int


class Segments:
    """The indexes of one generation directory.

    Args:
        directory: The generation.
        spec: The collection's spec.
        device: "cpu" or "cuda".
        mutex: Held while what is known changes; building holds nothing.
    """

    def __init__(
        self, directory: Path, spec: CollectionSpec, device: str, mutex: AbstractContextManager[Any]
    ) -> None:
        self._mutex = mutex
        self._directory = directory
        self._manifest = directory / "indexes.json"
        self._manifest_path = str(self._manifest)
        self._spec = spec
        self._device = device
        self._stamp: tuple[int, int] | None = None
        self._known: list[Segment] = []
        self._open: dict[str, Loaded] = {}
        self._units = [
            VectorFile(directory / f"unit-{i}.f32", field.dim) for i, field in enumerate(spec.vectors)
        ]

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing that :meth:`refresh` would open; called by every search of a reader."""
        return self._manifest_stamp() in (None, self._stamp)

    def refresh(self, vectors: dict[str, FieldVectors]) -> bool:
        """Opens what was built since the last call, by this process or another; whether anything was."""
        stamp = self._manifest_stamp()
        if stamp in (None, self._stamp):
            return False
        known, loaded = [], {}
        try:
            listed = [Segment(**entry) for entry in json.loads(self._manifest.read_text())]
            if not all(0 <= segment.vector < len(self._spec.vectors) for segment in listed):
                raise ValueError("it names a vector field that is not there")
        except (ValueError, TypeError) as exc:
            _LOG.warning(
                "%s is damaged (%s): searching exactly until the index is built again", self._manifest, exc
            )
            listed = []
        for segment in listed:
            if segment.first + segment.rows > len(vectors[self._spec.vectors[segment.vector].name].values):
                stamp = None  # built over rows that were committed after the caller looked: next time
                continue
            index = self._open.get(segment.file) or self._load(segment, vectors)
            if index is not None:
                if index.lists is None:
                    index = replace(index, lists=self._load_lists(segment))
                known.append(segment)
                loaded[segment.file] = index
        self._known, self._open, self._stamp = known, loaded, stamp
        return True

    def _manifest_stamp(self) -> tuple[int, int] | None:
        try:
            state = os.stat(self._manifest_path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return state.st_mtime_ns, state.st_ino

    def of(self, vector: int) -> list[Loaded]:
        """The open indexes of a vector field: disjoint, adjacent, from row 0 on."""
        return [self._open[segment.file] for segment in self._chain(vector)]

    def covered(self, vector: int) -> int:
        """The first row that no index covers."""
        return sum(index.rows for index in self.of(vector))

    def lacks_lists(self, vector: int) -> bool:
        """Whether the lists of an index are not there, as in a collection of an earlier version."""
        return any(index.lists is None and index.rows >= lists.LISTS_FROM for index in self.of(vector))

    def complete(self, vector: int, vectors: dict[str, FieldVectors]) -> None:
        """Makes the lists that are not there; the writer alone may call this.

        Raises:
            OSError: No room, or whatever the file system says; the indexes are as they were.
        """
        stored = vectors[self._spec.vectors[vector].name]
        for segment in self._chain(vector):
            if self._open[segment.file].lists is None:
                self._store_lists(stored, segment.vector, segment.first, segment.first + segment.rows)
        self._store_manifest(self._known)  # readers open what is new when that file changes
        with self._mutex:
            self.refresh(vectors)

    def state(self, vector: int, snapshot: Snapshot) -> str:
        """As Status.indexes says it."""
        field = self._spec.vectors[vector]
        if faiss_indexes.plan(field) is None or self.covered(vector) == snapshot.total:
            return "ready"
        lacking = faiss_indexes.rows_needed(field) - snapshot.live_rows
        if lacking > 0 and not self.covered(vector):
            return "ready" if isinstance(field.index, parameters.Auto) else f"exact: needs {lacking} more"
        return "building"

    def extend(
        self, vector: int, snapshot: Snapshot, vectors: dict[str, FieldVectors], deadline: Deadline
    ) -> None:
        """Brings the indexes of a field up to the snapshot; the writer alone may call this.

        Raises:
            DeadlineError: Time ran out; what was added so far is kept.
            OSError: No room, or whatever the file system says; the indexes are as they were.
        """
        field = self._spec.vectors[vector]
        stored = vectors[field.name]
        limit = max(SEGMENT_ROWS, SEGMENT_BYTES // (4 * field.dim))
        while (covered := self.covered(vector)) < snapshot.total:
            last = self._chain(vector)[-1:]
            grow = last[0] if last and last[0].rows < limit else None
            first = grow.first if grow else covered
            stop = min(first + limit, snapshot.total)
            graph = isinstance(faiss_indexes.plan(field), parameters.HNSW)
            unit = graph and not stored.unit and stored.metric is Metric.COSINE
            known_unit = covered if grow and grow.unit else first
            source = self._unit_vectors(vector, stored, known_unit, stop) if unit else stored.values
            index = self._to_grow(grow, source) if grow else self._start(field, vector, snapshot, stored)
            if graph:
                end = _add_to_graph(index, source, covered, stop, deadline)
            else:
                end = _add_to_lists(index, stored, snapshot.live, first, covered, stop, deadline)
            self._store_lists(stored, vector, first, end)
            self._store(index, vector, grow, first, end, unit)
            with self._mutex:
                self.refresh(vectors)
            if self.covered(vector) < end:
                raise CorruptStoreError(f"{self._directory}: the index that was just written cannot be read")
            if end < stop or (end < snapshot.total and time.monotonic() >= deadline.at):
                raise DeadlineError(
                    f"the index of {field.name!r} covers {end} of {snapshot.total} rows: wait again"
                )

    def _chain(self, vector: int) -> list[Segment]:
        """Adjacent from row 0 on; what stands behind a gap is of no use."""
        chain: list[Segment] = []
        for segment in sorted(
            (segment for segment in self._known if segment.vector == vector),
            key=lambda segment: segment.first,
        ):
            if segment.first == (chain[-1].first + chain[-1].rows if chain else 0):
                chain.append(segment)
        return chain

    def _load(self, segment: Segment, vectors: dict[str, FieldVectors]) -> Loaded | None:
        path = self._directory / segment.file
        field = self._spec.vectors[segment.vector]
        try:
            problem = _problem(segment, path, field)
            if problem is None:
                stored = vectors[field.name]
                end = segment.first + segment.rows
                if isinstance(faiss_indexes.plan(field), parameters.HNSW):
                    values = self._units[segment.vector].view(end) if segment.unit else stored.values[:end]
                    return faiss_indexes.load_graph(path, segment.first, values[segment.first :])
                return faiss_indexes.load_lists(path, segment.first, segment.rows, self._device)
        except (OSError, RuntimeError, CorruptStoreError) as exc:  # FAISS has no error but RuntimeError
            problem = str(exc)
        _LOG.warning(
            "%s cannot be used (%s): searching exactly until the index is built again", path, problem
        )
        return None

    def _start(self, field: VectorField, vector: int, snapshot: Snapshot, stored: FieldVectors) -> Any:
        """An empty index, trained where it needs that; later ranges start from the same training."""
        wanted = faiss_indexes.training_rows(field)
        if not wanted:
            return faiss_indexes.new(field)
        path = self._directory / f"trained-{vector}-{_params(field)[1]:08x}.faiss"
        if path.exists():
            try:
                return faiss.read_index(str(path))
            except RuntimeError as exc:
                _LOG.warning("%s cannot be used (%s): training again", path, exc)
        rows = np.flatnonzero(snapshot.live)
        if len(rows) > wanted:
            rows = np.sort(np.random.default_rng(0).choice(rows, wanted, replace=False))
        sample = lists.comparable(stored, stored.values[rows])
        index = gpu.trained(faiss_indexes.new(field), sample, self._device)
        _write_beside(lambda beside: faiss_indexes.write(index, beside), path)
        return index

    def _to_grow(self, segment: Segment, source: FloatArray) -> Any:
        stop = segment.first + segment.rows
        return faiss_indexes.load_for_adding(self._directory / segment.file, source[segment.first : stop])

    def _unit_vectors(self, vector: int, stored: FieldVectors, known: int, stop: int) -> FloatArray:
        """The vectors at length one, from a file beside the truth; ``known`` rows of it are good."""
        for low in range(known, stop, _ADD_ROWS):
            self._units[vector].append(low, stored.prepare(stored.values[low : min(low + _ADD_ROWS, stop)]))
        return self._units[vector].view(stop)

    def _store(
        self, index: Any, vector: int, grown: Segment | None, first: int, end: int, unit: bool
    ) -> None:
        path = self._directory / f"index-{vector}-{first}-{end}.faiss"
        _write_beside(lambda beside: faiss_indexes.write(index, beside), path)
        params, _ = _params(self._spec.vectors[vector])
        size, crc = path.stat().st_size, faiss_indexes.checksum(path)
        segment = Segment(vector, first, end - first, path.name, unit, params, size, crc)
        chain = self._chain(vector)
        kept = [old for old in self._known if old != grown and (old.vector != vector or old in chain)]
        self._store_manifest([*kept, segment])
        listed = {path.stem, *(Path(old.file).stem for old in kept)}
        for other in (*self._directory.glob(f"index-{vector}-*"), *self._directory.glob(f"lists-{vector}-*")):
            if other.stem.replace("lists", "index") not in listed:
                other.unlink()  # what it grew from, or what a writer that died left behind

    def _store_manifest(self, segments: list[Segment]) -> None:
        replace_file(self._manifest, json.dumps([asdict(segment) for segment in segments]).encode())

    def _lists_path(self, vector: int, first: int, stop: int) -> Path:
        return self._directory / f"lists-{vector}-{first}-{stop}.bin"

    def _store_lists(self, stored: FieldVectors, vector: int, first: int, stop: int) -> None:
        if stop - first >= lists.LISTS_FROM:
            made = lists.built(stored, first, stop)
            _write_beside(lambda path: lists.write(made, path), self._lists_path(vector, first, stop))

    def _load_lists(self, segment: Segment) -> lists.Lists | None:
        """The lists of an index, None of a small one; without them all matches of a filter are compared."""
        if segment.rows < lists.LISTS_FROM:
            return None
        path = self._lists_path(segment.vector, segment.first, segment.first + segment.rows)
        try:
            return lists.read(path, segment.rows, self._spec.vectors[segment.vector].dim)
        except FileNotFoundError:
            return None  # of an earlier version
        except (OSError, CorruptStoreError) as exc:
            _LOG.warning("%s cannot be used (%s): filters take longer until it is made again", path, exc)
            return None


def _add_to_graph(index: Any, source: FloatArray, start: int, stop: int, deadline: Deadline) -> int:
    """Adds rows until the deadline; returns where it stopped. A graph numbers rows itself: dead ones too."""
    for low in range(start, stop, _ADD_ROWS):
        high = min(low + _ADD_ROWS, stop)
        index.add(source[low:high])
        if time.monotonic() >= deadline.at:
            return high
    return stop


def _add_to_lists(
    index: Any, stored: FieldVectors, live: Mask, first: int, start: int, stop: int, deadline: Deadline
) -> int:
    """Adds live rows until the deadline, labelled from ``first`` on; returns where it stopped."""
    for low in range(start, stop, _ADD_ROWS):
        high = min(low + _ADD_ROWS, stop)
        rows = low + np.flatnonzero(live[low:high])
        index.add_with_ids(lists.comparable(stored, stored.values[rows]), rows - first)
        if time.monotonic() >= deadline.at:
            return high
    return stop


def _problem(segment: Segment, path: Path, field: VectorField) -> str | None:
    if segment.params != _params(field)[0]:
        return "it was built with other parameters"
    if path.stat().st_size != segment.size:
        return f"it has {path.stat().st_size} bytes, not {segment.size}"
    if faiss_indexes.checksum(path) != segment.crc:
        return "its checksum is wrong"
    return None


def _params(field: VectorField) -> tuple[str, int]:
    """What an index is built from, as text and as a short hash."""
    built = faiss_indexes.plan(field)
    text = json.dumps([field.dim, field.metric, parameters.to_dict(built) if built else None])
    return text, zlib.crc32(text.encode())


def _write_beside(write: Callable[[Path], None], path: Path) -> None:
    """Has a file written under another name first, so that the name never stands for half a file."""
    temporary = path.with_name(f".{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
