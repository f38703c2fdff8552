"""The requests that an upsert would send, encoded and not sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from vecbridge import records
from vecbridge.driver import Described, Encoder, EncodesAhead, RequestLimits, WritePart
from vecbridge.front.connection import Connection
from vecbridge.schema import CollectionSpec


@dataclass(frozen=True, slots=True)
class DryRequest:
    """A write request that was not sent.

    Attributes:
        rows: How many it has.
        bytes: That it takes as encoded.
    """

    rows: int
    bytes: int


class DryRun:
    """Encodes rows as one namespace of a collection would, which need not exist; sends nothing.

    Args:
        connection: The store; it is connected.
        spec: What the collection holds.
        found: The collection where it exists.
        namespace: Which of it.
    """

    def __init__(
        self, connection: Connection, spec: CollectionSpec, found: Described | None, namespace: str
    ) -> None:
        self._connection = connection
        capabilities = connection.capabilities
        self._limits = RequestLimits(capabilities.request_rows, capabilities.request_bytes)
        driver = connection.driver
        self._encoder: Encoder = (
            cast("EncodesAhead", driver).encoder(spec, found, namespace)
            if hasattr(driver, "encoder")
            else _Guess()
        )

    def requests(self, checked: records.Checked) -> list[DryRequest]:
        """The requests that an upsert of the rows would send.

        Args:
            checked: Rows of the collection, with every column; ids are not repeated.

        Raises:
            InvalidRecordError: Names every row that the database cannot hold.
        """
        batch = checked.batch
        if not batch.num_rows:
            return []
        call = self._connection.call
        parts = call("encode", self._encoder.prepare, batch, self._limits)
        return [DryRequest(len(part.rows), self._encoder.request_size(part)) for part in parts]


class _Guess:
    """For a driver that has no encoder: rows as Arrow holds them."""

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        for part in records.ranges(rows, max_rows=limits.rows, max_bytes=limits.bytes):
            yield WritePart(part, rows.slice(part.start, len(part)))

    def request_size(self, part: WritePart) -> int:
        return int(records.row_bytes(part.payload).sum())
