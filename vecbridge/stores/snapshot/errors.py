"""What an exception of the file system or of Arrow becomes: the one error table of the snapshot driver."""

from __future__ import annotations

import pyarrow as pa

from vecbridge.errors import BackendError, VecbridgeError
from vecbridge.storage import vecbridge_error


def mapped(exc: Exception, what: str) -> VecbridgeError | None:
    """The exception as one of ours; None for one that neither the file system nor Arrow raises.

    Args:
        exc: What a verb raised.
        what: What was asked, for the message.
    """
    if isinstance(exc, OSError):
        return vecbridge_error(exc, what)
    if isinstance(exc, pa.ArrowException):
        return BackendError(f"{what}: Arrow: {exc}")
    return None
