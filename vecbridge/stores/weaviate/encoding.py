"""Rows as requests of Weaviate: what is refused, how they are cut, what is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import pyarrow as pa

from vecbridge import records
from vecbridge.driver import RequestLimits, WritePart
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import layout, wire

_EXACT_INTEGERS: Final = 2**53

#: Rows, their UUIDs, and the message that writes them.
Payload: TypeAlias = "tuple[pa.RecordBatch, Sequence[str], Any]"


class WeaviateEncoder:
    """Encodes the rows of one namespace; see :class:`vecbridge.driver.Encoder`.

    Args:
        spec: What the collection holds.
        where: Where its columns are.
        tenant: The namespace's; "" without.
    """

    def __init__(self, spec: CollectionSpec, where: layout.Layout, tenant: str) -> None:
        self._spec = spec
        self._layout = where
        self._tenant = tenant

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """Refuses rows that a foreign class cannot hold; the requests are encoded as they are asked for."""
        uuids = layout.uuids(self._layout, rows.column("id"))
        self._require_storable(rows, uuids)
        return itertools.chain.from_iterable(
            self._encoded(rows, uuids, part, limits)
            for part in records.ranges(rows, max_rows=limits.rows, max_bytes=limits.bytes)
        )

    def request_size(self, part: WritePart) -> int:
        """Bytes of its message."""
        _, _, request = part.payload
        return int(request.ByteSize())

    def _require_storable(self, rows: pa.RecordBatch, uuids: Sequence[str]) -> None:
        """Refuses rows that a collection made elsewhere cannot hold as they are."""
        if self._layout.own_ids:
            return
        problems = {
            row: "the collection was made elsewhere, and its ids are UUIDs in small letters"
            for row, uuid in enumerate(uuids)
            if not uuid
        }
        for column in self._layout.columns.values():
            if column.codec in ("int", "ints"):
                for row, value in enumerate(rows.column(column.name).to_pylist()):
                    numbers = [value] if column.codec == "int" else value
                    if value is not None and any(abs(number) > _EXACT_INTEGERS for number in numbers):
                        problems[row] = f"{column.name!r} is an INT, which is exact to 2^53"
        if problems:
            raise records.invalid(problems, rows.column("id"))

    def _encoded(
        self, rows: pa.RecordBatch, uuids: Sequence[str], part: range, limits: RequestLimits
    ) -> Iterator[WritePart]:
        """One request, or as many halves of it as are not larger than allowed once they are encoded."""
        some = rows.slice(part.start, len(part))
        its_uuids = uuids[part.start : part.stop]
        request = wire.batch_request(self._spec, self._layout, self._tenant, some, its_uuids)
        if limits.bytes is not None and len(part) > 1 and request.ByteSize() > limits.bytes:
            middle = part.start + len(part) // 2
            yield from self._encoded(rows, uuids, range(part.start, middle), limits)
            yield from self._encoded(rows, uuids, range(middle, part.stop), limits)
            return
        payload: Payload = (some, its_uuids, request)
        yield WritePart(part, payload)
