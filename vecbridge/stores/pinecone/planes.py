"""What one index is asked for, whatever carries it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from vecbridge.query import FloatArray
from vecbridge.stores.pinecone.limits import ANSWER_BYTES, IDS_LISTED, REQUEST_BYTES, REQUEST_ROWS

FLOAT_BYTES: Final = 12  # of JSON
_URL_BYTES: Final = 6_000


@dataclass(frozen=True, slots=True)
class Row:
    """A record of an answer.

    Attributes:
        key: Its id at the service.
        values: Its vector, where it was asked for.
        metadata: Its metadata, where they were asked for.
        score: Of a search.
        sparse: Whether it has sparse values too.
    """

    key: str
    values: Sequence[float] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    score: float = 0.0
    sparse: bool = False


class Encoded(NamedTuple):
    """A record as a request carries it.

    Attributes:
        content: What the plane makes of it.
        size: Bytes that it takes in a request.
    """

    content: Any
    size: int


class Plane(Protocol):
    """The data plane of one index. Every call has a deadline, none is repeated, errors are vecbridge's.

    An absent namespace reads as empty; ``""`` is the default one. A filter is never empty. Where a next page
    starts is a text, "" where there is none.
    """

    def encode(
        self, keys: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, Any]]
    ) -> Iterator[Encoded]:
        """Records as :meth:`upsert` takes them, one by one."""

    def envelope(self, namespace: str) -> int:
        """Bytes that a request takes beside its records."""

    def upsert(self, namespace: str, rows: Sequence[Encoded]) -> None:
        """Writes records, in one request."""

    def query(
        self, namespace: str, vector: FloatArray, k: int, filter: Mapping[str, Any] | None, *,
        values: bool, metadata: bool,
    ) -> list[Row]:  # fmt: skip
        """The nearest records, best first."""

    def fetch(self, namespace: str, keys: Sequence[str]) -> dict[str, Row]:
        """Records by id, at most 100."""

    def matching(
        self, namespace: str, filter: Mapping[str, Any], limit: int, token: str
    ) -> tuple[list[Row], str]:
        """The records that match, in the order of their ids: a page, and where the next starts."""

    def keys(self, namespace: str, limit: int, token: str) -> tuple[list[str], str]:
        """Ids in their order: a page of at most 100, and where the next starts."""

    def delete(self, namespace: str, selector: Mapping[str, Any]) -> None:
        """Removes records: ``{"ids": […]}``, ``{"filter": {…}}`` or ``{"deleteAll": True}``.

        Raises:
            NotFoundError: No such namespace.
        """

    def counts(self) -> dict[str, int]:
        """Records by namespace."""

    def delete_namespace(self, namespace: str) -> None:
        """Removes a namespace.

        Raises:
            NotFoundError: No such namespace.
        """

    def close(self) -> None:
        """Closes its connections; the next call opens them again."""


def packed(rows: Iterator[Encoded], envelope: int) -> Iterator[list[Encoded]]:
    """Records in requests that are as full as they get: 2 MB or 1,000 records.

    Args:
        rows: Records with their sizes on the wire.
        envelope: Bytes that a request takes beside them.
    """
    part: list[Encoded] = []
    size = envelope
    for row in rows:
        if part and (len(part) == REQUEST_ROWS or size + row.size > REQUEST_BYTES):
            yield part
            part, size = [], envelope
        part.append(row)
        size += row.size
    if part:
        yield part


def whole_rows(dim: int, most: int) -> int:
    """How many records with vectors and a little metadata an answer may well hold."""
    return max(1, min(most, ANSWER_BYTES // 2 // (dim * FLOAT_BYTES + 1_000)))


def fetchable(keys: Sequence[str], dim: int) -> Iterator[list[str]]:
    """Ids in parts that fit the URL of a fetch, and whose records fit its answer."""
    rows = whole_rows(dim, IDS_LISTED)
    part: list[str] = []
    size = 0
    for key in keys:
        length = len(quote(key, safe="")) + len("&ids=")
        if part and (len(part) == rows or size + length > _URL_BYTES):
            yield part
            part, size = [], 0
        part.append(key)
        size += length
    if part:
        yield part
