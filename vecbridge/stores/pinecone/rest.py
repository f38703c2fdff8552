"""The data plane over REST, on the transport of Pinecone's client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson
from pinecone import RetryConfig
from pinecone._internal.config import PineconeConfig
from pinecone._internal.constants import DATA_PLANE_API_VERSION
from pinecone._internal.http_client import HTTPClient

from vecbridge.errors import BackendError
from vecbridge.query import FloatArray
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.connections import Reopened
from vecbridge.stores.pinecone.layout import DEFAULT_NAMESPACE
from vecbridge.stores.pinecone.planes import Encoded, Row

_CONNECTIONS: Final = 64
_JSON: Final = {"Content-Type": "application/json"}
#: The log sequence number of a write, and of the last write that a query sees:
#: https://docs.pinecone.io/guides/index-data/check-data-freshness
_WRITTEN: Final = "x-pinecone-request-lsn"
_SEEN: Final = "x-pinecone-max-indexed-lsn"
_TAIL: Final = b"]}"
#: An id that no record has: it is no percent-encoding of anything.
_NOBODY: Final = "%vecbridge-flush"


def transport(host: str, api_key: str, timeout: float) -> HTTPClient:
    """The client's HTTP transport, told to repeat nothing.

    Args:
        host: With its scheme; without TLS there is nothing to verify, and certificates are not loaded.
        api_key: The key.
        timeout: Seconds that a call may take.
    """
    config = PineconeConfig(
        api_key=api_key,
        host=host,
        timeout=timeout,
        ssl_verify=not host.startswith("http://"),
        connection_pool_maxsize=_CONNECTIONS,
        retry_config=RetryConfig(max_retries=0),
    )
    return HTTPClient(config, DATA_PLANE_API_VERSION)


class RestPlane:
    """See :class:`~vecbridge.stores.pinecone.planes.Plane`.

    Args:
        host: Of the index, with its scheme.
        api_key: The key.
        timeout: Seconds that a call may take.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        self._connection: Reopened[HTTPClient] = Reopened(lambda: transport(host, api_key, timeout))

    def encode(
        self, keys: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, Any]]
    ) -> Iterator[Encoded]:
        """Records as JSON; float32 is written with as few digits as it needs to be read back exactly."""
        for key, vector, held in zip(keys, vectors, metadata, strict=True):
            row: dict[str, Any] = {"id": key, "values": vector}
            if held:
                row["metadata"] = held
            content = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
            yield Encoded(content, len(content) + 1)

    def envelope(self, namespace: str) -> int:
        """See the protocol."""
        return len(_head(namespace)) + len(_TAIL)

    def upsert(self, namespace: str, rows: Sequence[Encoded]) -> None:
        """See the protocol."""
        parts = [row.content for row in rows]
        parts[0] = _head(namespace) + parts[0]
        parts[-1] += _TAIL
        self._post("/vectors/upsert", b",".join(parts))

    def query(
        self, namespace: str, vector: FloatArray, k: int, filter: Mapping[str, Any] | None, *,
        values: bool, metadata: bool,
    ) -> list[Row]:  # fmt: skip
        """See the protocol."""
        body = {"vector": vector, "topK": k, "includeValues": values, "includeMetadata": metadata}
        if filter is not None:
            body["filter"] = filter
        answer, _ = self._asked("/query", namespace, body)
        return [_row(match) for match in answer["matches"]]

    def fetch(self, namespace: str, keys: Sequence[str]) -> dict[str, Row]:
        """See the protocol."""
        params = [("ids", key) for key in keys]
        answer = self._get("/vectors/fetch", namespace, params)
        return {key: _row(found) for key, found in answer["vectors"].items()}

    def matching(
        self, namespace: str, filter: Mapping[str, Any], limit: int, token: str
    ) -> tuple[list[Row], str]:
        """See the protocol."""
        body: dict[str, Any] = {"filter": filter, "limit": limit}
        if token:
            body["paginationToken"] = token
        answer, _ = self._asked("/vectors/fetch_by_metadata", namespace, body)
        rows = [_row(found) for found in answer["vectors"].values()]
        return sorted(rows, key=lambda row: row.key), _next(answer)

    def keys(self, namespace: str, limit: int, token: str) -> tuple[list[str], str]:
        """See the protocol."""
        params = [("limit", str(limit))] + ([("paginationToken", token)] if token else [])
        answer = self._get("/vectors/list", namespace, params)
        return [each["id"] for each in answer.get("vectors") or []], _next(answer)

    def delete(self, namespace: str, selector: Mapping[str, Any]) -> None:
        """See the protocol."""
        self._asked("/vectors/delete", namespace, dict(selector))

    def counts(self) -> dict[str, int]:
        """See the protocol."""
        answer, _ = self._asked("/describe_index_stats", "", {})
        return {name: int(each.get("vectorCount", 0)) for name, each in answer["namespaces"].items()}

    def delete_namespace(self, namespace: str) -> None:
        """See the protocol."""
        path = f"/namespaces/{quote(namespace or DEFAULT_NAMESPACE, safe='')}"
        with errors.mapped(f"delete namespace {namespace!r}"):
            self._connection.get().delete(path)

    def barrier(self, namespace: str, timeout: float) -> int:
        """The log sequence number of a write that changes nothing: all that came before has a lower one.

        Raises:
            NotFoundError: No such namespace.
        """
        _, headers = self._asked("/vectors/delete", namespace, {"ids": [_NOBODY]}, timeout)
        return _number(headers, _WRITTEN)

    def seen(self, namespace: str, timeout: float) -> int:
        """The log sequence number of the last write that a query sees."""
        _, headers = self._asked("/query", namespace, {"id": _NOBODY, "topK": 1}, timeout)
        return _number(headers, _SEEN)

    def close(self) -> None:
        """See the protocol."""
        self._connection.close()

    def _asked(
        self, path: str, namespace: str, body: dict[str, Any], timeout: float | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        named = body | ({"namespace": namespace} if namespace else {})
        return self._post(path, orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY), timeout)

    def _post(self, path: str, content: bytes, timeout: float | None = None) -> tuple[Any, Mapping[str, str]]:
        with errors.mapped(path.rpartition("/")[2]):
            answer = self._connection.get().post(path, timeout, content=content, headers=dict(_JSON))
        return _read(answer.content), answer.headers

    def _get(self, path: str, namespace: str, params: list[tuple[str, str]]) -> Any:
        named = [("namespace", namespace)] if namespace else []
        with errors.mapped(path.rpartition("/")[2]):
            answer = self._connection.get().get(path, params=params + named)
        return _read(answer.content)


def _head(namespace: str) -> bytes:
    return b'{"namespace":%b,"vectors":[' % orjson.dumps(namespace)


def _read(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise BackendError(f"the answer is no JSON: {exc}") from exc


def _row(found: Mapping[str, Any]) -> Row:
    return Row(
        found["id"],
        found.get("values") or (),
        found.get("metadata") or {},
        found.get("score") or 0.0,
        bool(found.get("sparseValues")),
    )


def _next(answer: Mapping[str, Any]) -> str:
    return str((answer.get("pagination") or {}).get("next") or "")


def _number(headers: Mapping[str, str], name: str) -> int:
    if not (text := headers.get(name, "")).isdigit():
        raise BackendError(f"the service gave no {name}, so that it cannot be told what a reader sees")
    return int(text)
