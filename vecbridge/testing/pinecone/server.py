"""HTTP: a listener for the control plane, and one for each index on a port of its own.

As at the service, an index has one host for REST and gRPC: a connection that begins like HTTP/2 is handed on
to the gRPC server.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from vecbridge.testing.pinecone.errors import ApiError, invalid, not_found
from vecbridge.testing.pinecone.traffic import Dropped

LOOPBACK = "127.0.0.1"

#: The versions of the API whose forms are spoken.
VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")

#: Method, path and name of an operation; what stands in braces is a member of the request.
Route = tuple[str, str, str]


class Request:
    """One HTTP request.

    Attributes:
        operation: The name of its route.
        key: The API key that came with it.
        version: Of the API.
        size: Of its body, in bytes.
    """

    def __init__(self, operation: str, path: Mapping[str, str], handler: Handler) -> None:
        self.operation = operation
        self.key = handler.headers.get("Api-Key")
        self.version = handler.headers.get("X-Pinecone-Api-Version", "")
        self._content = handler.rfile.read(_length(handler))
        self._required = handler.command in ("POST", "PATCH")
        self.size = len(self._content)
        self._path = path
        self._query = parse_qs(urlsplit(handler.path).query, keep_blank_values=True)

    def body(self) -> dict[str, Any]:
        """The members of a request to the service.

        Raises:
            ApiError: It names no version of the API that is known, or its body is not a JSON object.
        """
        if self.version not in VERSIONS:
            raise invalid(f"X-Pinecone-Api-Version must be one of {', '.join(VERSIONS)}")
        return self.members()

    def members(self) -> dict[str, Any]:
        """The members of its body, its query string and its path.

        Raises:
            ApiError: The body is not a JSON object.
        """
        try:
            content = orjson.loads(self._content) if self._content or self._required else {}
        except orjson.JSONDecodeError as error:
            raise invalid(f"Failed to parse the request body as JSON: {error}") from None
        if not isinstance(content, dict):
            raise ApiError("UNPROCESSABLE_ENTITY", "The request body is not a JSON object")
        query = {
            name: values if name == "ids" else _number(name, values[-1])
            for name, values in self._query.items()
        }
        return content | query | {name: unquote(value) for name, value in self._path.items()}


def _length(handler: Handler) -> int:
    length = handler.headers.get("Content-Length", "0")
    return int(length) if length.isdigit() else 0


def _number(name: str, value: str) -> str | int:
    if name != "limit":
        return value
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise invalid(f"Invalid value for limit: '{value}'")
    return int(value)


class Plane(Protocol):
    """What a listener serves."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """What it answers."""

    def answer(self, request: Request) -> tuple[int, Mapping[str, str], Any]:
        """The status, the headers and the body of the answer (None: none)."""

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """The body of a refusal."""

    def relay(self, connection: socket.socket) -> None:
        """Serves a connection that speaks HTTP/2."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # head and body leave as one
    server: Listener

    def handle(self) -> None:
        """Serves it until it is closed."""
        with contextlib.suppress(ConnectionError):
            if self.connection.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL) == b"PRI ":
                self.server.plane.relay(self.connection)
            else:
                super().handle()

    def log_message(self, *_: object) -> None:
        """Nothing: the log is the emulator's own."""

    def _dispatch(self) -> None:
        plane = self.server.plane
        try:
            status, headers, body = plane.answer(self._routed(plane.routes))
        except ApiError as error:
            status, headers, body = error.status, error.headers, plane.error_body(error)
        except Dropped:
            self.close_connection = True
            return
        content = b"" if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every method comes here, those that no route has as well
            return self._dispatch
        raise AttributeError(name)

    def _routed(self, routes: tuple[Route, ...]) -> Request:
        path, allowed = urlsplit(self.path).path, []
        for method, template, operation in routes:
            found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template), path)
            if found and method == self.command:
                return Request(operation, found.groupdict(), self)
            if found:
                allowed.append(method)
        self.rfile.read(_length(self))
        if allowed:
            raise ApiError("METHOD_NOT_ALLOWED", "Method not allowed", headers={"Allow": ", ".join(allowed)})
        raise not_found("Not Found")


class Listener(socketserver.ThreadingTCPServer):
    """Serves a plane from a thread of its own.

    Args:
        plane: What to serve.
        port: 0 for a free one.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, plane: Plane, port: int = 0) -> None:
        super().__init__((LOOPBACK, port), Handler)
        self.plane = plane
        self.host = f"http://{LOOPBACK}:{self.server_address[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Ends it, and every connection."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def splice(left: socket.socket, right: socket.socket) -> None:
    """Passes bytes both ways until both sides have ended."""
    back = threading.Thread(target=_pump, args=(right, left), daemon=True)
    back.start()
    _pump(left, right)
    back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
