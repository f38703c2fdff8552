"""The data plane of one index, whatever carries it, and how its requests are cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

from vecbridge.driver import Deadline, RequestLimits, WritePart
from vecbridge.query import FloatArray
from vecbridge.stores.pinecone.layout import DEFAULT_NAMESPACE
from vecbridge.stores.pinecone.limits import ANSWER_BYTES, IDS_LISTED, METADATA_BYTES, REQUEST_BYTES

FLOAT_BYTES: Final = 12  # of JSON
ROW_BYTES: Final = 1_000  # of an id and a little metadata
_URL_BYTES: Final = 6_000

Item = TypeVar("Item")


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


class Payloads(NamedTuple):
    """What records have beside their vectors, row by row.

    Attributes:
        keys: Their ids at the service.
        metadata: By name.
        texts: The metadata as JSON; empty where there are none.
    """

    keys: Sequence[str]
    metadata: Sequence[Mapping[str, Any]]
    texts: Sequence[bytes]


class Encoded(NamedTuple):
    """A record as a plane sends it, and the bytes that it takes in a request."""

    content: Any
    size: int


class Plane(ABC):
    """The data plane of one index. Nothing is repeated, errors are vecbridge's.

    An absent namespace reads as empty; ``""`` is the default one. A filter is never empty. Where a next page
    starts is a text, "" where there is none.
    """

    @staticmethod
    @abstractmethod
    def encode(payloads: Payloads, vectors: FloatArray) -> Iterator[Encoded]:
        """Records as :meth:`upsert` takes them, one by one."""

    @staticmethod
    @abstractmethod
    def envelope(namespace: str) -> int:
        """Bytes that a request takes beside its records."""

    @abstractmethod
    def upsert(self, namespace: str, rows: Sequence[Encoded], deadline: Deadline) -> None:
        """Writes records, in one request."""

    @abstractmethod
    def close(self) -> None:
        """Closes its connections."""

    @abstractmethod
    def _ask(self, operation: str, body: dict[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        """One other request and its answer; names are those of the service, in snake case."""

    def query(
        self, namespace: str, vector: FloatArray, k: int, filter: Mapping[str, Any] | None,
        deadline: Deadline, *, values: bool, metadata: bool,
    ) -> list[Row]:  # fmt: skip
        """The nearest records, best first."""
        body = {"vector": vector, "top_k": k, "include_values": values, "include_metadata": metadata}
        answer = self._ask("query", body | _given(namespace=namespace, filter=filter), deadline)
        return [_row(match["id"], match) for match in answer.get("matches", ())]

    def fetch(self, namespace: str, keys: Sequence[str], deadline: Deadline) -> dict[str, Row]:
        """Records by id, at most 100."""
        answer = self._ask("fetch", {"ids": list(keys)} | _given(namespace=namespace), deadline)
        return {key: _row(key, record) for key, record in answer.get("vectors", {}).items()}

    def matching(
        self, namespace: str, filter: Mapping[str, Any], limit: int, token: str, deadline: Deadline
    ) -> tuple[list[Row], str]:
        """The records that match, in the order of their ids: a page, and where the next starts."""
        body = {"filter": filter, "limit": limit} | _given(namespace=namespace, pagination_token=token)
        answer = self._ask("fetch_by_metadata", body, deadline)
        records = answer.get("vectors", {})
        return [_row(key, records[key]) for key in sorted(records)], _next(answer)

    def keys(self, namespace: str, limit: int, token: str, deadline: Deadline) -> tuple[list[str], str]:
        """Ids in their order: a page of at most 100, and where the next starts."""
        body = {"limit": limit} | _given(namespace=namespace, pagination_token=token)
        answer = self._ask("list", body, deadline)
        return [record["id"] for record in answer.get("vectors") or ()], _next(answer)

    def delete(self, namespace: str, selector: Mapping[str, Any], deadline: Deadline) -> None:
        """Removes records: ``{"ids": […]}``, ``{"filter": {…}}`` or ``{"delete_all": True}``.

        Raises:
            NotFoundError: No such namespace.
        """
        self._ask("delete", {**selector, **_given(namespace=namespace)}, deadline)

    def counts(self, deadline: Deadline) -> dict[str, int]:
        """Records by namespace."""
        stats = self._ask("describe_index_stats", {}, deadline).get("namespaces", {})
        names = ("vector_count", "vectorCount")  # gRPC, REST
        return {
            key: int(next((held[name] for name in names if name in held), 0)) for key, held in stats.items()
        }

    def delete_namespace(self, namespace: str, deadline: Deadline) -> None:
        """Removes a namespace.

        Raises:
            NotFoundError: No such namespace.
        """
        self._ask("delete_namespace", {"namespace": namespace or DEFAULT_NAMESPACE}, deadline)


def _given(**arguments: Any) -> dict[str, Any]:
    """What is not empty, which the service would not take everywhere."""
    return {name: value for name, value in arguments.items() if value}


def _row(key: str, record: Mapping[str, Any]) -> Row:
    return Row(
        key,
        record.get("values") or (),
        record.get("metadata") or {},
        record.get("score") or 0.0,
        bool(record.get("sparse_values") or record.get("sparseValues")),
    )


def _next(answer: Mapping[str, Any]) -> str:
    return str((answer.get("pagination") or {}).get("next") or "")


def packed(rows: Iterable[Encoded], envelope: int, limits: RequestLimits) -> Iterator[WritePart]:
    """Records in requests that are as full as they get, ``envelope`` being what each takes beside them."""
    start = 0
    most = (limits.bytes or REQUEST_BYTES) - envelope
    for part in cut(rows, limits.rows, lambda row: row.size, most):
        yield WritePart(range(start, start + len(part)), part)
        start += len(part)


def whole_rows(dim: int, most: int) -> int:
    """How many records with vectors and a little metadata an answer may well hold."""
    return max(1, min(most, ANSWER_BYTES // 2 // (dim * FLOAT_BYTES + ROW_BYTES)))


def hits_with_columns(k: int, dim: int, *, values: bool, metadata: bool) -> bool:
    """Whether an answer of ``k`` hits holds what is asked of each, however large it is."""
    row = dim * FLOAT_BYTES * values + METADATA_BYTES * metadata + ROW_BYTES
    return not (values or metadata) or k <= ANSWER_BYTES // row


def fetchable(keys: Iterable[str], dim: int) -> Iterator[list[str]]:
    """Ids in parts that fit the URL of a fetch, and whose records fit its answer."""
    rows = whole_rows(dim, IDS_LISTED)
    return cut(keys, rows, lambda key: len(quote(key, safe="")) + len("&ids="), _URL_BYTES)


def cut(
    items: Iterable[Item], most: int, size: Callable[[Item], int], most_bytes: int
) -> Iterator[list[Item]]:
    """Items in parts of as many as fit; one that is too large stands alone."""
    part: list[Item] = []
    left = most_bytes
    for item in items:
        taken = size(item)
        if part and (len(part) == most or taken > left):
            yield part
            part, left = [], most_bytes
        part.append(item)
        left -= taken
    if part:
        yield part
