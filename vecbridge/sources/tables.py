"""Which reader a file of vectors takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from vecbridge.errors import ConfigError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.choosing import Selection
from vecbridge.sources.deadletters import OnDeadLetter
from vecbridge.sources.inference import SourceSchema
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.npy import NpySource
from vecbridge.sources.parquet import ParquetSource

TABLE_SUFFIXES: Final = (".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".npy")


class TableSource(Protocol):
    """A file of records with their vectors."""

    path: Path

    @property
    def is_empty(self) -> bool:
        """Whether the file has no row, good or bad."""
        ...

    @property
    def is_numbered(self) -> bool:
        """Whether ids are row numbers, which go on from file to file."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""
        ...

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """What the file holds, in vecbridge's types, or in those of the collection that it goes into."""
        ...

    def batches(
        self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter, batch_rows: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Streams the records as checked batches; what cannot be taken is a dead letter."""
        ...


def table_source(
    path: str | os.PathLike[str],
    *,
    id_column: str | None = None,
    vectors: Mapping[str, str] | None = None,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    first_id: int = 0,
    truncate_times: bool = False,
) -> TableSource:
    """The reader of a file, by its name.

    Args:
        path: ``.parquet``, ``.pq``, ``.jsonl`` (dead-letter files too), ``.ndjson``, ``.json`` or ``.npy``.
        id_column: Where the ids stand; None finds them. Not for ``.npy``.
        vectors: {column: vector field}; None finds them. Not for ``.npy``.
        selection: Which other columns are read.
        first_id: Id of the first row where ids are row numbers.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.

    Raises:
        ConfigError: Another kind of file, or one that is not there or not what its name says.
    """
    file = require_table(path)
    match file.suffix.lower():
        case ".parquet" | ".pq":
            return ParquetSource(
                file,
                id_column=id_column,
                vectors=vectors,
                selection=selection,
                first_id=first_id,
                truncate_times=truncate_times,
            )
        case ".npy":
            return NpySource(file, first_id=first_id)
        case _:
            return JsonlSource(
                file,
                id_column=id_column,
                vectors=vectors,
                selection=selection,
                truncate_times=truncate_times,
            )


def require_table(path: str | os.PathLike[str]) -> Path:
    """The path of a file that :func:`table_source` may be able to read.

    Raises:
        ConfigError: Another kind of file, or one that is not there.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if file.suffix.lower() not in TABLE_SUFFIXES:
        kind = file.suffix.lower() or "no suffix"
        raise ConfigError(f"{file}: {kind} is none of {', '.join(TABLE_SUFFIXES)}")
    return file
