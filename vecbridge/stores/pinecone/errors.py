"""What Pinecone's client raises, as the errors of the contract: one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pinecone import errors as theirs

from vecbridge.errors import (
    AuthError,
    BackendError,
    DeadlineError,
    NotFoundError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)

_BY_STATUS: Final[dict[int, type[VecbridgeError]]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    408: DeadlineError,
    413: TooLargeError,
    414: TooLargeError,
    500: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}

#: What a status alone does not tell; gRPC gives no status for a message that is too long.
_BY_TEXT: Final[tuple[tuple[str, type[BackendError]], ...]] = (
    ("message length too large", TooLargeError),
    ("deletion protection is enabled", BackendError),
)

#: How a connection that was never made is known: over REST by the type of the cause, over gRPC by words.
_UNCONNECTED: Final = frozenset({"ConnectError", "ConnectTimeout"})
_UNCONNECTED_TEXT: Final = ("tcp connect error", "dns error")


class UnreachedError(UnavailableError):
    """Nobody answered at all, so that nothing was sent."""


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
    """The error that one of the client stands for."""
    text = str(getattr(exc, "message", "") or exc)
    told = f"{what}: {text}"
    for words, kind in _BY_TEXT:
        if words in text.lower():
            return kind(told)
    if isinstance(exc, theirs.PineconeTimeoutError):
        return UnreachedError(told) if _unconnected(exc, text) else DeadlineError(told)
    if isinstance(exc, theirs.PineconeConnectionError):
        return UnreachedError(told) if _unconnected(exc, text) else UnavailableError(told)
    status = getattr(exc, "status_code", 0)
    if status == 429:
        return RateLimitedError(told, retry_after=getattr(exc, "retry_after", None))
    return _BY_STATUS.get(status, BackendError)(told)


def never_stored(error: BaseException) -> bool:
    """Whether a request certainly left nothing behind: it did not arrive, or was answered with a no."""
    if isinstance(error, UnreachedError | RateLimitedError | NotFoundError):
        return True
    return isinstance(error, BackendError) and not error.retryable


def _unconnected(exc: BaseException, text: str) -> bool:
    return type(exc.__cause__).__name__ in _UNCONNECTED or any(
        words in text.lower() for words in _UNCONNECTED_TEXT
    )
