"""Rows as requests of Pinecone: what is refused, how they are cut, what is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from vecbridge import records
from vecbridge.driver import RequestLimits, WritePart
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import planes, wire
from vecbridge.stores.pinecone.layout import Layout
from vecbridge.stores.pinecone.planes import Encoded, Payloads, Plane

_SLICE: Final = 5_000  # rows whose metadata are made at a time
_KEPT_BYTES: Final = 64 << 20  # of metadata that are made once, and sent later
_ROW_BYTES: Final = 600  # of a record's id and metadata in memory, beside texts, as values and as JSON


class PineconeEncoder:
    """Encodes the rows of one namespace; see :class:`vecbridge.driver.Encoder`.

    Args:
        spec: What the collection holds.
        layout: Where its columns are.
        namespace: Its name in vecbridge.
        plane: The data plane, or its class.
    """

    def __init__(
        self, spec: CollectionSpec, layout: Layout, namespace: str, plane: Plane | type[Plane]
    ) -> None:
        self._spec = spec
        self._layout = layout
        self._wire_namespace = layout.wire_namespace(namespace)
        self._plane = plane

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """Encodes rows and packs them by the bytes that they take on the wire.

        Raises:
            InvalidRecordError: Ids of more than 512 bytes of ASCII, fields of more than 40,960 bytes of
                JSON, and what an index made elsewhere cannot hold.
        """
        slices = [rows.slice(start, _SLICE) for start in range(0, rows.num_rows, _SLICE)]
        kept: list[Payloads | None] = []
        problems: dict[int, str] = {}
        room = _KEPT_BYTES
        for number, part in enumerate(slices):
            payloads = wire.payloads(self._layout, part)
            refused = wire.problems(self._layout, part, payloads)
            problems |= {number * _SLICE + row: problem for row, problem in refused.items()}
            room -= 2 * sum(map(len, payloads.texts)) + _ROW_BYTES * part.num_rows
            kept.append(payloads if room > 0 else None)
        if problems:
            raise records.invalid(problems, rows.column("id"))
        envelope = self._plane.envelope(self._wire_namespace)
        return planes.packed(self._encoded(slices, kept), envelope, limits)

    def request_size(self, part: WritePart) -> int:
        """Bytes of a request as its plane sends it."""
        rows: Sequence[Encoded] = part.payload
        return self._plane.envelope(self._wire_namespace) + sum(row.size for row in rows)

    def _encoded(
        self, slices: Sequence[pa.RecordBatch], kept: Sequence[Payloads | None]
    ) -> Iterator[Encoded]:
        for part, payloads in zip(slices, kept, strict=True):
            vectors = records.vectors(part, self._spec.vector.name)
            yield from self._plane.encode(payloads or wire.payloads(self._layout, part), vectors)
