"""What Milvus and gRPC say, as the errors of the contract: one table each."""

from __future__ import annotations

from typing import Any, Final

import grpc

from vecbridge.errors import (
    AuthError,
    BackendError,
    DeadlineError,
    NotFoundError,
    RateLimitedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)

#: Codes of milvus-io/milvus, pkg/util/merr (2.3 and later).
_BY_CODE: Final[dict[int, type[VecbridgeError]]] = {
    1: UnavailableError,  # not ready yet
    2: UnavailableError,
    3: RateLimitedError,  # memory limit
    4: RateLimitedError,  # requests queued
    7: StorageFullError,
    8: RateLimitedError,
    9: RateLimitedError,  # quota
    11: UnavailableError,  # time tick delayed
    12: UnavailableError,
    100: NotFoundError,  # the collection
    101: UnavailableError,  # not loaded
    103: UnavailableError,  # not fully loaded
    500: UnavailableError,  # a channel that moves to another node
    501: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    600: UnavailableError,  # a segment likewise
    601: UnavailableError,
    800: NotFoundError,  # the database
    901: UnavailableError,
    1400: AuthError,
    1401: AuthError,
}

#: 65535 and 1 are given for anything: these tell.
_BY_TEXT: Final[tuple[tuple[str, type[VecbridgeError]], ...]] = (
    ("database not found", NotFoundError),
    ("collection not found", NotFoundError),
    ("can't find collection", NotFoundError),
    ("collection not exist", NotFoundError),
    ("auth check failure", AuthError),
    ("message larger than max", TooLargeError),
    ("message size too large", TooLargeError),
    ("no space left on device", StorageFullError),
    ("empty grpc client", UnavailableError),
    ("deadline exceeded", DeadlineError),
    ("collection not loaded", UnavailableError),
    ("rate limit exceeded", RateLimitedError),
)

_BY_GRPC: Final[dict[grpc.StatusCode, type[BackendError]]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: AuthError,
    grpc.StatusCode.PERMISSION_DENIED: AuthError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimitedError,
}

#: How connections fail where one side speaks TLS and the other does not, or not to this one.
_HANDSHAKES: Final = (
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS: leave out tls=true"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted; GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names a file of roots that are",
    ),
    ("Socket closed", "the server hung up; if it speaks TLS, the option is tls=true"),
)


def of_status(status: Any, what: str) -> VecbridgeError | None:
    """The error that a ``common_pb2.Status`` stands for; None if it stands for none.

    Args:
        status: From any answer.
        what: What was asked, for the message.
    """
    code = status.code or status.error_code
    if not code:
        return None
    reason = status.reason or f"code {code}"
    for text, kind in _BY_TEXT:
        if text in reason.lower():
            return kind(f"{what}: {reason}")
    kind = _BY_CODE.get(status.code, BackendError)
    if kind is BackendError:
        return BackendError(f"{what}: {reason}", retryable=bool(status.retriable))
    return kind(f"{what}: {reason}")


def of_rpc(exc: grpc.RpcError, what: str) -> BackendError:
    """The error that a failed call stands for.

    Args:
        exc: As gRPC raised it.
        what: What was asked, for the message.
    """
    code, details = exc.code(), exc.details() or ""
    for text, kind in _BY_TEXT:
        if text in details.lower() and issubclass(kind, BackendError):
            return kind(f"{what}: {details}")
    kind = _BY_GRPC.get(code, BackendError)
    if kind is DeadlineError:
        return DeadlineError(f"{what}: no answer within its deadline")
    for text, meaning in _HANDSHAKES:
        if text in details:
            return kind(f"{what}: {meaning}")
    if "failed to connect to all addresses" in details:
        details = f"nothing answers there: {details.rpartition(': ')[2]}"
    return kind(f"{what}: {details or code.name}")


def never_sent(error: BaseException) -> bool:
    """Whether a call certainly did not reach the server, so that nothing of it can be stored."""
    cause = error.__cause__
    if isinstance(error, AuthError | NotFoundError | TooLargeError | RateLimitedError):
        return True
    if isinstance(error, UnavailableError) and isinstance(cause, grpc.RpcError):
        details = str(cause.details()).lower()
        return "failed to connect" in details or "dns resolution failed" in details
    return False
