"""One gRPC channel to one server: every call has a deadline, nothing is retried, errors are typed."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeAlias

import grpc

from vecbridge.driver import Deadline
from vecbridge.errors import VecbridgeError
from vecbridge.transport.forks import calls_in_flight, require_fork_support, watch_forks
from vecbridge.transport.hosts import grpc_proxy, is_loopback

#: Maps gRPC's error and what was asked to ours.
ErrorTable: TypeAlias = "Callable[[grpc.RpcError, str], VecbridgeError]"

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that comes back is found within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_MAYBE_PROXY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@functools.cache
def _keep_initialized() -> grpc.Channel:
    """Makes a channel that is never used nor closed.

    gRPC shuts down when its last channel goes, in a thread of its own; a fork meanwhile hangs, in the parent
    too.
    """
    kept = grpc.insecure_channel("unix:/")
    watch_forks()
    return kept


class Call:
    """A request on its way.

    Args:
        sent: As gRPC gives it.
        failed: Maps gRPC's error.
    """

    def __init__(self, sent: grpc.Future, failed: Callable[[grpc.RpcError], VecbridgeError]) -> None:
        self._sent = sent
        self._failed = failed

    def answer(self) -> Any:
        """Waits for the answer, within the deadline of the call.

        Raises:
            VecbridgeError: As the channel's error table says.
        """
        try:
            return self._sent.result()
        except grpc.RpcError as exc:
            raise self._failed(exc) from exc

    def cancel(self) -> None:
        """Gives up the call; does nothing if the answer is there."""
        self._sent.cancel()


class Channel:
    """A channel, opened by the first call; thread-safe.

    Args:
        target: "host:port", or "unix:/path".
        stub: Makes the stub from a ``grpc.Channel``: the stub class itself.
        errors: Maps gRPC's error and what was asked, with the place added to it, to ours.
        tls: Whether the server speaks TLS.
        metadata: Sent with every call, such as ``[("authorization", "Bearer …")]``.
    """

    def __init__(
        self, target: str, *, stub: Callable[[grpc.Channel], Any], errors: ErrorTable, tls: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self.target = target
        self._make_stub = stub
        self._errors = errors
        self._tls = tls
        self._metadata = tuple(metadata)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def call(self, rpc: str, request: Any, deadline: Deadline, what: str) -> Any:
        """Sends one request and waits for its answer.

        Args:
            rpc: Name of the method ("Search").
            request: Its message.
            deadline: When the call must end.
            what: What is done, for messages; the place is added.

        Raises:
            VecbridgeError: As the error table says.
            ConfigError: gRPC cannot work in this forked process.
        """
        calls = calls_in_flight()
        calls.enter(deadline.at)
        try:
            stub = self._opened()
            return getattr(stub, rpc)(request, timeout=deadline.left(), metadata=self._metadata)
        except grpc.RpcError as exc:
            raise self._failed(exc, stub, what) from exc
        finally:
            calls.leave()

    def begin(self, rpc: str, request: Any, deadline: Deadline, what: str) -> Call:
        """Sends one request and does not wait for its answer; see :meth:`call`."""
        calls = calls_in_flight()
        calls.enter(deadline.at)
        sent = None
        try:
            stub = self._opened()
            sent = getattr(stub, rpc).future(request, timeout=deadline.left(), metadata=self._metadata)
        except grpc.RpcError as exc:  # the request cannot be encoded
            raise self._failed(exc, stub, what) from exc
        finally:
            if sent is None:
                calls.leave()
        sent.add_done_callback(lambda _: calls.leave())
        return Call(sent, lambda exc: self._failed(exc, stub, what))

    def call_each(
        self, rpc: str, requests: Iterable[Any], deadline: Deadline, what: str, at_once: int = 16
    ) -> Iterator[Any]:
        """Sends several requests; yields the answers in order.

        Args:
            rpc: Name of the method.
            requests: Its messages, taken as they can be sent.
            deadline: When all of it must end.
            what: What is done, for messages.
            at_once: Requests in flight, at most.

        Raises:
            VecbridgeError: As of :meth:`call`; the other requests are cancelled, as they are when the
                generator is closed.
        """
        coming = iter(requests)
        first = list(islice(coming, 2))
        if len(first) == 1:
            yield self.call(rpc, first[0], deadline, what)  # a call that is waited for needs no thread
            return
        waiting: deque[Call] = deque()
        try:
            for request in chain(first, coming):
                waiting.append(self.begin(rpc, request, deadline, what))
                if len(waiting) >= at_once:
                    yield waiting.popleft().answer()
            while waiting:
                yield waiting.popleft().answer()
        finally:
            for call in waiting:
                call.cancel()

    def close(self) -> None:
        """Closes the channel and ends what is in flight; the next call opens it again."""
        with self._lock:
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def _failed(self, exc: grpc.RpcError, stub: Any, what: str) -> VecbridgeError:
        """Maps an error; after an outage, lets the next call open a fresh channel.

        A channel that has failed goes on failing after the server is back, for seconds up to a minute. Calls
        in flight keep the old channel, which goes with the last of them.
        """
        if exc.code() is grpc.StatusCode.UNAVAILABLE:
            with self._lock:
                if self._stub is stub:
                    self._channel = self._stub = None
        place = f"{self.target} (gRPC)"
        if exc.code() in _MAYBE_PROXY and (proxy := grpc_proxy(self.target)):
            place = f"{place} ({proxy})"
        return self._errors(exc, f"{what} at {place}")

    def _opened(self) -> Any:
        if (stub := self._stub) is not None:
            return stub
        with self._lock:
            if self._stub is None:
                require_fork_support()
                options = list(_OPTIONS)
                if is_loopback(self.target):
                    options.append(("grpc.enable_http_proxy", 0))
                if self._tls:
                    credentials = grpc.ssl_channel_credentials()
                    self._channel = grpc.secure_channel(self.target, credentials, options=options)
                else:
                    self._channel = grpc.insecure_channel(self.target, options=options)
                self._stub = self._make_stub(self._channel)
                _keep_initialized()
            return self._stub
