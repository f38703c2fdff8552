"""The journal of a bulk write: what was acknowledged, so that a run that was cut off can continue.

One JSON line says which run this is, one follows for each batch of the source that is settled, in the order
in which they were settled, and one when the source has ended:

    {"vecbridge_journal": 1, "source": …, "target": …, "spec": …, "options": …, "identity": …}
    {"batch": 0, "rows": 1000, "digest": "9f86…", "written": 998, "failed": 1, "retried": 0, "duplicates": 1}
    {"finished": true}

A finished journal goes on where the source has become longer: lines for its new rows follow, and another
that says that it has ended. If its last batch has become longer, the new rows of that batch have a line of
their own, with the position of the first of them: ``"first": 1000``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.bulk.journalfile import FORMAT, JournalFile, json_line
from vecbridge.errors import JournalError
from vecbridge.store import Collection

VERSION: Final = 1


class Recorded(Protocol):
    """A batch that is settled."""

    def settled(self) -> Settled:
        """Its entry."""
        ...


class RawRows(Protocol):
    """Rows of a source, of which a journal needs the digest."""

    @property
    def rows(self) -> int:
        """How many."""
        ...

    def slice(self, first: int, rows: int) -> RawRows:
        """Some of them, in a row."""
        ...

    def digest(self) -> str:
        """Of what they hold."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch of the source of which every row is acknowledged or a dead letter.

    Attributes:
        batch: Its number, from 0.
        rows: Its rows.
        digest: Of its content, from :func:`digest`.
        written: Rows acknowledged.
        failed: Rows that became dead letters.
        retried: Attempts beyond the first.
        duplicates: Rows that repeat an id: of this batch, or of one that this run had written before.
        skipped: Rows left out because their ids were there.
        first: Position of its first row in the batch: not 0 where the batch had fewer rows in an earlier run.
    """

    batch: int
    rows: int
    digest: str
    written: int
    failed: int
    retried: int
    duplicates: int
    skipped: int = 0
    first: int = 0

    def line(self) -> bytes:
        """It, in the journal."""
        values = asdict(self)
        return json_line(values if self.first else {key: values[key] for key in values if key != "first"})


@dataclass(frozen=True, slots=True)
class Header:
    """Which run a journal belongs to; it contains no secrets.

    Attributes:
        source: What is read, as the caller names it.
        target: Backend, URL of the store without login and options, collection and namespace.
        spec: The collection's spec.
        options: Options that change what the run leaves behind.
        identity: Of the collection: another one after it was dropped and made anew.
    """

    source: str
    target: Mapping[str, str | None]
    spec: Mapping[str, Any]
    options: Mapping[str, Any]
    identity: str

    @classmethod
    def of(cls, collection: Collection, source: str, options: Mapping[str, Any]) -> Header:
        """The header of a run that writes into a collection."""
        place = replace(collection.url, user="", password="", options={}, collection="", namespace=None)
        target = {
            "backend": collection.capabilities.backend,
            "url": str(place),
            "collection": collection.spec.name,
            "namespace": collection.namespace,
        }
        return cls(source, target, collection.spec.to_dict(), options, collection.identity)


class Journal(JournalFile):
    """The journal of :func:`vecbridge.write`: which batches are settled.

    Args:
        path: The file; it starts a run where there is none, and continues it where there is one.
        header: Which run that is.

    Raises:
        JournalError: Another run's, a damaged one, no journal at all, or in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], header: Header) -> None:
        self._settled: dict[int, list[Settled]] = {}
        super().__init__(path, {FORMAT: VERSION} | asdict(header))

    def take(self, values: dict[str, Any]) -> None:
        """Notes that an earlier run has settled a batch, or its first rows."""
        settled = Settled(**values)
        self._settled.setdefault(settled.batch, []).append(settled)

    def require_target(self, collection: Collection, *, is_new: bool = False) -> None:
        """Refuses a collection that has been dropped since: its rows would be skipped.

        Args:
            collection: Where this run writes.
            is_new: This run has just made it.

        Raises:
            JournalError: Rows were acknowledged, and the collection is empty.
        """
        written = sum(each.written for entries in self._settled.values() for each in entries)
        require_rows(self.path, written, collection, is_new=is_new)

    def recall(self, batch: int, raw: RawRows) -> list[Settled]:
        """What earlier runs have settled of a batch: from its first row on, without a gap.

        The rows behind are new: a last batch may have become longer.

        Raises:
            JournalError: The batch is another one than at that time.
        """
        entries = sorted(self._settled.pop(batch, []), key=lambda each: each.first)
        known = 0
        for settled in entries:
            same = settled.first == known and known + settled.rows <= raw.rows
            if not same or raw.slice(known, settled.rows).digest() != settled.digest:
                raise self._changed(batch)
            known += settled.rows
        if entries and known < raw.rows and max(self._settled, default=-1) > batch:
            raise self._changed(batch)
        return entries

    def digest(self, raw: RawRows) -> str:
        """What tells whether rows are still the same."""
        return raw.digest()

    def record(self, batch: Recorded) -> None:
        """Adds the entry of a batch, as :meth:`settle` does."""
        self.settle(batch.settled())

    def settle(self, settled: Settled) -> None:
        """Adds the entry of a batch; it is on the disk when this returns.

        Raises:
            ConfigError: The journal was opened by the process that this one was forked from.
            StorageFullError: The disk is full.
            JournalError: The line cannot be written.
        """
        self.append(settled.line())

    def finish(self) -> None:
        """Adds the entry that says that the source has ended.

        Raises:
            StorageFullError: The disk is full.
            JournalError: The source had more batches once, or the line cannot be written.
        """
        if self._settled:
            raise JournalError(
                f"{self.path}: the source ends before batch {min(self._settled)}, which was written already: "
                "write it with a new journal"
            )
        self.complete()

    def _changed(self, batch: int) -> JournalError:
        return JournalError(
            f"{self.path}: batch {batch} of the source has changed since: write it with a new journal"
        )


def require_rows(path: str, written: int, collection: Collection, *, is_new: bool) -> None:
    """Refuses a collection without the rows that a journal knows.

    Raises:
        JournalError: It is empty, or was made just now.
    """
    # where writes become visible late, an empty answer proves nothing
    can_tell = is_new or collection.capabilities.consistency == "strong"
    if written and can_tell and not collection.count():
        raise JournalError(
            f"{path}: {written} rows were acknowledged, but {collection.spec.name!r} is empty: "
            "write with a new journal"
        )


def digest(batch: pa.RecordBatch) -> str:
    """A digest of what a batch holds, whatever its slices, offsets and padding; 32 hexadecimal digits."""
    state = hashlib.sha256()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        state.update(f"{name}\0{column.type}\0".encode())
        _update(state, column)
    return state.hexdigest()[:32]


def _update(state: Any, column: pa.Array) -> None:
    type = column.type
    state.update(np.array([len(column), column.null_count]).tobytes())
    if column.null_count:
        state.update(np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False)).tobytes())
        column = column.drop_null()  # what lies below a null is anything
    if pa.types.is_fixed_size_list(type):
        _update(state, column.flatten())
    elif pa.types.is_list(type):
        state.update(pc.list_value_length(column).to_numpy().tobytes())
        _update(state, column.flatten())
    elif pa.types.is_string(type):
        state.update(pc.binary_length(column).to_numpy().tobytes())
        whole = pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)
        state.update(pc.binary_join(whole, "")[0].as_buffer())
    elif pa.types.is_boolean(type) or pa.types.is_integer(type) or pa.types.is_floating(type):
        state.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)))
    elif pa.types.is_timestamp(type):
        state.update(np.ascontiguousarray(column.cast(pa.int64()).to_numpy()))
    else:
        state.update(repr(column.to_pylist()).encode("utf-8", "surrogatepass"))
