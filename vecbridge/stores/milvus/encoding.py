"""Rows as requests of Milvus: what is refused, how they are cut, what is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.driver import RequestLimits, WritePart
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import wire
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.layout import DYNAMIC, Keys, Layout

_KEPT_BYTES: Final = 64 << 20  # of encoded rows between the two looks of prepare()


class MilvusEncoder:
    """Encodes the rows of one namespace; see :class:`vecbridge.driver.Encoder`.

    Args:
        spec: What the collection holds.
        layout: Where its columns are.
        keys: The namespace's primary keys.
        dialect: What the server can do.
    """

    def __init__(self, spec: CollectionSpec, layout: Layout, keys: Keys, dialect: Dialect) -> None:
        self._spec = spec
        self._layout = layout
        self._keys = keys
        self._dialect = dialect

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """Encodes the dynamic field of all rows, and cuts them by the bytes that are sent.

        Raises:
            InvalidRecordError: A row whose dynamic columns take more than 65,536 bytes of JSON, a typed list
                that is too long, or an id that Milvus does not give back.
        """
        encoded: list[pa.RecordBatch | None] = []
        problems: dict[int, str] = {}
        kept = 0
        for start in range(0, rows.num_rows, limits.rows):
            chunk = self._encoded(rows.slice(start, limits.rows))
            problems |= {start + row: problem for row, problem in self._unstorable(chunk).items()}
            kept += chunk.column(DYNAMIC).nbytes if self._layout.has_dynamic else 0
            encoded.append(chunk if kept <= _KEPT_BYTES else None)
        if problems:
            raise records.invalid(problems, rows.column("id"))
        return self._parts(rows, encoded, limits)

    def fields(self, part: WritePart) -> list[Any]:
        """The fields of the upsert that writes a part."""
        return wire.upsert_fields(self._spec, self._layout, self._keys, part.payload)

    def request_size(self, part: WritePart) -> int:
        """Bytes of its fields as protobuf."""
        return sum(field.ByteSize() for field in self.fields(part))

    def _encoded(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        merges = self._dialect.merges_upserts
        return wire.with_dynamic_field(self._spec, self._layout, rows, with_nulls=merges)

    def _unstorable(self, rows: pa.RecordBatch) -> dict[int, str]:
        """Rows that the server would hide, or refuse together with their neighbours."""
        problems: dict[int, str] = {}
        largest, most = self._dialect.largest_id, self._dialect.capabilities.record_bytes
        if self._layout.pk_type == "int64":
            for row in np.flatnonzero(records.numbers(rows.column("id")) > largest).tolist():
                problems[row] = f"Milvus never gives back an id above {largest}"
        if self._layout.has_dynamic and most is not None:
            sizes = records.numbers(pc.binary_length(rows.column(DYNAMIC)))
            for row in np.flatnonzero(sizes > most).tolist():
                problems[row] = f"its fields take {sizes[row]:,} bytes as JSON, and Milvus keeps {most:,}"
        return problems | self._too_long_lists(rows)

    def _too_long_lists(self, rows: pa.RecordBatch) -> dict[int, str]:
        problems: dict[int, str] = {}
        most = self._dialect.list_elements
        for column in self._layout.columns.values():
            values = None if column.dynamic or most is None else rows.column(column.name)
            if values is not None and pa.types.is_list(values.type):
                lengths = records.numbers(pc.fill_null(pc.list_value_length(values), 0))
                for row in np.flatnonzero(lengths > most).tolist():
                    problems[row] = (
                        f"field {column.name!r} has {lengths[row]:,} elements, and Milvus keeps {most:,}"
                    )
        return problems

    def _parts(
        self, rows: pa.RecordBatch, encoded: Sequence[pa.RecordBatch | None], limits: RequestLimits
    ) -> Iterator[WritePart]:
        for number, chunk in enumerate(encoded):
            start = number * limits.rows
            chunk = self._encoded(rows.slice(start, limits.rows)) if chunk is None else chunk
            for part in records.ranges(chunk, max_rows=limits.rows, max_bytes=limits.bytes):
                place = range(start + part.start, start + part.stop)
                yield WritePart(place, chunk.slice(part.start, len(part)))
