"""What a namespace holds at one moment: the files of one manifest, and the requests pending beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.errors import CursorExpiredError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot.manifest import PENDING, FileEntry, Manifest, NamespaceEntry
from vecbridge.stores.snapshot.parts import Parts, Promise, Rows
from vecbridge.stores.snapshot.pending import Request, RequestName, read_ipc
from vecbridge.stores.snapshot.sources import BatchSource, PartSource, Source


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """All rows of a namespace at one moment; it does not change.

    Attributes:
        manifest: That it was made from.
        entry: Of the namespace; None where it was never written to.
        names: The pending requests.
        files: The files, less what pending requests override.
        pending: Rows of the pending requests, less what later ones override.
        requests: The mapped ones among them, deletes too, by name.
        next: Number of the next row.
        moved: Highest number of a row that replaced one.
    """

    manifest: Manifest
    entry: NamespaceEntry | None
    names: tuple[RequestName, ...]
    files: Sequence[PartSource]
    pending: Sequence[PartSource | BatchSource]
    requests: dict[RequestName, Request]
    next: int
    moved: int

    @property
    def sources(self) -> list[Source]:
        """Files first, then what is pending: in the order of the numbers."""
        return [*self.files, *self.pending]

    @property
    def rows(self) -> int:
        """Live rows."""
        return sum(source.live for source in self.sources)

    @property
    def spec(self) -> CollectionSpec:
        """The collection's spec."""
        return self.manifest.spec

    @property
    def generation(self) -> int:
        """Of the namespace."""
        return 0 if self.entry is None else self.entry.generation

    def walk(
        self,
        schema: pa.Schema,
        rows: int,
        *,
        start: int = 0,
        stop: int | None = None,
        version: int | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Live rows by number.

        Args:
            schema: Columns, in canonical form.
            rows: Rows a batch, at most.
            start: Number of the first row.
            stop: Number behind the last row; None is the end.
            version: Of the manifest from which the two numbers are; None is this one.

        Yields:
            The number at which the next batch starts, and rows, which may be none.

        Raises:
            CursorExpiredError: A number means nothing any more.
            FileNotFoundError: A file was removed since.
        """
        known = self.manifest.version if version is None else version
        last = self.next if stop is None else stop
        sources = [each for each in self.sources if each.live and each.first < last]
        sources = [each for each in sources if each.first + each.span > start]
        for source, following in zip_longest(sources, sources[1:]):
            if following is not None:
                following.ahead()
            low, high = (_place(source, number, known) for number in (start, last))
            for each in source.batches(schema, low, high, rows):
                end = source.first + (source.span if each.stop == source.rows else each.stop)
                yield min(end, last), each.batch

    def find(self, ids: pa.Array, schema: pa.Schema) -> pa.RecordBatch:
        """Live rows by id, in any order."""
        found = [batch for source in self.sources if source.live for batch in source.find(ids, schema)]
        return pa.concat_batches(found) if found else pa.RecordBatch.from_pylist([], schema=schema)


def build(
    manifest: Manifest, namespace: str, names: tuple[RequestName, ...], at: Place, old: View | None
) -> View:
    """The view of a namespace.

    Args:
        manifest: The newest one.
        namespace: Its name.
        names: The pending requests, in their order.
        at: Where the collection is.
        old: A view of before, whose mapped requests are taken over.

    Raises:
        FileNotFoundError: A file was removed meanwhile.
    """
    entry = manifest.namespaces.get(namespace)
    if entry is None:
        return View(manifest, None, (), (), (), {}, 0, -1)
    files = [at.file(manifest.spec, entry, each) for each in entry.files]
    if not names:
        return View(manifest, entry, (), files, (), {}, entry.next, entry.moved)
    known = {} if old is None else old.requests
    directory = at.directory / PENDING
    requests = {
        name: known.get(name) or read_ipc(directory, name, manifest.spec)
        for name in names
        if name.kind != "upsert.part"
    }
    parts: dict[RequestName, PartSource] = {
        name: at.pending_part(manifest.spec, name) for name in names if name.kind == "upsert.part"
    }
    return _overlaid(View(manifest, entry, names, files, (), requests, entry.next, entry.moved), parts)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a collection is.

    Attributes:
        directory: Its directory.
        parts: Opens its files.
    """

    directory: Path
    parts: Parts

    def file(self, spec: CollectionSpec, entry: NamespaceEntry, file: FileEntry) -> PartSource:
        """A file of the manifest."""
        path = self.directory / entry.directory / file.name
        promise = Promise(path, file.rows, file.size, file.sha256, file.fields)
        return PartSource(promise, self.parts, spec, file.rows, file.first, file.span, file.since, entry=file)

    def pending_part(self, spec: CollectionSpec, name: RequestName) -> PartSource:
        """A pending request in a file of its own, with the numbers of its rows still to be told."""
        promise = Promise(self.directory / PENDING / str(name), None, None, None, None)
        rows = self.parts.open(promise, spec).metadata.num_rows
        return PartSource(promise, self.parts, spec, rows, 0, rows, number=name.number)


@dataclass(slots=True, eq=False)
class _Operations:
    """Every id of every pending request, in their order.

    Attributes:
        starts: Where the ids of each request start.
        distinct: The distinct ids.
        codes: Place in ``distinct`` of each id.
        last: By place in ``distinct``, the last operation on it.
        numbers: Number of the row of each upserted id; -1 for a deleted one.
    """

    starts: list[int]
    distinct: pa.Array
    codes: np.ndarray[Any, np.dtype[np.int32]]
    last: Rows
    numbers: Rows

    @classmethod
    def of(cls, ids: Sequence[pa.Array], upserts: Sequence[bool], first: int) -> _Operations:
        sizes = [len(each) for each in ids]
        starts = [0, *np.cumsum(sizes).tolist()]
        encoded = pa.concat_arrays(list(ids)).dictionary_encode()
        codes = records.numbers(encoded.indices)
        last = np.empty(len(encoded.dictionary), np.int64)
        last[codes] = np.arange(starts[-1])  # of several assignments to one place the last one stands
        numbers = np.full(starts[-1], -1, np.int64)
        for start, size, upsert in zip(starts[:-1], sizes, upserts, strict=True):
            if upsert:
                numbers[start : start + size] = np.arange(first, first + size)
                first += size
        return cls(starts, encoded.dictionary, codes, last, numbers)

    def moved(self, stored: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
        """Highest number of a live row whose id was there before; ``stored`` says which are in the files."""
        again = (np.bincount(self.codes, minlength=len(self.last)) > 1) | stored
        return int(self.numbers[self.last[again]].max(initial=-1))


def _overlaid(view: View, parts: dict[RequestName, PartSource]) -> View:
    """The view with its pending requests applied."""
    ids = [parts_ids(parts[name]) if name in parts else view.requests[name].ids for name in view.names]
    upserts = [name.kind != "delete.arrow" for name in view.names]
    done = _Operations.of(ids, upserts, view.next)
    pending: list[PartSource | BatchSource] = []
    number = view.next
    for name, start, stop in zip(view.names, done.starts, done.starts[1:], strict=False):
        if name.kind == "delete.arrow":
            continue
        kept = done.last[done.codes[start:stop]] == np.arange(start, stop)
        dead = None if kept.all() else np.flatnonzero(~kept)
        if name in parts:
            pending.append(replace(parts[name], first=number, hidden=dead))
        else:
            pending.append(BatchSource(view.requests[name], number, None if dead is None else kept))
        number += stop - start
    stored = np.zeros(len(done.distinct), np.bool_)
    files = [replace(file, hidden=_overridden(file, done.distinct, stored)) for file in view.files]
    return replace(view, files=files, pending=pending, next=number, moved=max(view.moved, done.moved(stored)))


def parts_ids(source: PartSource) -> pa.Array:
    """All ids of a file."""
    return pa.concat_arrays([ids for _, ids in source.all_ids()])


def _overridden(file: PartSource, ids: pa.Array, stored: np.ndarray[Any, np.dtype[np.bool_]]) -> Rows | None:
    """Rows of a file that have one of the ids, each of which is marked in ``stored``."""
    hidden = []
    for start, column in file.all_ids(among=ids):
        codes = pc.index_in(column, value_set=ids)
        if codes.null_count < len(codes):
            hidden.append(start + np.flatnonzero(records.booleans(pc.is_valid(codes))))
            stored[records.numbers(codes.drop_null())] = True
    return np.concatenate(hidden) if hidden else None


def _place(source: Source, number: int, version: int) -> int:
    """The row of a source at which a number stands."""
    if number <= source.first:
        return 0
    if number >= source.first + source.span:
        return source.rows
    if source.rows < source.span and version < source.since:
        raise CursorExpiredError("rows were removed from a file since the scan began: start again")
    return min(number - source.first, source.rows)
