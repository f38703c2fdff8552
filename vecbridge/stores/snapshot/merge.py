"""Merging: pending rows become files, and files with overridden rows are written anew, whole.

Nothing here changes what a reader sees: files get new names, and the entry that names them is the caller's to
commit. Rows keep their numbers, except in a compaction.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from vecbridge import records
from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError
from vecbridge.schema import CollectionSpec
from vecbridge.storage import sync_directory
from vecbridge.stores.snapshot.files import sha256_of
from vecbridge.stores.snapshot.layout import PartWriter
from vecbridge.stores.snapshot.manifest import FileEntry, NamespaceEntry
from vecbridge.stores.snapshot.parts import Parts, Promise
from vecbridge.stores.snapshot.sources import BatchSource, PartSource, Source, row_width
from vecbridge.stores.snapshot.view import View

FILE_BYTES: Final = (512 - 16) << 20  # and one batch more
_BATCH_BYTES: Final = 8 << 20


@dataclass(slots=True, eq=False)
class Output:
    """The new files of a namespace.

    Attributes:
        directory: Of the namespace.
        spec: The collection's spec.
        version: Of the manifest that will name them.
        parts: Is told of what was written, so that it is not hashed again.
        deadline: When all of it must be done.
        made: Files that were written.
    """

    directory: Path
    spec: CollectionSpec
    version: int
    parts: Parts
    deadline: Deadline | None
    made: list[Path] = field(default_factory=list)
    _writer: PartWriter | None = None
    _first: int = 0

    def add(self, first: int, batch: pa.RecordBatch) -> None:
        """Adds rows; ``first`` is the number at which a file starts if none is open."""
        self._require_time()
        if not batch.num_rows:
            return
        if self._writer is None:
            self._writer, self._first = PartWriter(self._new_path(), self.spec), first
        self._writer.add(batch)

    @property
    def full(self) -> bool:
        """Whether the file that is open is as large as files become."""
        return self._writer is not None and self._writer.size >= FILE_BYTES

    def end(self, stop: int) -> list[FileEntry]:
        """Closes the file that is open, if any; it covers the numbers up to ``stop``."""
        writer, self._writer = self._writer, None
        if writer is None:
            return []
        try:
            size = writer.finish()
        except BaseException:
            writer.discard()
            raise
        span = stop - self._first
        sha256 = sha256_of(writer.path)
        return [self._entry(writer.path, writer.rows, size, sha256, self._first, span)]

    def adopt(self, source: PartSource) -> FileEntry:
        """Takes a pending file over as it is, under a second name."""
        old, path = source.promise.path, self._new_path()
        try:
            os.link(old, path)
        except OSError:  # a file system without such links
            shutil.copyfile(old, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sha256 = self.parts.hash_of(old)
        part = self.parts.open(source.promise, source.spec)
        fields = len(part.names) - 1 - len(self.spec.vectors)
        size = path.stat().st_size
        return self._entry(path, source.rows, size, sha256, source.first, source.span, fields)

    def discard(self) -> None:
        """Removes every file that was written."""
        if self._writer is not None:
            self._writer.discard()
        for path in self.made:
            path.unlink(missing_ok=True)

    def _new_path(self) -> Path:
        path = self.directory / f"part-{self.version:08}-{len(self.made):06}.parquet"
        self.made.append(path)
        return path

    def _entry(
        self, path: Path, rows: int, size: int, sha256: str, first: int, span: int, fields: int | None = None
    ) -> FileEntry:
        count = len(self.spec.fields) if fields is None else fields
        self.parts.written(Promise(path, rows, size, sha256, count), self.spec)
        return FileEntry(path.name, rows, size, sha256, count, first, span, self.version)

    def _require_time(self) -> None:
        if self.deadline is not None and time.monotonic() >= self.deadline.at:
            raise DeadlineError(f"merging {self.directory} took too long; everything is as it was")


def merged(view: View, entry: NamespaceEntry, output: Output) -> NamespaceEntry:
    """Writes what is pending into files.

    Args:
        view: Of the namespace.
        entry: The same as ``view.entry``.
        output: Takes the new files.

    Returns:
        The entry that names the new files.

    Raises:
        DeadlineError: Time ran out.
    """
    files: list[FileEntry] = []
    schema = records.arrow_schema(view.spec)
    for source in view.files:
        assert source.entry is not None
        if source.hidden is None:
            files.append(source.entry)
        elif source.live:
            for batch in _batches(source, schema):
                output.add(source.first, batch)
            files += output.end(source.first + source.span)
    files += _appended(view.pending, schema, output)
    _sync(output)
    return replace(entry, next=view.next, moved=view.moved, merged=view.names[-1].number, files=tuple(files))


def compacted(view: View, entry: NamespaceEntry, output: Output) -> NamespaceEntry:
    """Writes small files together, and numbers all rows anew.

    Args:
        view: Of the namespace, with nothing pending.
        entry: The same as ``view.entry``.
        output: Takes the new files.

    Returns:
        The entry that names the files.

    Raises:
        DeadlineError: Time ran out.
    """
    small = [source for source in view.files if source.promise.size and source.promise.size < FILE_BYTES // 2]
    files = [source.entry for source in view.files if source.entry is not None and source not in small]
    if len(small) == 1:
        files += [source.entry for source in small if source.entry is not None]
    else:
        schema = records.arrow_schema(view.spec)
        for source in small:
            for batch in _batches(source, schema):
                output.add(0, batch)
                if output.full:
                    files += output.end(0)
        files += output.end(0)
    numbered, number = [], 0
    for file in files:
        numbered.append(replace(file, first=number, span=file.rows, since=output.version))
        number += file.rows
    _sync(output)
    return replace(entry, generation=output.version, next=number, moved=-1, files=tuple(numbered))


def _appended(
    pending: Iterable[PartSource | BatchSource], schema: pa.Schema, output: Output
) -> list[FileEntry]:
    files: list[FileEntry] = []
    end = 0
    for source in pending:
        if not source.live:
            continue
        if isinstance(source, PartSource) and source.hidden is None:
            files += output.end(end)
            files.append(output.adopt(source))
            continue
        start = source.first
        for each in source.batches(schema, 0, source.rows, _rows(schema)):
            output.add(start, each.batch)
            start = source.first + each.stop
            if output.full:
                files += output.end(start)
        end = source.first + source.span
    return files + output.end(end)


def _batches(source: Source, schema: pa.Schema) -> Iterable[pa.RecordBatch]:
    return (each.batch for each in source.batches(schema, 0, source.rows, _rows(schema)))


def _rows(schema: pa.Schema) -> int:
    return max(1, _BATCH_BYTES // row_width(schema))


def _sync(output: Output) -> None:
    if output.made:
        sync_directory(output.directory)
