"""The rows of a namespace in memory: an immutable snapshot a commit, and where each id stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.query import Ids
from vecbridge.records import booleans, number_array, numbers, python_ids
from vecbridge.schema import CollectionSpec
from vecbridge.stores.faiss.log import Frame, Rows
from vecbridge.stores.faiss.place import norm_column, padded

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Norms = np.ndarray[Any, np.dtype[np.float64]]
_UNIT_ERROR: Final = 2e-6
_FEW: Final = 128  # rows from which an Arrow kernel beats a loop; arrays from which one is better
_FEW_SLICES: Final = 32  # rows up to which slices beat Arrow's take
_DELTA_LIMIT: Final = 100_000
_CHUNK_BYTES: Final = 1 << 30  # Arrow strings have 32-bit offsets


class Chunk:
    """Rows that lie together in memory, and what was computed from them to answer sooner.

    Attributes:
        batch: The rows' columns.
        rows: How many rows.
        id_at: The id of a row, read from Arrow's memory six times as fast as Arrow does.
        coded: What :mod:`.masks` keeps, by column and first row.
    """

    __slots__ = ("batch", "coded", "id_at", "rows")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self.rows: int = batch.num_rows
        self.id_at = _id_reader(batch.column("id"))
        self.coded: dict[tuple[str, int], Any] = {}


class Version(NamedTuple):
    """Which snapshot of a namespace it is.

    Attributes:
        origin: The same object in all snapshots that were extended from one.
        total: Rows ever written.
        dead: How many of them are dead.
    """

    origin: object
    total: int
    dead: int

    def precedes(self, later: Version) -> bool:
        """Whether the other one is of the same rows and maybe of more, some of which may have died since."""
        return self.origin is later.origin and self.total <= later.total and self.dead <= later.dead


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The rows as of one commit; it never changes.

    Attributes:
        total: Rows ever written in this generation, dead ones too.
        live: bool (total,).
        live_rows: How many are live.
        norms: By vector field, the Euclidean norm of each row, float64 (total,).
        longest: By vector field, the largest of them.
        unit: Whether the vectors of a field all have length one, within rounding.
        chunks: The rows' columns, in order.
        starts: The first row of each chunk, then ``total``.
        dead: Every dead row.
        successors: What replaced each of them, -1 if nothing did.
        origin: As of :class:`Version`.
    """

    total: int
    live: Mask
    live_rows: int
    norms: Mapping[str, Norms]
    longest: Mapping[str, float]
    unit: Mapping[str, bool]
    chunks: tuple[Chunk, ...]
    starts: list[int]
    dead: tuple[Rows, ...]
    successors: tuple[Rows, ...]
    origin: object

    @classmethod
    def empty(cls, spec: CollectionSpec) -> Snapshot:
        """A namespace that nothing was written to."""
        names = [vector.name for vector in spec.vectors]
        norms = {name: np.empty(0, np.float64) for name in names}
        nothing = np.empty(0, np.bool_)
        longest, unit = dict.fromkeys(names, 0.0), dict.fromkeys(names, True)
        return cls(0, nothing, 0, norms, longest, unit, (), [0], (), (), object())

    def extended(self, frames: Iterable[Frame]) -> Snapshot:
        """The snapshot after some more commits."""
        frames = list(frames)
        batches = [frame.batch for frame in frames if frame.batch.num_rows]
        killing = [frame for frame in frames if len(frame.dead)]
        total = self.total + sum(batch.num_rows for batch in batches)
        live = _grown(self.live, total, True)
        killed = np.concatenate([frame.dead for frame in killing]) if killing else np.empty(0, np.int64)
        if len(killed):
            live = live.copy()  # readers of older snapshots keep theirs
            live[killed] = False
        chunks = _merged([*self.chunks, *map(Chunk, batches)])
        norms = {name: self._extended_norms(name, batches, total) for name in self.norms}
        fresh = {name: values[self.total :] for name, values in norms.items() if total > self.total}
        return replace(
            self,
            total=total,
            live=live,
            live_rows=self.live_rows + total - self.total - len(killed),
            norms=norms,
            longest=dict(self.longest) | {name: max(self.longest[name], fresh[name].max()) for name in fresh},
            unit=dict(self.unit) | {name: self.unit[name] and _all_unit(fresh[name]) for name in fresh},
            chunks=tuple(chunks),
            starts=[0, *accumulate(chunk.rows for chunk in chunks)],
            dead=_few((*self.dead, *(frame.dead for frame in killing))),
            successors=_few((*self.successors, *(frame.successors for frame in killing))),
        )

    @property
    def version(self) -> Version:
        """What tells it from the snapshots that it was extended from or is extended to."""
        return Version(self.origin, self.total, self.total - self.live_rows)

    def widened(self, schema: pa.Schema) -> Snapshot:
        """The same rows, with null in the columns that they lack."""
        chunks = tuple(Chunk(padded(chunk.batch, schema)) for chunk in self.chunks)
        return replace(self, chunks=chunks)

    def ids(self, rows: Rows) -> Ids:
        """Ids of one row or more, in the order asked, as Hits carries them."""
        if len(rows) > _FEW:
            return python_ids(self.take(rows, ["id"]).column("id"))
        starts, chunks = self.starts, self.chunks
        ids: list[Any] = []
        for row in rows.tolist():
            place = bisect_right(starts, row) - 1
            ids.append(chunks[place].id_at(row - starts[place]))
        return np.array(ids, np.int64) if isinstance(ids[0], int) else ids

    def take(self, rows: Rows, columns: list[str]) -> pa.RecordBatch:
        """Some columns of some rows, in the order asked; at least one chunk must exist."""
        if 0 < len(rows) <= _FEW_SLICES:
            return self._take_few(rows, columns)
        places = np.searchsorted(self.starts, rows, side="right") - 1
        if len(rows) == 0 or (places == places[0]).all():
            place = int(places[0]) if len(rows) else 0
            chunk, local = self.chunks[place].batch.select(columns), rows - self.starts[place]
            if len(rows) and (np.diff(local) == 1).all():
                return chunk.slice(int(local[0]), len(local))
            return chunk.take(number_array(local))
        order = np.argsort(places, kind="stable")
        parts = []
        for place in np.unique(places):
            mine = rows[order][places[order] == place] - self.starts[place]
            parts.append(self.chunks[place].batch.select(columns).take(number_array(mine)))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_batches(parts).take(number_array(back))

    def _take_few(self, rows: Rows, columns: list[str]) -> pa.RecordBatch:
        """The same, row by row: a slice costs 1 us, and Arrow's take 60 us a chunk."""
        starts = self.starts
        selected: dict[int, pa.RecordBatch] = {}
        parts = []
        for row in rows.tolist():
            place = bisect_right(starts, row) - 1
            batch = selected.get(place)
            if batch is None:
                batch = selected[place] = self.chunks[place].batch.select(columns)
            parts.append(batch.slice(row - starts[place], 1))
        return pa.concat_batches(parts)

    def _extended_norms(self, name: str, batches: list[pa.RecordBatch], total: int) -> Norms:
        norms = _grown(self.norms[name], total, 0)
        start = self.total
        for batch in batches:
            norms[start : start + batch.num_rows] = numbers(batch.column(norm_column(name)))
            start += batch.num_rows
        return norms


class Successors:
    """What replaced the dead rows of a snapshot.

    Args:
        snapshot: The rows.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        dead = np.concatenate([np.empty(0, np.int64), *snapshot.dead])
        order = np.argsort(dead, kind="stable")
        self._dead = dead[order]
        self._next = np.concatenate([np.empty(0, np.int64), *snapshot.successors])[order]
        self._live = snapshot.live

    def newest(self, rows: Rows, after: int) -> Rows:
        """For dead rows, the live row that stands for them now; int64 (n,).

        Args:
            rows: Dead rows, all below ``after``.
            after: Only replacements from this row on count; -1 stands for every other row.
        """
        current = self._following(rows)
        current[current < after] = -1  # a row below replaced it, and stands for itself
        while len(moved := np.flatnonzero((current >= 0) & ~self._live[current])):
            current[moved] = self._following(current[moved])
        return current

    def _following(self, rows: Rows) -> Rows:
        found: Rows = self._next[np.searchsorted(self._dead, rows)]
        return found


class IdIndex:
    """Where the live row of an id is.

    The ids of a snapshot are kept as sorted 64-bit hashes (16 bytes a row; a match is verified against
    the id itself), those written since in a dict that is folded in when it grows.
    """

    def __init__(self) -> None:
        self._hashes: Rows = np.empty(0, np.int64)
        self._rows: Rows = np.empty(0, np.int64)
        self._delta: dict[str | int, int] = {}
        self._covered = 0

    def update(self, snapshot: Snapshot) -> None:
        """Takes in the rows that were added since the last call."""
        if snapshot.total - self._covered + len(self._delta) > max(_DELTA_LIMIT, len(self._rows)):
            self._rebuild(snapshot)
            return
        for start, chunk in zip(snapshot.starts, snapshot.chunks, strict=False):
            if start + chunk.rows > self._covered:
                fresh = max(self._covered - start, 0)
                ids = chunk.batch.column("id").slice(fresh).to_pylist()
                self._delta.update(zip(ids, range(start + fresh, start + chunk.rows), strict=True))
        self._covered = snapshot.total

    def find(self, ids: pa.Array, snapshot: Snapshot) -> Rows:
        """The live row of each id, -1 where there is none; int64 (len(ids),)."""
        if not (self._delta or len(self._rows)):  # as of a new collection
            return np.full(len(ids), -1, np.int64)
        texts = ids.to_pylist()
        found = np.fromiter(map(self._delta.get, texts, repeat(-1)), np.int64, len(texts))
        if len(self._rows):
            missing = np.flatnonzero(found < 0)
            found[missing] = self._find_sorted(
                ids.take(pa.array(missing)), _hashes(ids, missing, texts), snapshot
            )
        known = np.flatnonzero(found >= 0)
        found[known[~snapshot.live[found[known]]]] = -1
        return found

    def _find_sorted(self, ids: pa.Array, hashes: Rows, snapshot: Snapshot) -> Rows:
        found = np.full(len(ids), -1, np.int64)
        position = np.searchsorted(self._hashes, hashes)
        pending = np.arange(len(ids))
        while len(pending):  # a second turn only where two ids have the same hash
            inside = position[pending] < len(self._hashes)
            pending = pending[inside]
            pending = pending[self._hashes[position[pending]] == hashes[pending]]
            if not len(pending):
                break
            rows = self._rows[position[pending]]
            same = pc.equal(snapshot.take(rows, ["id"]).column("id"), ids.take(pa.array(pending)))
            equal = booleans(same)
            found[pending[equal]] = rows[equal]
            pending = pending[~equal]
            position[pending] += 1
        return found

    def _rebuild(self, snapshot: Snapshot) -> None:
        parts = []
        for chunk in snapshot.chunks:
            ids = chunk.batch.column("id")
            parts.append(_hashes(ids, np.arange(len(ids)), None))
        hashes = np.concatenate(parts) if parts else np.empty(0, np.int64)
        rows = np.flatnonzero(snapshot.live)
        order = np.argsort(hashes[rows], kind="stable")
        self._hashes, self._rows = hashes[rows][order], rows[order]
        self._delta = {}
        self._covered = snapshot.total


def _hashes(ids: pa.Array, rows: Rows, texts: list[str] | None) -> Rows:
    if pa.types.is_integer(ids.type):
        found: Rows = numbers(ids)[rows]
        return found
    texts = ids.to_pylist() if texts is None else texts
    return np.fromiter((hash(texts[row]) for row in rows.tolist()), np.int64, len(rows))


def _grown(array: np.ndarray[Any, Any], total: int, fill: Any) -> np.ndarray[Any, Any]:
    """A longer view of the same memory where there is room, else a copy of twice the size."""
    base = array.base if isinstance(array.base, np.ndarray) else array
    if len(base) < total:
        base = np.full(max(2 * len(base), total, 1024), fill, array.dtype)
        base[: len(array)] = array
    return base[:total]


def _few(arrays: tuple[Rows, ...]) -> tuple[Rows, ...]:
    """The same numbers in a bounded number of arrays."""
    return (np.concatenate(arrays),) if len(arrays) > _FEW else arrays


def _all_unit(norms: Norms) -> bool:
    return bool((np.abs(norms - 1) <= _UNIT_ERROR).all())


def _merged(chunks: list[Chunk]) -> list[Chunk]:
    """Merges small chunks into their neighbours, so that there are about log2(rows) of them."""
    groups: list[tuple[list[Chunk], int, int]] = []
    for chunk in chunks:
        run, rows, size = [chunk], chunk.rows, chunk.batch.nbytes
        while groups and groups[-1][1] <= 2 * rows and groups[-1][2] + size < _CHUNK_BYTES:
            before, more_rows, more_bytes = groups.pop()
            run, rows, size = before + run, rows + more_rows, size + more_bytes
        groups.append((run, rows, size))
    return [
        Chunk(pa.concat_batches([chunk.batch for chunk in run])) if len(run) > 1 else run[0]
        for run, _, _ in groups
    ]


def _id_reader(ids: pa.Array) -> Callable[[int], str | int]:
    _, fixed, *text = ids.buffers()
    start, stop = ids.offset, ids.offset + len(ids)
    if not text:
        numbers = memoryview(fixed or b"").cast("q")[start:stop]
        return numbers.__getitem__
    offsets = memoryview(fixed or b"").cast("i")[start : stop + 1]
    letters = memoryview(text[0] or b"")
    return lambda row: str(letters[offsets[row] : offsets[row + 1]], "utf-8")
