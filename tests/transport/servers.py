"""Real servers on loopback: gRPC with methods that take bytes, and HTTP."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from vecbridge.transport import errors
from vecbridge.transport.channel import Channel

METHODS = ("Echo", "Slow", "Metadata")


class Stub:
    """As protoc makes them: one attribute a method."""

    def __init__(self, channel: grpc.Channel) -> None:
        for name in METHODS:
            setattr(self, name, channel.unary_unary(f"/test/{name}"))
        self.Encoded = channel.unary_unary("/test/Echo", request_serializer=str.encode)


class Methods(grpc.GenericRpcHandler):
    """What the server does; counts the calls and how many ran at a time."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._run(name, request, context))

    def _run(self, name: str, request: bytes, context: Any) -> bytes:
        with self.lock:
            self.calls[name] += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self._answer(name, request, context)
        finally:
            with self.lock:
                self.running -= 1

    def _answer(self, name: str, request: bytes, context: Any) -> bytes:
        if name == "Slow":  # "SECONDS", or "SECONDS CODE words" to fail
            seconds, *failure = request.decode().split(" ", 2)
            end = time.monotonic() + float(seconds)
            while context.is_active() and time.monotonic() < end:
                time.sleep(0.005)
            if failure:
                context.abort(grpc.StatusCode[failure[0]], failure[1])
        elif name == "Metadata":
            return "\n".join(f"{key}={value}" for key, value in context.invocation_metadata()).encode()
        return request

    def idle_soon(self, calls: int) -> bool:
        """Whether so many calls came and none of them goes on, within two seconds."""
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if self.calls.total() >= calls and not self.running:
                return True
            time.sleep(0.01)
        return False


@contextmanager
def serving(address: str = "127.0.0.1:0", credentials: Any = None) -> Iterator[tuple[str, Methods]]:
    """A gRPC server; its target and what it does."""
    methods = Methods()
    server = grpc.server(
        ThreadPoolExecutor(16),
        handlers=[methods],
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}", methods
    finally:
        server.stop(None).wait()


def channel(target: str, **settings: Any) -> Channel:
    """A channel with the plain error table."""
    return Channel(target, **({"stub": Stub, "errors": errors.rpc_error} | settings))


@contextmanager
def http_server(answer: bytes = b'{"ok": true}', slow: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server, ``slow`` seconds at the path /slow; its URL and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            if self.path == "/slow":
                time.sleep(slow)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
