"""The data plane over gRPC: one server for all indexes, behind their listeners."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from vecbridge.testing.pinecone.control import Index
from vecbridge.testing.pinecone.errors import ApiError, invalid
from vecbridge.testing.pinecone.messages import CLASSES, METHODS, fill, to_body
from vecbridge.testing.pinecone.server import LOOPBACK, splice
from vecbridge.testing.pinecone.traffic import Dropped, Traffic

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class RpcServer:
    """Serves every index; which one is asked, and over which connection, the relay knows.

    Args:
        traffic: The key, the faults and the log.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._relayed: dict[str, tuple[Index, socket.socket]] = {}
        # The limit on a message's size is checked where the limits are, and answered in the service's words.
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._threads = ThreadPoolExecutor(32)
        self._server = grpc.server(self._threads, options=options)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(*METHODS[name])) for name in METHODS
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("VectorService", handlers)]
        )
        self._port = self._server.add_insecure_port(f"{LOOPBACK}:0")
        self._server.start()

    def relay(self, index: Index, connection: socket.socket) -> None:
        """Serves one connection to an index, until it ends."""
        with socket.create_connection((LOOPBACK, self._port)) as upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = f"ipv4:{LOOPBACK}:{upstream.getsockname()[1]}"
            self._relayed[peer] = index, connection
            splice(connection, upstream)
            del self._relayed[peer]

    def close(self) -> None:
        """Ends it."""
        self._server.stop(0).wait()
        self._threads.shutdown(wait=False)

    def _handler(self, operation: str, request: str, answer: str) -> Callable[[bytes, Any], bytes]:
        def handle(content: bytes, context: Any) -> bytes:
            try:
                index, connection = self._relayed[context.peer().replace("%3A", ":")]
            except KeyError:  # it was dropped since this request came in
                context.abort(grpc.StatusCode.UNAVAILABLE, "The connection was dropped")
            key = dict(context.invocation_metadata()).get("api-key")
            try:
                replied = self._traffic.answer(
                    index, "grpc", operation, key, len(content), lambda: _parsed(request, content)
                )
            except ApiError as error:
                context.set_trailing_metadata(
                    [(name.lower(), value) for name, value in error.headers.items()]
                )
                context.abort(_STATUS[error.number], error.message)
            except Dropped:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                context.abort(grpc.StatusCode.UNAVAILABLE, "The connection was dropped")
            context.send_initial_metadata(tuple(replied.headers.items()))
            return bytes(fill(CLASSES[answer](), replied.body).SerializeToString())

        return handle


def _parsed(request: str, content: bytes) -> dict[str, Any]:
    try:
        return to_body(CLASSES[request].FromString(content))
    except (DecodeError, ValueError) as error:
        raise invalid(f"Failed to read the request: {error}") from None
