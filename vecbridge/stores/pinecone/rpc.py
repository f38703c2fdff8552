"""The data plane over gRPC, by Pinecone's ``GrpcIndex``."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

import numpy as np
from pinecone import RetryConfig
from pinecone.grpc import GrpcIndex

from vecbridge.driver import Deadline
from vecbridge.query import FloatArray
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.planes import Encoded, Payloads, Plane

_CONNECT_SECONDS: Final = 10.0


class _Runtime:
    """The client's Rust runtime: its threads are in the process that used it first, and in no child of it."""

    pid: int | None = None
    planes: ClassVar[dict[int, weakref.ref[RpcPlane]]] = {}


def works_here() -> bool:
    """Whether gRPC can be used in this process: not where it was forked from one that had used it."""
    return _Runtime.pid in (None, os.getpid())


def _keep_in_child() -> None:
    """Keeps the parent's planes from being destroyed, ever: that would wait for threads that are not here."""
    for plane in list(_Runtime.planes.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(plane()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_in_child)


class RpcPlane(Plane):
    """gRPC. The client's channel repeats nothing here, and takes no proxy from the environment.

    The channel is asked directly: what is around it looks at every value once more.

    Args:
        host: Of the index, with its scheme.
        api_key: The key.
        timeout: Seconds for a request that has no deadline of its own.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        _Runtime.pid = os.getpid()
        number = id(self)
        _Runtime.planes[number] = weakref.ref(self, lambda _: _Runtime.planes.pop(number, None))
        secure = not host.startswith("http://")
        self._index = GrpcIndex(
            host=host,
            api_key=api_key,
            secure=secure,
            grpc_scheme="https" if secure else "http",
            timeout=timeout,
            connect_timeout=min(timeout, _CONNECT_SECONDS),
            retry_config=RetryConfig(max_retries=0),
        )

    @staticmethod
    def encode(payloads: Payloads, vectors: FloatArray) -> Iterator[Encoded]:
        """Records as the client's channel takes them, with the bytes that they take as protobuf."""
        numbers = np.ascontiguousarray(vectors).data.cast("B").cast("f")
        dim = vectors.shape[1]
        for place, (key, held) in enumerate(zip(payloads.keys, payloads.metadata, strict=True)):
            # The client reads a buffer at once; of a list, each number would be an object.
            row: dict[str, Any] = {"id": key, "values": numbers[place * dim : (place + 1) * dim]}
            size = _framed(len(key)) + _framed(4 * dim)
            if held:
                row["metadata"] = held
                size += _framed(_struct(held))
            yield Encoded(row, _framed(size))

    @staticmethod
    def envelope(namespace: str) -> int:
        """See :class:`Plane`."""
        return _framed(len(namespace))

    def upsert(self, namespace: str, rows: Sequence[Encoded], deadline: Deadline) -> None:
        """See :class:`Plane`."""
        with errors.mapped("upsert"):
            vectors = [row.content for row in rows]
            self._index._channel.upsert(vectors, namespace or None, timeout_s=deadline.left())

    def close(self) -> None:
        """See :class:`Plane`."""
        self._index.close()

    def _ask(self, operation: str, body: dict[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        with errors.mapped(operation):
            answer = getattr(self._index._channel, operation)(**body, timeout_s=deadline.left())
        return answer or {}


def _framed(size: int) -> int:
    """Bytes of a protobuf field of so many bytes: a tag, the length, the content."""
    if size < 1 << 7:  # nearly all are
        return 2 + size
    return 1 + -(-size.bit_length() // 7) + size


def _struct(values: Mapping[str, Any]) -> int:
    """Bytes of a ``google.protobuf.Struct``: a map from names to values."""
    return sum([_framed(_name(name) + _framed(_value(value))) for name, value in values.items()])


def _value(value: Any) -> int:
    """Bytes of a ``google.protobuf.Value``."""
    if isinstance(value, float):
        return 9
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return _framed(sum([_framed(_text(item)) for item in value]))
    return 2 if isinstance(value, bool) else 9


def _text(value: str) -> int:
    """Bytes of a field that is a text."""
    return _framed(len(value) if value.isascii() else len(value.encode()))


_name = lru_cache(maxsize=1024)(_text)  # the same few in every record
