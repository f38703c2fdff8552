"""The tables of errors."""

from __future__ import annotations

import grpc
import httpx
import pytest

from vecbridge.errors import (
    AuthError,
    BackendError,
    CollectionExistsError,
    DeadlineError,
    NotFoundError,
    RateLimitedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.transport.errors import http_error, http_status_error, rpc_error


class Failed(grpc.RpcError):
    def __init__(self, code: str, details: str | None) -> None:
        self._code, self._details = grpc.StatusCode[code], details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "kind", "unsent"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses; last error: x: refused", UnavailableError, True),
        ("UNAVAILABLE", "DNS resolution failed for db:1: x: not found", UnavailableError, True),
        ("UNAVAILABLE", "Connection reset by peer", UnavailableError, False),
        ("UNAVAILABLE", "Socket closed", UnavailableError, False),
        ("CANCELLED", "Channel closed!", UnavailableError, False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineError, False),
        ("UNAUTHENTICATED", "auth check failure", AuthError, True),
        ("PERMISSION_DENIED", "forbidden", AuthError, True),
        ("RESOURCE_EXHAUSTED", "slow down", RateLimitedError, True),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (9 vs. 4)", TooLargeError, True),
        ("INVALID_ARGUMENT", "no such field", BackendError, True),
        ("UNIMPLEMENTED", "unknown method", BackendError, True),
        ("INTERNAL", "panic", BackendError, False),
        ("UNKNOWN", "write wal: no space left on device", StorageFullError, False),
        ("UNKNOWN", "shard: context deadline exceeded", DeadlineError, False),
        ("UNKNOWN", None, BackendError, False),
    ],
)
def test_a_failed_call_says_what_it_is_and_whether_anything_arrived(
    code: str, details: str | None, kind: type[BackendError], unsent: bool
) -> None:
    error = rpc_error(Failed(code, details), "upsert")
    assert type(error) is kind
    assert error.unsent is unsent
    assert str(error).startswith("upsert: ")
    assert len(str(error)) > len("upsert: ")


def test_the_words_of_the_database_come_before_the_status() -> None:
    texts = (("collection not found", NotFoundError), ("received message", CollectionExistsError))
    assert type(rpc_error(Failed("UNKNOWN", "Collection not found: x"), "get", texts)) is NotFoundError
    assert type(
        rpc_error(Failed("RESOURCE_EXHAUSTED", "received message larger than max"), "get", texts)
    ) is (CollectionExistsError)
    assert type(http_status_error(404, "Collection not found", "get", texts)) is NotFoundError
    assert type(http_status_error(500, "received message", "get", texts)) is CollectionExistsError


@pytest.mark.parametrize(
    ("status", "kind", "unsent"),
    [
        (400, BackendError, True),
        (401, AuthError, True),
        (403, AuthError, True),
        (404, NotFoundError, None),
        (407, AuthError, True),
        (408, DeadlineError, False),
        (413, TooLargeError, True),
        (414, TooLargeError, True),
        (422, BackendError, True),
        (429, RateLimitedError, True),
        (500, BackendError, False),
        (502, UnavailableError, False),
        (503, UnavailableError, False),
        (504, DeadlineError, False),
        (507, StorageFullError, False),
    ],
)
def test_a_status_says_what_it_is_and_whether_anything_is_stored(
    status: int, kind: type[VecbridgeError], unsent: bool | None
) -> None:
    error = http_status_error(status, "", "ask")
    assert type(error) is kind
    assert str(error) == f"ask: status {status}"
    assert getattr(error, "unsent", None) is unsent


def test_http_at_a_port_of_https_is_told() -> None:
    error = http_status_error(400, "Client sent an HTTP request to an HTTPS server.", "ask")
    assert type(error) is UnavailableError
    assert "the option is tls=true" in str(error)


def test_an_answer_that_may_be_a_proxys_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy:3128")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    named = "ask: status 503 (http_proxy=http://proxy:3128 is set)"
    assert str(http_status_error(503, "", "ask", url="http://db/x")) == named
    # the server's own: behind TLS, on this machine, or of a status that proxies do not give
    assert str(http_status_error(503, "", "ask", url="https://db/x")) == "ask: status 503"
    assert str(http_status_error(503, "", "ask", url="http://localhost/x")) == "ask: status 503"
    assert str(http_status_error(422, "", "ask", url="http://db/x")) == "ask: status 422"


@pytest.mark.parametrize(
    ("raised", "kind", "unsent"),
    [
        (httpx.ConnectError("refused"), UnavailableError, True),
        (httpx.ConnectTimeout("slow"), UnavailableError, True),
        (httpx.ProxyError("403 Forbidden"), UnavailableError, True),
        (httpx.PoolTimeout(""), DeadlineError, True),
        (httpx.ReadTimeout("slow"), DeadlineError, False),
        (httpx.WriteTimeout("slow"), DeadlineError, False),
        (httpx.ReadError(""), UnavailableError, False),
        (httpx.WriteError("reset"), UnavailableError, False),
        (httpx.RemoteProtocolError("gone"), UnavailableError, False),
        (httpx.TooManyRedirects("loop"), BackendError, False),
    ],
)
def test_a_request_without_an_answer_says_whether_anything_arrived(
    raised: httpx.HTTPError, kind: type[BackendError], unsent: bool
) -> None:
    error = http_error(raised, "ask")
    assert type(error) is kind
    assert error.unsent is unsent
    assert str(error).startswith("ask: ")
    assert len(str(error)) > len("ask: ")


def test_an_untrusted_certificate_is_named_as_such() -> None:
    error = http_error(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "ask")
    assert "its certificate is not trusted; SSL_CERT_FILE names a file of roots that are" in str(error)
