"""What an exception of the file system or of FAISS becomes: the one error table of the FAISS driver."""

from __future__ import annotations

from vecbridge.errors import BackendError, VecbridgeError
from vecbridge.storage import vecbridge_error


def mapped(exc: Exception, what: str) -> VecbridgeError | None:
    """The exception as one of ours; None for one that neither the file system nor FAISS raises.

    Args:
        exc: What a verb raised.
        what: What was asked, for the message.
    """
    if isinstance(exc, OSError):
        return vecbridge_error(exc, what)
    if isinstance(exc, RuntimeError):  # FAISS has no other; its message names the line of its source
        return BackendError(f"{what}: FAISS: {exc}")
    return None
