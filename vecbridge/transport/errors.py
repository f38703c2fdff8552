"""Maps what gRPC, httpx and HTTP statuses say to vecbridge's errors; a driver adds the words of its database.

``unsent`` is set where nothing can have arrived: no connection was made, or the server refused the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

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
from vecbridge.transport.hosts import http_proxy

if TYPE_CHECKING:
    import grpc
    import httpx

#: Words in small letters, and the error that a message with them stands for; the first that fits is taken.
Texts: TypeAlias = "Sequence[tuple[str, type[VecbridgeError]]]"

_TEXTS: Final[Texts] = (
    ("message larger than max", TooLargeError),
    ("message size too large", TooLargeError),
    ("message length too large", TooLargeError),
    ("message exceeds", TooLargeError),
    ("no space left on device", StorageFullError),
    ("context deadline exceeded", DeadlineError),
)

_BY_CODE: Final[Mapping[str, type[BackendError]]] = {
    "UNAVAILABLE": UnavailableError,
    "CANCELLED": UnavailableError,
    "UNAUTHENTICATED": AuthError,
    "PERMISSION_DENIED": AuthError,
    "RESOURCE_EXHAUSTED": RateLimitedError,
}
_CODES_REFUSED: Final = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED"})
_UNCONNECTED: Final = ("failed to connect", "dns resolution failed")

_BY_STATUS: Final[Mapping[int, type[VecbridgeError]]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    407: AuthError,
    408: DeadlineError,
    413: TooLargeError,
    414: TooLargeError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineError,
    507: StorageFullError,
}
_STATUSES_REFUSED: Final = frozenset({400, 405, 406, 411, 415, 422})
_STATUSES_OF_PROXIES: Final = frozenset({403, 407, 502, 503, 504})

_NO_TLS: Final = "the server does not speak TLS: leave out tls=true"
_HUNG_UP: Final = "the server hung up; if it speaks TLS, the option is tls=true"
_UNTRUSTED: Final = "its certificate is not trusted; {variable} names a file of roots that are"
_DEADLINE: Final = "no answer within its deadline"


def rpc_error(exc: grpc.RpcError, what: str, texts: Texts = ()) -> VecbridgeError:
    """Maps a failed gRPC call.

    Args:
        exc: As gRPC raised it.
        what: What was asked and where, for the message.
        texts: Words of the database, looked for before the status.
    """
    code, details = exc.code().name, exc.details() or ""
    if code == "DEADLINE_EXCEEDED":
        return DeadlineError(f"{what}: {_DEADLINE}")
    if (kind := _kind(details, texts)) is not None:
        return kind(f"{what}: {details}")
    unconnected = any(words in details.lower() for words in _UNCONNECTED)
    message = details or code
    if "WRONG_VERSION_NUMBER" in details:
        message = _NO_TLS
    elif "CERTIFICATE_VERIFY_FAILED" in details:
        message = _UNTRUSTED.format(variable="GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    elif "Socket closed" in details:
        message = _HUNG_UP
    elif unconnected:
        message = f"nothing answers there: {details.rpartition(': ')[2]}"
    error = _BY_CODE.get(code, BackendError)(f"{what}: {message}")
    if unconnected or code in _CODES_REFUSED or "Exception serializing request" in details:
        error.unsent = True
    return error


def http_error(exc: httpx.HTTPError, what: str) -> BackendError:
    """Maps an HTTP request that got no answer.

    Args:
        exc: As httpx raised it.
        what: What was asked and where, for the message.
    """
    import httpx

    url = _url(exc)
    proxy = f" ({note})" if (note := http_proxy(url)) else ""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, httpx.PoolTimeout):
        return DeadlineError(f"{what}: every connection was busy until its deadline", unsent=True)
    if isinstance(exc, httpx.TimeoutException) and not isinstance(exc, httpx.ConnectTimeout):
        return DeadlineError(f"{what}: {_DEADLINE}{proxy}")
    if isinstance(exc, httpx.ProxyError):
        return UnavailableError(f"{what}: the proxy refused: {text}{proxy}", unsent=True)
    if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
        if "WRONG_VERSION_NUMBER" in text:
            message = _NO_TLS
        elif "CERTIFICATE_VERIFY_FAILED" in text:
            message = f"{_UNTRUSTED.format(variable='SSL_CERT_FILE')}: {text}"
        else:
            message = f"nothing answers there: {text}"
        return UnavailableError(f"{what}: {message}{proxy}", unsent=True)
    if isinstance(exc, httpx.RemoteProtocolError) and url.startswith("http:"):
        return UnavailableError(f"{what}: {_HUNG_UP}: {text}{proxy}")
    if isinstance(exc, httpx.TransportError):
        return UnavailableError(f"{what}: {text}{proxy}")
    return BackendError(f"{what}: {text}")


def http_status_error(
    status: int, text: str, what: str, texts: Texts = (), *, url: str = ""
) -> VecbridgeError:
    """Maps an HTTP answer other than success.

    Args:
        status: Its status.
        text: What its body says is wrong; "" if nothing.
        what: What was asked and where, for the message.
        texts: Words of the database, looked for before the status.
        url: Where the request went: names the proxy, where the answer may be one's.
    """
    message = f"{what}: {text or f'status {status}'}"
    if "HTTP request to an HTTPS server" in text:
        return UnavailableError(f"{message} (the option is tls=true)", unsent=True)
    # through TLS a proxy only makes the connection: then no answer is its own
    if status in _STATUSES_OF_PROXIES and url.startswith("http:") and (proxy := http_proxy(url)):
        message = f"{message} ({proxy})"
    kind = _kind(text, texts) or _BY_STATUS.get(status, BackendError)
    if kind is BackendError:
        return BackendError(message, unsent=status in _STATUSES_REFUSED)
    return kind(message)


def _kind(text: str, texts: Texts) -> type[VecbridgeError] | None:
    small = text.lower()
    return next((kind for words, kind in (*texts, *_TEXTS) if words in small), None)


def _url(exc: Any) -> str:
    try:
        return str(exc.request.url)
    except RuntimeError:  # raised outside of a request
        return ""
