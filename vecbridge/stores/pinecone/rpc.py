"""The data plane over gRPC, by Pinecone's ``GrpcIndex``."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pinecone import RetryConfig
from pinecone.grpc import GrpcIndex

from vecbridge.query import FloatArray
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.connections import Reopened
from vecbridge.stores.pinecone.layout import DEFAULT_NAMESPACE
from vecbridge.stores.pinecone.planes import Encoded, Row

_CONNECT_SECONDS: Final = 10.0


class RpcPlane:
    """See :class:`~vecbridge.stores.pinecone.planes.Plane`.

    Args:
        host: Of the index, with its scheme.
        api_key: The key.
        timeout: Seconds that a call may take.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        self._connection: Reopened[GrpcIndex] = Reopened(lambda: _opened(host, api_key, timeout))

    def encode(
        self, keys: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, Any]]
    ) -> Iterator[Encoded]:
        """Records as the client's channel takes them, with the bytes that they take as protobuf."""
        for key, vector, held in zip(keys, vectors, metadata, strict=True):
            # The client reads an array at once; of a list, each number would be an object.
            row: dict[str, Any] = {"id": key, "values": array("f", vector.tobytes())}
            size = _framed(len(key)) + _framed(4 * len(vector))
            if held:
                row["metadata"] = held
                size += _framed(_struct(held))
            yield Encoded(row, _framed(size))

    def envelope(self, namespace: str) -> int:
        """See the protocol."""
        return _framed(len(namespace))

    def upsert(self, namespace: str, rows: Sequence[Encoded]) -> None:
        """See the protocol; the client's ``upsert`` would look at every value once more."""
        with errors.mapped("upsert"):
            self._connection.get()._channel.upsert([row.content for row in rows], namespace or None)

    def query(
        self, namespace: str, vector: FloatArray, k: int, filter: Mapping[str, Any] | None, *,
        values: bool, metadata: bool,
    ) -> list[Row]:  # fmt: skip
        """See the protocol."""
        with errors.mapped("query"):
            answer = self._connection.get().query(
                top_k=k, vector=vector.tolist(), namespace=namespace, filter=filter,
                include_values=values, include_metadata=metadata,
            )  # fmt: skip
        return _rows(answer.matches)

    def fetch(self, namespace: str, keys: Sequence[str]) -> dict[str, Row]:
        """See the protocol."""
        with errors.mapped("fetch"):
            answer = self._connection.get().fetch(ids=list(keys), namespace=namespace)
        return {row.key: row for row in _rows(answer.vectors.values())}

    def matching(
        self, namespace: str, filter: Mapping[str, Any], limit: int, token: str
    ) -> tuple[list[Row], str]:
        """See the protocol."""
        with errors.mapped("fetch_by_metadata"):
            answer = self._connection.get().fetch_by_metadata(
                filter=filter, namespace=namespace, limit=limit, pagination_token=token or None
            )
        return sorted(_rows(answer.vectors.values()), key=lambda row: row.key), _next(answer)

    def keys(self, namespace: str, limit: int, token: str) -> tuple[list[str], str]:
        """See the protocol."""
        with errors.mapped("list"):
            answer = self._connection.get().list_paginated(
                limit=limit, namespace=namespace, pagination_token=token or None
            )
        return [each.id for each in answer.vectors], _next(answer)

    def delete(self, namespace: str, selector: Mapping[str, Any]) -> None:
        """See the protocol."""
        named = {"delete_all" if name == "deleteAll" else name: value for name, value in selector.items()}
        with errors.mapped("delete"):
            self._connection.get().delete(namespace=namespace, **named)

    def counts(self) -> dict[str, int]:
        """See the protocol."""
        with errors.mapped("describe_index_stats"):
            answer = self._connection.get().describe_index_stats()
        return {name: each.vector_count for name, each in answer.namespaces.items()}

    def delete_namespace(self, namespace: str) -> None:
        """See the protocol."""
        with errors.mapped(f"delete namespace {namespace!r}"):
            self._connection.get().delete_namespace(name=namespace or DEFAULT_NAMESPACE)

    def close(self) -> None:
        """See the protocol."""
        self._connection.close()


def _opened(host: str, api_key: str, timeout: float) -> GrpcIndex:
    secure = not host.startswith("http://")
    return GrpcIndex(
        host=host,
        api_key=api_key,
        secure=secure,
        grpc_scheme="https" if secure else "http",
        timeout=timeout,
        connect_timeout=min(timeout, _CONNECT_SECONDS),
        retry_config=RetryConfig(max_retries=0),
    )


def _rows(found: Iterable[Any]) -> list[Row]:
    return [
        Row(
            each.id,
            each.values or (),
            each.metadata or {},
            getattr(each, "score", 0.0),
            each.sparse_values is not None,
        )
        for each in found
    ]


def _next(answer: Any) -> str:
    return (answer.pagination.next or "") if answer.pagination else ""


def _framed(size: int) -> int:
    """Bytes of a protobuf field of so many bytes: a tag, the length, the content."""
    if size < 1 << 7:  # nearly all are
        return 2 + size
    return 1 + -(-size.bit_length() // 7) + size


def _struct(values: Mapping[str, Any]) -> int:
    """Bytes of a ``google.protobuf.Struct``: a map from names to values."""
    return sum([_framed(_text(name) + _framed(_value(value))) for name, value in values.items()])


def _value(value: Any) -> int:
    """Bytes of a ``google.protobuf.Value``."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return _framed(sum([_framed(_value(item)) for item in value]))
    return 2 if isinstance(value, bool) else 9


def _text(value: str) -> int:
    """Bytes of a field that is a text."""
    return _framed(len(value) if value.isascii() else len(value.encode()))
