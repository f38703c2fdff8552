"""What Pinecone's client raises, as the errors of the contract: one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pinecone import errors as theirs

from vecbridge.errors import (
    BackendError,
    CollectionExistsError,
    CursorExpiredError,
    DeadlineError,
    RateLimitedError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.transport.errors import http_status_error

_BY_STATUS: Final[dict[int, type[VecbridgeError]]] = {
    409: CollectionExistsError,  # nothing but an index is made
    500: UnavailableError,
    504: UnavailableError,
}

#: What a status alone does not tell.
_BY_TEXT: Final[tuple[tuple[str, type[VecbridgeError]], ...]] = (
    ("deletion protection is enabled", BackendError),
    ("pagination token", CursorExpiredError),
)

#: How a connection that was never made is known: over REST by the type of the cause, over gRPC by words.
_UNCONNECTED: Final = frozenset({"ConnectError", "ConnectTimeout"})
_UNCONNECTED_TEXT: Final = ("tcp connect error", "dns error")


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turns the client's errors into vecbridge's.

    Args:
        what: What is asked, for the message.
    """
    try:
        yield
    except theirs.PineconeError as exc:
        raise of(exc, what) from exc


def of(exc: theirs.PineconeError, what: str) -> VecbridgeError:
    """Maps an exception of Pinecone's client to one of ours.

    Args:
        exc: What the client raised.
        what: What was asked, for the message.
    """
    text = str(getattr(exc, "message", "") or exc)
    message = f"{what}: {text}"
    if isinstance(exc, theirs.PineconeTimeoutError | theirs.PineconeConnectionError):
        if _unconnected(exc, text):
            return UnavailableError(message, unsent=True)
        timeout = isinstance(exc, theirs.PineconeTimeoutError)
        return DeadlineError(message) if timeout else UnavailableError(message)
    status = getattr(exc, "status_code", None) or 0  # gRPC has none for its rarer codes
    if status in _BY_STATUS:
        return _BY_STATUS[status](message)
    error = http_status_error(status, text, what, _BY_TEXT)
    if isinstance(error, RateLimitedError):
        error.retry_after = getattr(exc, "retry_after", None)
    elif (
        type(error) is BackendError
    ):  # it was refused; but an answer that the client cannot read may be a yes
        error.unsent = not isinstance(exc, theirs.ResponseParsingError)
    return error


def _unconnected(exc: BaseException, text: str) -> bool:
    return type(exc.__cause__).__name__ in _UNCONNECTED or any(
        words in text.lower() for words in _UNCONNECTED_TEXT
    )
