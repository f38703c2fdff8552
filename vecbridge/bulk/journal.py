"""The journal of a bulk write: what was acknowledged, so that a run that was cut off can continue.

One JSON line says which run this is, one follows for each batch of the source that is settled, in the order
in which they were settled, and one when the source has ended:

    {"vecbridge_journal": 1, "source": …, "target": …, "spec": …, "options": …}
    {"batch": 0, "rows": 1000, "digest": "9f86…", "written": 998, "failed": 1, "retried": 0, "duplicates": 1}
    {"finished": true}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import JournalError
from vecbridge.store import Collection

FORMAT: Final = "vecbridge_journal"
VERSION: Final = 1


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
    """

    batch: int
    rows: int
    digest: str
    written: int
    failed: int
    retried: int
    duplicates: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """Which run a journal belongs to; it contains no secrets.

    Attributes:
        source: What is read, as the caller names it.
        target: Backend, URL of the store without login and options, collection and namespace.
        spec: The collection's spec.
        options: Options that change what the run leaves behind.
    """

    source: str
    target: Mapping[str, str | None]
    spec: Mapping[str, Any]
    options: Mapping[str, Any]

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
        return cls(source, target, collection.spec.to_dict(), options)


class Journal(Closing):
    """A journal that this process, and no other, is writing.

    Args:
        path: The file; it starts a run where there is none, and continues it where there is one.
        header: Which run that is.

    Attributes:
        continues: Whether there was a run to continue.

    Raises:
        JournalError: Another run's, a finished one, a damaged one, no journal at all, or in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], header: Header) -> None:
        self._file = AppendFile(path, JournalError)
        self._settled: dict[int, Settled] = {}
        self.continues = True
        try:
            self._start(_line({FORMAT: VERSION} | asdict(header)))
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self._file.path)

    def require_target(self, collection: Collection) -> None:
        """Refuses a collection that has been dropped since: its rows would be skipped.

        Raises:
            JournalError: Rows were acknowledged, and the collection is empty.
        """
        written = sum(settled.written for settled in self._settled.values())
        # where writes become visible late, an empty answer proves nothing
        if written and collection.capabilities.consistency == "strong" and not collection.count():
            raise JournalError(
                f"{self.path}: {written} rows were acknowledged, but {collection.spec.name!r} is empty: "
                "write with a new journal"
            )

    def recall(self, batch: int, rows: int, digest: str) -> Settled | None:
        """The entry of a batch that an earlier run settled; None if it did not.

        Raises:
            JournalError: The batch is another one than at that time.
        """
        settled = self._settled.pop(batch, None)
        if settled is not None and (settled.rows, settled.digest) != (rows, digest):
            raise JournalError(
                f"{self.path}: batch {batch} of the source has changed since: write it with a new journal"
            )
        return settled

    def settle(self, settled: Settled) -> None:
        """Adds the entry of a batch; it is on the disk when this returns.

        Raises:
            ConfigError: The journal was opened by the process that this one was forked from.
            StorageFullError: The disk is full.
            JournalError: The line cannot be written.
        """
        self._file.append(_line(asdict(settled)))

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
        self._file.append(_line({"finished": True}))

    def discard(self) -> None:
        """Removes the journal of a run that has left nothing behind, unless an earlier part of it has."""
        if not self.continues and self._file.held:
            with suppress(OSError):
                self._file.path.unlink()
        self.close()

    def close(self) -> None:
        """Gives the lock back."""
        self._file.close()

    def _start(self, header: bytes) -> None:
        lines = self._file.lines()
        first = next(lines, None)
        if first is None:
            if not header.startswith(self._file.torn[: len(FORMAT) + 2]):
                raise JournalError(f"{self.path} is no journal")
            self._file.append(header)
            self.continues = False
            return
        self._require_same_run(first, header)
        for number, line in enumerate(lines, start=2):
            values = self._values(line, number)
            if values == {"finished": True}:
                raise JournalError(f"{self.path}: that run is finished: name another file")
            try:
                settled = Settled(**values)
            except TypeError as exc:
                raise JournalError(f"{self.path}: line {number} is damaged") from exc
            self._settled[settled.batch] = settled

    def _require_same_run(self, first: bytes, header: bytes) -> None:
        theirs, ours = self._values(first, 1), json.loads(header)
        if FORMAT not in theirs:
            raise JournalError(f"{self.path} is no journal")
        if isinstance(theirs.get("spec"), dict):
            theirs["spec"], ours["spec"] = _comparable(theirs["spec"], ours["spec"])
        different = [key for key in ours if theirs.get(key) != ours[key]]
        if different:
            shown = "; ".join(f"{key} {theirs.get(key)!r}, not {ours[key]!r}" for key in different)
            raise JournalError(f"{self.path} belongs to another run: it has {shown}")

    def _values(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError as exc:
            raise JournalError(f"{self.path}: line {number} is damaged: {exc}") from exc
        if not isinstance(values, dict):
            raise JournalError(f"{self.path}: line {number} is damaged")
        return values


def _comparable(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two specs with the fields that both have: fields may be added between the parts of a run."""

    def only(spec: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
        shared = [field for field in spec.get("fields", []) if field["name"] in names]
        return {**spec, "fields": sorted(shared, key=lambda field: str(field["name"]))}

    both = {each["name"] for each in theirs.get("fields", [])} & {
        each["name"] for each in ours.get("fields", [])
    }
    return only(theirs, both), only(ours, both)


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


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
