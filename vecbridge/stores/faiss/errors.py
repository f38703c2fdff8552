"""What an exception of the file system or of FAISS becomes: the one error table of the FAISS driver."""

from __future__ import annotations

import errno
from typing import Final

from vecbridge.errors import BackendError, ConfigError, StorageFullError, VecbridgeError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def mapped(exc: Exception, what: str) -> VecbridgeError | None:
    """The exception as one of ours; None for one that neither the file system nor FAISS raises.

    Args:
        exc: What a verb raised.
        what: What was asked, for the message.
    """
    if isinstance(exc, OSError):
        if exc.errno in _FULL:  # the vectors and the frame that did not fit are cut off again
            message = f"{what}: no room left: {exc.strerror}; free some and write again"
            return StorageFullError(message, unsent=True)
        if exc.errno in _FORBIDDEN:
            return ConfigError(f"{what}: {exc.strerror}: {exc.filename or ''}")
        return BackendError(f"{what}: {exc}")
    if isinstance(exc, RuntimeError):  # FAISS has no other; its message names the line of its source
        return BackendError(f"{what}: FAISS: {exc}")
    return None
