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
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.transport.errors import http_status_error

_BY_STATUS: Final[dict[int | None, type[VecbridgeError]]] = {
    409: CollectionExistsError,  # nothing but an index is made
    500: UnavailableError,
    504: UnavailableError,
}

#: What a status alone does not tell; gRPC gives no status for a message that is too long.
_BY_TEXT: Final[tuple[tuple[str, type[VecbridgeError]], ...]] = (
    ("message length too large", TooLargeError),
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
    for words, kind in _BY_TEXT:
        if words in text.lower():
            return kind(message)
    status = getattr(exc, "status_code", None)
    if status == 429:
        return RateLimitedError(message, retry_after=getattr(exc, "retry_after", None))
    if (known := _BY_STATUS.get(status)) is not None:
        return known(message)
    if status is not None:
        return http_status_error(status, text, what)
    # gRPC's rarer codes, and arguments that the client refuses; an answer that it cannot read may be a yes.
    return BackendError(message, unsent=not isinstance(exc, theirs.ResponseParsingError))


def _unconnected(exc: BaseException, text: str) -> bool:
    return type(exc.__cause__).__name__ in _UNCONNECTED or any(
        words in text.lower() for words in _UNCONNECTED_TEXT
    )
