"""Rows as Parquet keeps them: plain lists, required where nothing can be null, and no schema of Arrow's own.

Importers of other databases read ``list<float>`` and choke on fixed-size lists, which is what Arrow's footer
would have them make of the vectors. JSON is text, a timestamp has microseconds and UTC.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vecbridge import records
from vecbridge.errors import CorruptStoreError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot.files import NewFile

GROUP_BYTES: Final = 32 << 20
_LIST_ELEMENT: Final = "element"
_PAGE_BYTES: Final = 1 << 20


def stored_schema(spec: CollectionSpec, fields: int) -> pa.Schema:
    """The Arrow schema that a file reads as.

    Args:
        spec: The collection's spec.
        fields: How many of its scalar fields the file has.
    """
    names = [*(vector.name for vector in spec.vectors), *(field.name for field in spec.fields[:fields])]
    return pa.schema([_stored_field(field) for field in records.arrow_schema(spec, names)])


def to_stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows in canonical form as a file has them; vectors are not copied.

    Args:
        batch: All columns of the schema, which may be a slice.
        schema: As :func:`stored_schema` makes it; a list of int32 offsets must be able to hold the vectors.
    """
    arrays = [_to_stored(batch.column(field.name), field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def from_stored(batch: pa.RecordBatch, schema: pa.Schema, path: Path) -> pa.RecordBatch:
    """Rows of a file in canonical form; columns that the file does not have are null.

    Args:
        batch: Columns of a file, of the types of :func:`stored_schema`.
        schema: What is wanted, as :func:`vecbridge.records.arrow_schema` makes it.
        path: Of the file, for the message.

    Raises:
        CorruptStoreError: A vector of another length, or text that is no UTF-8.
    """
    known = set(batch.schema.names)
    try:
        arrays = [
            _from_stored(batch.column(field.name), field)
            if field.name in known
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ]
    except (pa.ArrowInvalid, ValueError) as exc:
        raise CorruptStoreError(f"{path} is damaged: {exc}") from exc
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def sliced(batch: pa.RecordBatch, most_bytes: int = GROUP_BYTES) -> Iterator[pa.RecordBatch]:
    """The rows in slices of about so many bytes."""
    return records.split(batch, max_rows=max(1, batch.num_rows), max_bytes=most_bytes)


class PartWriter:
    """Writes one Parquet file, in row groups of about 32 MB; it holds no more than one of them.

    Args:
        path: It must not exist.
        spec: The collection's spec; the file gets all of its fields.

    Attributes:
        rows: Rows so far.
    """

    def __init__(self, path: Path, spec: CollectionSpec) -> None:
        self.path = path
        self.rows = 0
        self._schema = stored_schema(spec, len(spec.fields))
        self._file = NewFile(path)
        try:
            self._writer = pq.ParquetWriter(self._file.sink, self._schema, **writer_options(spec))
        except BaseException:
            self._file.close()
            path.unlink()
            raise
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0

    @property
    def size(self) -> int:
        """Bytes of what was written and of what is held, about."""
        return self._file.size + self._held_bytes

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds rows in canonical form."""
        for part in sliced(batch):
            self._held.append(part)
            self._held_bytes += part.nbytes
            self.rows += part.num_rows
            if self._held_bytes >= GROUP_BYTES - GROUP_BYTES // 8:
                self._write_group()

    def finish(self) -> int:
        """Makes the content durable; the size of the file."""
        self._write_group()
        self._writer.close()
        return self._file.finish()

    def discard(self) -> None:
        """Removes what was written; after :meth:`finish`, nothing but the file."""
        self._held.clear()
        self._writer.is_open = False  # else it would write its footer when it is collected
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write_group(self) -> None:
        if self._held:
            stored = [to_stored(batch, self._schema) for batch in self._held]
            table = pa.Table.from_batches(stored, schema=self._schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._held, self._held_bytes = [], 0


def writer_options(spec: CollectionSpec) -> dict[str, Any]:
    """How Parquet files are written.

    Vectors are neither compressed nor looked up in a dictionary: random mantissas gain nothing by either, and
    both take longer than writing the bytes. Text is not kept in dictionaries, so that the footer says how
    large it is once decoded.
    """
    vectors = {_leaf(vector.name): "none" for vector in spec.vectors}
    scalars = {
        _leaf(field.name) if field.type.startswith("list") else field.name: "zstd" for field in spec.fields
    }
    plain = [field.name for field in spec.fields if not field.type.startswith("list")]
    return {
        "compression": {"id": "zstd"} | vectors | scalars,
        "use_dictionary": False,
        "write_statistics": ["id", *plain],
        "data_page_size": _PAGE_BYTES,
        "store_schema": False,
        "use_compliant_nested_type": True,
    }


def _leaf(name: str) -> str:
    return f"{name}.list.{_LIST_ELEMENT}"


def _stored_field(field: pa.Field) -> pa.Field:
    type = field.type
    if pa.types.is_list(type) or pa.types.is_fixed_size_list(type):
        type = pa.list_(pa.field(_LIST_ELEMENT, type.value_type, nullable=False))
    return pa.field(field.name, type, nullable=field.nullable)


def _to_stored(column: pa.Array, type: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(column.type):
        dim = column.type.list_size
        offsets = pa.array(np.arange(0, len(column) * dim + 1, dim, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, column.flatten(), type=type)
    if pa.types.is_list(type):
        return _retyped(column, type)
    return column


def _from_stored(column: pa.Array, field: pa.Field) -> pa.Array:
    type = field.type
    if pa.types.is_fixed_size_list(type):
        offsets, dim = records.numbers(column.offsets), type.list_size
        if len(offsets) and (np.diff(offsets) != dim).any():
            raise ValueError(f"a vector of {field.name!r} has not {dim} dimensions")
        first = int(offsets[0]) if len(offsets) else 0
        return pa.FixedSizeListArray.from_arrays(column.values.slice(first, len(column) * dim), type=type)
    if not pa.types.is_primitive(type):
        column.validate(full=True)
    return _retyped(column, type) if pa.types.is_list(type) else column


def _retyped(column: pa.ListArray, type: pa.DataType) -> pa.ListArray:
    """A list under another name of its elements."""
    validity, offsets = column.buffers()[:2]
    return pa.Array.from_buffers(
        type, len(column), [validity, offsets], column.null_count, column.offset, [column.values]
    )


def synced_ipc(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Writes an Arrow IPC file and makes its content durable."""
    with path.open("xb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
