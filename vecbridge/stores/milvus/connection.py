"""One gRPC channel to one Milvus: every call has a deadline, nothing is retried, errors are typed."""

from __future__ import annotations

import base64
import threading
from typing import Any, Final

import grpc
from pymilvus.grpc_gen import milvus_pb2_grpc

from vecbridge.stores.milvus import errors

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that comes back is found within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """A channel, made when it is first needed.

    Args:
        target: "host:port".
        token: "user:password" or an API key; "" without authorization.
        database: Which database; "" is the default one.
        tls: Whether the server speaks TLS.
        timeout: Seconds that an ordinary call may take.
    """

    def __init__(self, target: str, *, token: str, database: str, tls: bool, timeout: float) -> None:
        self.target = target
        self.database = database
        self.timeout = timeout
        self._tls = tls
        self._metadata = [("dbname", database)] if database else []
        if token:
            self._metadata.append(("authorization", base64.b64encode(token.encode()).decode()))
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def call(self, rpc: str, request: Any, *, timeout: float | None = None, what: str = "") -> Any:
        """Sends one request.

        Args:
            rpc: Name of the method ("Upsert").
            request: Its message.
            timeout: Seconds; the connection's own if None.
            what: What is done, for messages.

        Returns:
            The answer, whose status says success.

        Raises:
            VecbridgeError: What the server or gRPC said; see :mod:`.errors`.
        """
        what = f"{what or rpc} at {self.target}"
        try:
            answer = getattr(self._connected(), rpc)(
                request, timeout=self.timeout if timeout is None else timeout, metadata=self._metadata
            )
        except grpc.RpcError as exc:
            raise errors.of_rpc(exc, what) from exc
        status = answer.status if hasattr(answer, "status") else answer
        if (error := errors.of_status(status, what)) is not None:
            raise error
        return answer

    def close(self) -> None:
        """Closes the channel; the next call opens it again."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = self._stub = None

    def _connected(self) -> Any:
        if (stub := self._stub) is not None:
            return stub
        with self._lock:
            if self._stub is None:
                if self._tls:
                    credentials = grpc.ssl_channel_credentials()
                    self._channel = grpc.secure_channel(self.target, credentials, options=_CHANNEL_OPTIONS)
                else:
                    self._channel = grpc.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
                self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)
            return self._stub
