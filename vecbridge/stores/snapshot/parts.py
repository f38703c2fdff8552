"""Opening Parquet files that somebody else may have made: nothing of one is believed before it was checked.

A file is opened by a name that the manifest's pattern allows, through no link; its size, its hash, the rows
and the schema in its footer must be what the manifest says, and its row groups small enough to be decoded.
The hash is computed once a file and handle, and again when the file has another size or time.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vecbridge.errors import CorruptStoreError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot.files import regular_file, sha256_of
from vecbridge.stores.snapshot.layout import from_stored, stored_schema

Rows = np.ndarray[Any, np.dtype[np.int64]]

_MOST_DECODED: Final = 256 << 20
_BUFFER_BYTES: Final = 1 << 20
#: The decoded size follows from the footer; a text in a dictionary may come any number of times.
_ENCODINGS: Final = {"PLAIN", "RLE", "BIT_PACKED"}
_BITS: Final = {"BOOLEAN": 1, "INT32": 32, "FLOAT": 32}
_ARROW_SCHEMA: Final = b"ARROW:schema"


@dataclass(frozen=True, slots=True)
class Promise:
    """What is known of a file before it is opened.

    Attributes:
        path: Where it is.
        rows: How many rows it has; None where nothing says so.
        size: Its bytes; None likewise.
        sha256: Of its bytes; None likewise.
        fields: How many scalar fields it has; None is any number.
    """

    path: Path
    rows: int | None
    size: int | None
    sha256: str | None
    fields: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A file that was found to be what it should be.

    Attributes:
        path: Where it is.
        metadata: Its footer.
        names: Its columns.
    """

    path: Path
    metadata: pq.FileMetaData
    names: frozenset[str]

    def batches(
        self, schema: pa.Schema, low: int, high: int, rows: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Rows from ``low`` to ``high`` in canonical form, a row group at a time.

        Args:
            schema: The columns that are wanted, in canonical form.
            low: The first row.
            high: Behind the last row.
            rows: Rows a batch, at most.

        Yields:
            The number of the first row of the batch, and the batch.
        """
        start = 0
        groups: list[int] = []
        skipped = 0
        for group in range(self.metadata.num_row_groups):
            stop = start + self.metadata.row_group(group).num_rows
            if stop > low and start < high:
                if not groups:
                    skipped = start
                groups.append(group)
            start = stop
        at = skipped
        for batch in self._decoded(groups, schema, rows):
            first, last = max(low - at, 0), min(high - at, batch.num_rows)
            if first < last:
                yield at + first, from_stored(batch.slice(first, last - first), schema, self.path)
            at += batch.num_rows

    def groups_with(self, ids: pa.Array) -> Iterator[tuple[int, int]]:
        """Row groups that may hold one of the ids: their first row, and behind their last one."""
        lowest, highest = pc.min_max(ids).as_py().values()
        start = 0
        for number in range(self.metadata.num_row_groups):
            group = self.metadata.row_group(number)
            stop = start + group.num_rows
            statistics = group.column(0).statistics
            known = statistics is not None and statistics.has_min_max
            if not known or (statistics.min <= highest and statistics.max >= lowest):
                yield start, stop
            start = stop

    def _decoded(self, groups: list[int], schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        if not groups:
            return
        names = [name for name in schema.names if name in self.names]
        with _opened(self.path) as source:
            # without a buffer, Arrow reads the whole column of a row group at once
            file = pq.ParquetFile(source, metadata=self.metadata, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            try:
                yield from file.iter_batches(rows, row_groups=groups, columns=names, use_threads=False)
            except (OSError, pa.ArrowInvalid) as exc:
                raise CorruptStoreError(f"{self.path} cannot be decoded: {exc}") from exc


class Parts:
    """The files that were checked already, and a thread that checks or hashes others meanwhile."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int], Part]] = {}
        self._ahead: dict[str, Future[None]] = {}
        self._hashes: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "vecbridge-snapshot")  # starts no thread yet

    def open(self, promise: Promise, spec: CollectionSpec) -> Part:
        """Checks a file, unless that was done since it changed last.

        Raises:
            FileNotFoundError: There is none.
            CorruptStoreError: Names the file, and what is wrong with it.
        """
        with self._lock:
            ahead = self._ahead.pop(str(promise.path), None)
        if ahead is not None:
            wait([ahead])
        return self._open(promise, spec)

    def _open(self, promise: Promise, spec: CollectionSpec) -> Part:
        status = regular_file(promise.path)
        stamp = status.st_size, status.st_mtime_ns
        with self._lock:
            known = self._known.get(str(promise.path))
        if known is not None and known[0] == stamp:
            return known[1]
        if promise.size is not None and status.st_size != promise.size:
            raise CorruptStoreError(f"{promise.path} has {status.st_size} bytes, not {promise.size}")
        if promise.sha256 is not None and sha256_of(promise.path) != promise.sha256:
            raise CorruptStoreError(f"{promise.path} was changed: its SHA-256 is not the manifest's")
        part = checked(promise, spec)
        with self._lock:
            self._known[str(promise.path)] = stamp, part
        return part

    def open_ahead(self, promise: Promise, spec: CollectionSpec) -> None:
        """Has the file checked meanwhile; what is wrong with it is told when it is opened."""
        with self._lock, suppress(RuntimeError):  # closed
            if str(promise.path) not in self._known:
                self._ahead[str(promise.path)] = self._pool.submit(self._try, promise, spec)

    def hash_ahead(self, path: Path) -> None:
        """Has a file hashed meanwhile, which this process has written and nobody changes."""
        with self._lock, suppress(RuntimeError):  # closed
            self._hashes[str(path)] = self._pool.submit(sha256_of, path)

    def hash_of(self, path: Path) -> str:
        """The hash of a file, which may have been computed ahead."""
        with self._lock:
            ahead = self._hashes.pop(str(path), None)
        return sha256_of(path) if ahead is None else ahead.result()

    def written(self, promise: Promise, spec: CollectionSpec) -> None:
        """Notes a file that this process has written itself."""
        status = promise.path.stat()
        part = checked(promise, spec)
        with self._lock:
            self._known[str(promise.path)] = (status.st_size, status.st_mtime_ns), part

    def forget(self, paths: Sequence[Path]) -> None:
        """Forgets files that are removed."""
        with self._lock:
            for path in paths:
                self._known.pop(str(path), None)
                self._ahead.pop(str(path), None)
                self._hashes.pop(str(path), None)

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, promise: Promise, spec: CollectionSpec) -> None:
        with suppress(Exception):
            self._open(promise, spec)


def checked(promise: Promise, spec: CollectionSpec) -> Part:
    """Reads the footer of a file and compares it with what the file should be.

    Raises:
        CorruptStoreError: Names the file, and what is wrong with it.
    """
    path = promise.path
    try:
        with _opened(path) as source:
            metadata = pq.read_metadata(source)
        if metadata.metadata and _ARROW_SCHEMA in metadata.metadata:
            raise CorruptStoreError(f"{path} has a schema of Arrow's own, which snapshots do not have")
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, FileNotFoundError):
            raise
        raise CorruptStoreError(f"{path} is no Parquet file that can be read: {exc}") from exc
    fields = len(schema) - 1 - len(spec.vectors) if promise.fields is None else promise.fields
    if not 0 <= fields <= len(spec.fields) or not schema.equals(stored_schema(spec, fields)):
        raise CorruptStoreError(f"{path} has other columns than the manifest says: {_shown(schema)}")
    if promise.rows is not None and metadata.num_rows != promise.rows:
        raise CorruptStoreError(f"{path} has {metadata.num_rows} rows, not {promise.rows}")
    _require_small_groups(path, metadata)
    return Part(path, metadata, frozenset(schema.names))


def _require_small_groups(path: Path, metadata: pq.FileMetaData) -> None:
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        total += group.num_rows
        decoded = 0
        for place in range(group.num_columns):
            column = group.column(place)
            values = column.num_values * _BITS.get(column.physical_type, 64) // 8
            decoded += max(column.total_uncompressed_size, values)
            if strange := set(column.encodings) - _ENCODINGS:
                raise CorruptStoreError(
                    f"{path}: {column.path_in_schema} is encoded as {', '.join(sorted(strange))}, which "
                    "snapshots are not"
                )
        if decoded > _MOST_DECODED:
            raise CorruptStoreError(
                f"{path}: row group {number} takes {decoded >> 20} MB decoded, over {_MOST_DECODED >> 20}"
            )
    if total != metadata.num_rows:
        raise CorruptStoreError(f"{path}: its row groups have {total} rows, not {metadata.num_rows}")


def _opened(path: Path) -> pa.NativeFile:
    try:
        return pa.OSFile(str(path))
    except FileNotFoundError as exc:  # Arrow's own does not say which
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from exc


def _shown(schema: pa.Schema) -> str:
    text = ", ".join(f"{field.name}: {field.type}" for field in schema)
    return text if len(text) <= 300 else text[:300] + "…"
