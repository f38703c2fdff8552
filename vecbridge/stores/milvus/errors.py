"""What Milvus says is wrong, as the errors of the contract."""

from __future__ import annotations

from typing import Any, Final

import grpc

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
from vecbridge.transport.errors import Texts, rpc_error


class NoIndexError(BackendError):
    """The collection has no index, because another program dropped it; it cannot be loaded either."""


_UNAVAILABLE: Final = (
    *(1, 2, 11, 12, 901),  # a service or a node that is not ready, or late
    *(101, 103),  # a collection that is not loaded
    *(500, 501, 502, 503, 600, 601),  # a channel or a segment that moves to another node
)

#: Codes of milvus-io/milvus, pkg/util/merr (2.3 and later).
_BY_CODE: Final[dict[int, type[VecbridgeError]]] = {
    **dict.fromkeys(_UNAVAILABLE, UnavailableError),
    **dict.fromkeys((3, 4, 8, 9), RateLimitedError),  # memory, queue and quota
    7: StorageFullError,
    100: NotFoundError,  # the collection
    800: NotFoundError,  # the database
    1400: AuthError,
    1401: AuthError,
}
_INVALID_PARAMETER: Final = 1100

#: 65535 and 1 are given for anything: these tell.
_BY_TEXT: Final[Texts] = (
    ("database not found", NotFoundError),
    ("collection not found", NotFoundError),
    ("can't find collection", NotFoundError),
    ("collection not exist", NotFoundError),
    ("invalid collection name", NotFoundError),  # no collection can have it
    ("collection name should not be empty", NotFoundError),
    ("create duplicate collection", CollectionExistsError),
    ("auth check failure", AuthError),
    ("message larger than max", TooLargeError),
    ("message size too large", TooLargeError),
    ("no space left on device", StorageFullError),
    ("index not found", NoIndexError),
    ("no index on collection", NoIndexError),  # milvus-lite
    ("empty grpc client", UnavailableError),
    ("deadline exceeded", DeadlineError),
    ("collection not loaded", UnavailableError),
    ("rate limit exceeded", RateLimitedError),
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
    message = f"{what}: {status.reason or f'code {code}'}"
    reason = status.reason.lower()
    kind = next((kind for words, kind in _BY_TEXT if words in reason), None)
    kind = kind or _BY_CODE.get(status.code, BackendError)
    if kind is BackendError:
        return BackendError(
            message, retryable=bool(status.retriable), unsent=status.code == _INVALID_PARAMETER
        )
    return kind(message)


def of_rpc(exc: grpc.RpcError, what: str) -> VecbridgeError:
    """The error that a failed call stands for.

    Args:
        exc: As gRPC raised it.
        what: What was asked, for the message.
    """
    return rpc_error(exc, what, _BY_TEXT)
