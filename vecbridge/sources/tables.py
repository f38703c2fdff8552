"""Which reader a file of vectors takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from vecbridge.errors import ConfigError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import OnDeadLetter
from vecbridge.sources.inference import SourceSchema
from vecbridge.sources.jsonl import JsonlSource
from vecbridge.sources.npy import NpySource
from vecbridge.sources.parquet import ParquetSource

TABLE_SUFFIXES: Final = (".parquet", ".pq", ".jsonl", ".ndjson", ".npy")


class TableSource(Protocol):
    """A file of records with their vectors."""

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
    first_id: int = 0,
    truncate_times: bool = False,
) -> TableSource:
    """The reader of a file, by its name.

    Args:
        path: ``.parquet``, ``.pq``, ``.jsonl`` (dead-letter files too), ``.ndjson`` or ``.npy``.
        id_column: Where the ids stand; None finds them. Not for ``.npy``.
        vectors: {column: vector field}; None finds them. Not for ``.npy``.
        first_id: Id of the first row of a ``.npy`` file.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.

    Raises:
        ConfigError: Another kind of file, or one that is not there or not what its name says.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    match file.suffix.lower():
        case ".parquet" | ".pq":
            return ParquetSource(file, id_column=id_column, vectors=vectors, truncate_times=truncate_times)
        case ".jsonl" | ".ndjson":
            return JsonlSource(file, id_column=id_column, vectors=vectors, truncate_times=truncate_times)
        case ".npy":
            return NpySource(file, first_id=first_id)
        case suffix:
            raise ConfigError(f"{file}: {suffix or 'no suffix'} is none of {', '.join(TABLE_SUFFIXES)}")
