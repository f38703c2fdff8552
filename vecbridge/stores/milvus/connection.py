"""Requests to one Milvus, and the statuses in its answers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from vecbridge.driver import Deadline
from vecbridge.stores.milvus import errors, wire
from vecbridge.transport.channel import Channel

T = TypeVar("T")


class Connection:
    """A channel, opened by the first call.

    Args:
        target: "host:port".
        token: "user:password" or an API key; "" without authorization.
        database: Which database; "" is the default one.
        tls: Whether the server speaks TLS.
    """

    def __init__(self, target: str, *, token: str = "", database: str = "", tls: bool = False) -> None:
        metadata = [("dbname", database)] if database else []
        if token:
            metadata.append(("authorization", base64.b64encode(token.encode()).decode()))
        self.target = target
        self._channel = Channel(
            target, stub=milvus_pb2_grpc.MilvusServiceStub, errors=errors.of_rpc, tls=tls, metadata=metadata
        )

    def call(self, rpc: str, deadline: Deadline, what: str = "", **fields: Any) -> Any:
        """Sends one request.

        Args:
            rpc: Name of the method ("Upsert").
            deadline: When the call must end.
            what: What is done, for messages.
            **fields: Of the method's message ("UpsertRequest"); a dict becomes key-value pairs.

        Returns:
            The answer, whose status says success.

        Raises:
            VecbridgeError: What the server or gRPC said; see :mod:`.errors`.
        """
        what = what or rpc
        for name, value in fields.items():
            if isinstance(value, dict):
                fields[name] = wire.pairs(value)
        request = getattr(milvus_pb2, f"{rpc}Request")(**fields)
        answer = self._channel.call(rpc, request, deadline, what)
        status = answer.status if hasattr(answer, "status") else answer
        if (error := errors.of_status(status, f"{what} at {self.target}")) is not None:
            raise error
        return answer

    def undisturbed(self, read: Callable[[], T]) -> T | None:
        """What a read answers if no write was under way meanwhile; None where that cannot be known."""
        return None

    def counted(self, collection: str, expression: str) -> int | None:
        """How many rows satisfy an expression, if that is known without a request; else None."""
        return None

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()
