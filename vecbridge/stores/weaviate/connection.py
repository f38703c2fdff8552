"""One Weaviate, by REST and by gRPC: every call has a deadline, nothing is retried, errors are typed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import grpc
import httpx

from vecbridge.errors import AuthError, NotFoundError, UnsupportedError, VecbridgeError
from vecbridge.stores.weaviate import errors
from vecbridge.stores.weaviate.limits import OLDEST_VERSION
from vecbridge.stores.weaviate.stubs import weaviate_pb2_grpc

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
_AT_ONCE: Final = 4  # searches in flight of one query


class Call:
    """A gRPC request on its way.

    Args:
        sent: As gRPC gives it.
        failed: What to raise for gRPC's error.
    """

    def __init__(self, sent: grpc.Future, failed: Callable[[grpc.RpcError], VecbridgeError]) -> None:
        self._sent = sent
        self._failed = failed

    def answer(self) -> Any:
        """Waits for the answer, within the deadline of the call.

        Raises:
            VecbridgeError: What the server or gRPC said; see :mod:`.errors`.
        """
        try:
            return self._sent.result()
        except grpc.RpcError as exc:
            raise self._failed(exc) from exc

    def cancel(self) -> None:
        """Wants no answer any more; nothing, if it is there."""
        self._sent.cancel()


class Connection:
    """A REST client and a gRPC channel, made when they are first needed.

    Args:
        rest: "http://host:port".
        target: "host:port" of gRPC.
        api_key: Sent with every call; "" without authorization.
        timeout: Seconds that an ordinary call may take.
    """

    def __init__(self, rest: str, target: str, *, api_key: str, timeout: float) -> None:
        self.rest_url = rest
        self.target = target
        self.timeout = timeout
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._lock = threading.RLock()
        self._client: httpx.Client | None = None
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._known_version = False

    def rest(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None, what: str = ""
    ) -> Any:
        """Sends one REST request.

        Args:
            method: "GET".
            path: Such as "/v1/schema".
            body: JSON values, or None.
            timeout: Seconds; the connection's own if None.
            what: What is done, for messages.

        Returns:
            The answer's JSON values; None if it has no body.

        Raises:
            VecbridgeError: What the server said, or that it did not; see :mod:`.errors`.
        """
        what = f"{what or f'{method} {path}'} at {self.rest_url} (REST)"
        client = self._rest_client()
        self._require_version(client)
        return self._answer(client, method, path, body, timeout, what)

    def call(self, rpc: str, request: Any, *, timeout: float | None = None, what: str = "") -> Any:
        """Sends one gRPC request.

        Args:
            rpc: Name of the method ("Search").
            request: Its message.
            timeout: Seconds; the connection's own if None.
            what: What is done, for messages.

        Raises:
            VecbridgeError: What the server or gRPC said; see :mod:`.errors`.
        """
        seconds = self.timeout if timeout is None else timeout
        stub = self._stubs()
        try:
            return getattr(stub, rpc)(request, timeout=seconds, metadata=self._metadata())
        except grpc.RpcError as exc:
            raise self._failed(exc, stub, what or rpc) from exc

    def begin(self, rpc: str, request: Any, *, what: str = "") -> Call:
        """Sends one gRPC request and does not wait for its answer; see :meth:`call`."""
        stub = self._stubs()
        sent = getattr(stub, rpc).future(request, timeout=self.timeout, metadata=self._metadata())
        return Call(sent, lambda exc: self._failed(exc, stub, what or rpc))

    def call_each(self, rpc: str, requests: Sequence[Any], *, what: str = "") -> Iterator[Any]:
        """Sends several gRPC requests, some of them at once; yields the answers in order.

        Args:
            rpc: Name of the method.
            requests: Its messages.
            what: What is done, for messages.

        Raises:
            VecbridgeError: As of :meth:`call`; the others are cancelled.
        """
        waiting: deque[Call] = deque()
        try:
            for request in requests:
                waiting.append(self.begin(rpc, request, what=what))
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().answer()
            while waiting:
                yield waiting.popleft().answer()
        finally:
            for each in waiting:
                each.cancel()

    def raft_term(self) -> str:
        """The term of the consensus, which each start of a single node raises; "" if it is not told."""
        try:
            answer = self.rest("GET", "/v1/cluster/statistics", what="ask for the server's term")
        except (AuthError, NotFoundError):
            return ""
        return max((str(each["raft"]["term"]) for each in answer.get("statistics") or []), default="")

    def close(self) -> None:
        """Closes both; the next call opens them again."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            if self._channel is not None:
                self._channel.close()
            self._client = self._channel = self._stub = None

    def _failed(self, exc: grpc.RpcError, stub: Any, what: str) -> VecbridgeError:
        """The error of a gRPC call; after an outage the next call makes a channel of its own.

        A channel that has failed goes on failing for seconds after the server is back, up to a minute.
        """
        if exc.code() is grpc.StatusCode.UNAVAILABLE:
            with self._lock:
                if self._stub is stub:  # calls in flight keep the old channel; it goes with the last of them
                    self._channel = self._stub = None
        return errors.of_rpc(exc, f"{what} at {self.target} (gRPC)")

    def _metadata(self) -> list[tuple[str, str]]:
        return list(self._headers.items())

    def _rest_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                # proxies and certificates as the environment says; nothing is followed or tried again
                self._client = httpx.Client(
                    base_url=self.rest_url, headers=self._headers, timeout=self.timeout
                )
            return self._client

    def _stubs(self) -> Any:
        if (stub := self._stub) is not None:
            return stub
        with self._lock:
            if self._stub is None:
                if self.rest_url.startswith("https:"):
                    credentials = grpc.ssl_channel_credentials()
                    self._channel = grpc.secure_channel(self.target, credentials, options=_CHANNEL_OPTIONS)
                else:
                    self._channel = grpc.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
                self._stub = weaviate_pb2_grpc.WeaviateStub(self._channel)
            return self._stub

    def _require_version(self, client: httpx.Client) -> None:
        """Refuses a server that lacks what this adapter calls, once.

        Raises:
            UnsupportedError: It is too old.
        """
        if self._known_version:
            return
        what = f"connect to {self.rest_url} (REST)"
        answer = self._answer(client, "GET", "/v1/meta", None, None, what)
        version = str(answer.get("version", "") if isinstance(answer, dict) else "")
        numbers = version.split("-")[0].split(".")[:2]
        oldest = ".".join(map(str, OLDEST_VERSION))
        if not all(each.isdigit() for each in numbers):
            raise UnsupportedError("weaviate", f"version {version!r} of a server", f"{oldest} or later")
        if tuple(map(int, numbers)) < OLDEST_VERSION:
            raise UnsupportedError("weaviate", f"a server of version {version}", f"{oldest} or later")
        self._known_version = True

    @staticmethod
    def _answer(
        client: httpx.Client, method: str, path: str, body: Any, timeout: float | None, what: str
    ) -> Any:
        try:
            response = client.request(
                method, path, json=body, timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
            )
        except httpx.HTTPError as exc:
            raise errors.of_http(exc, what) from exc
        if not response.is_success:
            raise errors.of_response(response, what)
        try:
            return response.json() if response.content else None
        except ValueError as exc:
            raise errors.of_text("no JSON in the answer: is this a Weaviate?", what) from exc
