"""What Weaviate, gRPC and HTTP say, as the errors of the contract: one table each."""

from __future__ import annotations

from typing import Any, Final

import grpc
import httpx

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


class TenantNotFoundError(NotFoundError):
    """A namespace that nobody has written to; reading it is empty."""


#: What tells more than a status does; looked for in small letters, in this order.
_BY_TEXT: Final[tuple[tuple[str, type[VecbridgeError]], ...]] = (
    ("tenant not found", TenantNotFoundError),
    ("request was without tenant", TenantNotFoundError),  # the default namespace of a class made elsewhere
    ("could not find class", NotFoundError),
    ("class not found", NotFoundError),
    ("already exists", CollectionExistsError),
    ("message larger than max", TooLargeError),
    ("message size too large", TooLargeError),
    ("message exceeds", TooLargeError),
    ("trying to send message larger", TooLargeError),
    ("no space left on device", StorageFullError),
    ("disk usage too high", StorageFullError),
    ("not enough memory", RateLimitedError),
    ("updatevectorindexconfig", UnavailableError),  # a quantizer is trained, and then it goes on
    ("update vector index config", UnavailableError),
    ("read-only", StorageFullError),
    ("unauthorized", AuthError),
    ("anonymous access not enabled", AuthError),
    ("forbidden", AuthError),
    ("leader not found", UnavailableError),
    ("not ready", UnavailableError),
    ("shutting down", UnavailableError),
    ("shutdown in progress", UnavailableError),
    ("context deadline exceeded", DeadlineError),
)

_BY_GRPC: Final[dict[grpc.StatusCode, type[BackendError]]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: AuthError,
    grpc.StatusCode.PERMISSION_DENIED: AuthError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimitedError,
}

_BY_HTTP: Final[dict[int, type[VecbridgeError]]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    408: DeadlineError,
    413: TooLargeError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineError,
    507: StorageFullError,
}


def of_text(text: str, what: str) -> VecbridgeError:
    """The error that a sentence of the server stands for.

    Args:
        text: As the server said it.
        what: What was asked, for the message.
    """
    return _told(text, what) or BackendError(f"{what}: {text}")


def of_rpc(exc: grpc.RpcError, what: str) -> VecbridgeError:
    """The error that a failed gRPC call stands for.

    Args:
        exc: As gRPC raised it.
        what: What was asked and where, for the message.
    """
    code, details = exc.code(), exc.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"{what}: no answer within its deadline")
    if (told := _told(details, what)) is not None:
        return told
    hint = ""
    if "failed to connect to all addresses" in details:
        details = f"nothing answers there: {details.rpartition(': ')[2]}"
    if "SSL" in details or "WRONG_VERSION_NUMBER" in details:
        hint = " (does the server speak TLS? the option is tls=true)"
    return _BY_GRPC.get(code, BackendError)(f"{what}: {details or code.name}{hint}")


def of_http(exc: httpx.HTTPError, what: str) -> BackendError:
    """The error that a REST call without an answer stands for.

    Args:
        exc: As httpx raised it.
        what: What was asked and where, for the message.
    """
    if isinstance(exc, httpx.TimeoutException) and not isinstance(exc, httpx.ConnectTimeout):
        return DeadlineError(f"{what}: no answer within its deadline")
    if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
        hint = " (does the server speak TLS? the option is tls=true)" if "SSL" in str(exc) else ""
        return UnavailableError(f"{what}: nothing answers there: {exc}{hint}")
    if isinstance(exc, httpx.TransportError):
        return UnavailableError(f"{what}: {exc or type(exc).__name__}")
    return BackendError(f"{what}: {exc}")


def of_response(response: httpx.Response, what: str) -> VecbridgeError:
    """The error that a REST answer other than success stands for.

    Args:
        response: Its body is read.
        what: What was asked and where, for the message.
    """
    text = _message(response)
    kind = _BY_HTTP.get(response.status_code)
    if kind is not None:
        return kind(f"{what}: {text}")
    return of_text(text, what)


def never_sent(error: BaseException) -> bool:
    """Whether a call certainly did not reach the server, so that nothing of it can be stored."""
    cause = error.__cause__
    if isinstance(error, AuthError | TooLargeError):
        return True
    if isinstance(error, UnavailableError) and isinstance(cause, grpc.RpcError):
        details = str(cause.details()).lower()
        return "failed to connect" in details or "dns resolution failed" in details
    return False


def _told(text: str, what: str) -> VecbridgeError | None:
    small = text.lower()
    for words, kind in _BY_TEXT:
        if words in small:
            return kind(f"{what}: {text}")
    return None


def _message(response: httpx.Response) -> str:
    """What a REST answer says is wrong."""
    try:
        body: Any = response.json()
    except ValueError:
        return f"{response.status_code} {response.reason_phrase}"
    if isinstance(body, dict):
        if isinstance(body.get("error"), list):
            return "; ".join(str(each.get("message", each)) for each in body["error"])
        if "message" in body:
            return str(body["message"])
    return f"{response.status_code} {response.reason_phrase}"
