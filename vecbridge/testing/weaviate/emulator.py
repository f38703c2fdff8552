"""The emulator as an object: both ports."""

from __future__ import annotations

import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import grpc

from vecbridge.closing import Closing
from vecbridge.stores.weaviate.stubs import weaviate_pb2_grpc
from vecbridge.testing.weaviate.objects import Database
from vecbridge.testing.weaviate.rest import Handler, Routes
from vecbridge.testing.weaviate.rpc import Service

_LOOPBACK: Final = "127.0.0.1"
_LARGEST_MESSAGE: Final = 104_858_000
_THREADS: Final = 16
_RPC_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.so_reuseport", 0),  # a port that somebody has is an error
)


class Emulator(Closing):
    """An emulated Weaviate on loopback, in memory; it serves from the moment it is made.

    Args:
        api_key: The key that it takes; "" takes anybody.
        port: Of REST; 0 is a free one.
        grpc_port: Of gRPC; 0 is a free one.

    Attributes:
        url: Its URL for vecbridge.

    Raises:
        OSError: Somebody has one of the ports.

    Example:
        >>> import vecbridge as vb
        >>> with Emulator() as emulator, vb.connect(emulator.url) as store:
        ...     store.collections()
        []
    """

    def __init__(self, *, api_key: str = "", port: int = 0, grpc_port: int = 0) -> None:
        database = Database()
        self._http = _HttpServer((_LOOPBACK, port), _handler(Routes(database, api_key)))
        self._threads = ThreadPoolExecutor(_THREADS)
        self._rpc = grpc.server(self._threads, options=_RPC_OPTIONS)
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(Service(database, api_key), self._rpc)
        try:
            bound = self._rpc.add_insecure_port(f"{_LOOPBACK}:{grpc_port}")
        except RuntimeError as exc:
            self._http.server_close()
            self._threads.shutdown()
            raise OSError(f"gRPC cannot have port {grpc_port}: {exc}") from exc
        self._rpc.start()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"weaviate://{_LOOPBACK}:{self._http.server_address[1]}?grpc_port={bound}"

    def close(self) -> None:
        """Stops; everything is forgotten."""
        self._rpc.stop(0).wait()
        self._threads.shutdown()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        self._thread.join()


class _HttpServer(socketserver.ThreadingTCPServer):
    """Without the look-up of the host's name that ``http.server`` begins with."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # clients keep their connections
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._connections: set[Any] = set()
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        """A connection, which is remembered."""
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection, and forgets it."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends those that clients keep open."""
        for each in list(self._connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _handler(routes: Routes) -> type[Handler]:
    return type("BoundHandler", (Handler,), {"routes": routes})
