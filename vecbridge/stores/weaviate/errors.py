"""What Weaviate says, as the errors of the contract: one table of its words, looked for before any status."""

from __future__ import annotations

from typing import Any, Final

import grpc
import httpx

from vecbridge.errors import (
    AuthError,
    BackendError,
    CollectionExistsError,
    NotFoundError,
    RateLimitedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.transport.errors import Texts, http_error, http_status_error, rpc_error


class TenantNotFoundError(NotFoundError):
    """A namespace that nobody has written to; reading it is empty."""


class PropertyExistsError(BackendError):
    """A property that was to be added, and that the class has already."""


_TEXTS: Final[Texts] = (
    ("tenant not found", TenantNotFoundError),
    ("request was without tenant", TenantNotFoundError),  # the default namespace of a class made elsewhere
    ("could not find class", NotFoundError),
    ("class not found", NotFoundError),
    ('": not found', NotFoundError),  # of a class whose schema is to be changed
    ("already in use or provided multiple times", PropertyExistsError),
    ("already exists", CollectionExistsError),
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
)


def of_text(text: str, what: str) -> VecbridgeError:
    """Maps what the server says of a row.

    Args:
        text: As the server said it.
        what: What was asked, for the message.
    """
    small = text.lower()
    kind = next((kind for words, kind in _TEXTS if words in small), BackendError)
    return kind(f"{what}: {text}")


def of_rpc(exc: grpc.RpcError, what: str) -> VecbridgeError:
    """Maps a failed gRPC call; see :func:`vecbridge.transport.errors.rpc_error`."""
    return rpc_error(exc, what, _TEXTS)


def of_response(response: httpx.Response, what: str) -> VecbridgeError:
    """Maps a REST answer other than success.

    Args:
        response: Its body is read.
        what: What was asked and where, for the message.
    """
    return http_status_error(response.status_code, _message(response), what, _TEXTS, url=str(response.url))


def of_exception(exc: Exception, what: str) -> VecbridgeError | None:
    """Maps what gRPC and httpx raise; None for another exception."""
    if isinstance(exc, grpc.RpcError):
        return of_rpc(exc, what)
    return http_error(exc, what) if isinstance(exc, httpx.HTTPError) else None


def _message(response: httpx.Response) -> str:
    """What a REST answer says is wrong; "" if nothing."""
    try:
        body: Any = response.json()
    except ValueError:
        return str(response.reason_phrase)
    if isinstance(body, dict):
        if isinstance(body.get("error"), list):
            return "; ".join(str(error.get("message", error)) for error in body["error"])
        return str(body.get("message", ""))
    return ""
