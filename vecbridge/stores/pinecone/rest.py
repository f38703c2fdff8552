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

from vecbridge.driver import Deadline
from vecbridge.errors import BackendError
from vecbridge.query import FloatArray
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.planes import Encoded, Payloads, Plane

_CONNECTIONS: Final = 64
_GET: Final = {"fetch": "/vectors/fetch", "list": "/vectors/list"}
_POST: Final = {
    "upsert": "/vectors/upsert",
    "delete": "/vectors/delete",
    "fetch_by_metadata": "/vectors/fetch_by_metadata",
    "query": "/query",
    "describe_index_stats": "/describe_index_stats",
}
#: The log sequence number of a write, and of the last write that a query sees:
#: https://docs.pinecone.io/guides/index-data/check-data-freshness
_WRITTEN: Final = "x-pinecone-request-lsn"
_SEEN: Final = "x-pinecone-max-indexed-lsn"
_TAIL: Final = b"]}"
#: An id that no record has: it is no percent-encoding of anything.
_NOBODY: Final = "%vecbridge-flush"


class RestPlane(Plane):
    """REST. The client's transport repeats nothing here, and takes no proxy from the environment.

    Args:
        host: Of the index, with its scheme; without TLS there is nothing to verify, and certificates are not
            loaded.
        api_key: The key.
        timeout: Seconds for a request that has no deadline of its own.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        config = PineconeConfig(
            api_key=api_key,
            host=host,
            timeout=timeout,
            ssl_verify=not host.startswith("http://"),
            connection_pool_maxsize=_CONNECTIONS,
            retry_config=RetryConfig(max_retries=0),
        )
        self._client = HTTPClient(config, DATA_PLANE_API_VERSION)

    @staticmethod
    def encode(payloads: Payloads, vectors: FloatArray) -> Iterator[Encoded]:
        """Records as JSON; float32 is written with as few digits as it needs to be read back exactly."""
        for key, text, vector in zip(payloads.keys, payloads.texts, vectors, strict=True):
            values = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
            held = b',"metadata":' + text if text else b""
            content = b'{"id":%b,"values":%b%b}' % (orjson.dumps(key), values, held)
            yield Encoded(content, len(content) + 1)

    @staticmethod
    def envelope(namespace: str) -> int:
        """See :class:`Plane`."""
        return len(_head(namespace)) + len(_TAIL)

    def upsert(self, namespace: str, rows: Sequence[Encoded], deadline: Deadline) -> None:
        """See :class:`Plane`."""
        parts = [row.content for row in rows]
        parts[0] = _head(namespace) + parts[0]
        parts[-1] += _TAIL
        self._answer("upsert", b",".join(parts), deadline)

    def barrier(self, namespace: str, deadline: Deadline) -> int:
        """The log sequence number of a write that changes nothing: all that came before has a lower one.

        Raises:
            NotFoundError: No such namespace.
        """
        content = orjson.dumps({"ids": [_NOBODY], "namespace": namespace})
        return _number(self._answer("delete", content, deadline), _WRITTEN)

    def seen(self, namespace: str, deadline: Deadline) -> int:
        """The log sequence number of the last write that a query sees."""
        content = orjson.dumps({"id": _NOBODY, "topK": 1, "namespace": namespace})
        return _number(self._answer("query", content, deadline), _SEEN)

    def close(self) -> None:
        """See :class:`Plane`."""
        self._client.close()

    def _ask(self, operation: str, body: dict[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        named = {_camel_case(name): value for name, value in body.items()}
        if operation in _POST:
            named = orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY)
        content = self._answer(operation, named, deadline).content
        try:
            return orjson.loads(content) if content else {}
        except orjson.JSONDecodeError as exc:
            raise BackendError(f"{operation}: the answer is no JSON: {exc}") from exc

    def _answer(self, operation: str, body: Any, deadline: Deadline) -> Any:
        """The answer as it came, with its headers, to the bytes of a POST, or to arguments by name."""
        timeout = deadline.left()
        with errors.mapped(operation):
            if operation in _POST:
                headers = {"Content-Type": "application/json"}
                return self._client.post(_POST[operation], timeout, content=body, headers=headers)
            if operation in _GET:
                return self._client.get(_GET[operation], timeout, params=body)
            return self._client.delete(f"/namespaces/{quote(body['namespace'], safe='')}", timeout)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _head(namespace: str) -> bytes:
    return b'{"namespace":%b,"vectors":[' % orjson.dumps(namespace)


def _number(answer: Any, name: str) -> int:
    if not (text := answer.headers.get(name, "")).isdigit():
        raise BackendError(f"the service gave no {name}, so that it cannot be told what a reader sees")
    return int(text)
