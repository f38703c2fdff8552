"""What an exception of the file system or of Arrow becomes: the one error table of the snapshot driver."""

from __future__ import annotations

import errno
from typing import Final

import pyarrow as pa

from vecbridge.errors import BackendError, ConfigError, StorageFullError, VecbridgeError

# EFBIG: a limit of the process or of the file system on the size of one file.
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def mapped(exc: Exception, what: str) -> VecbridgeError | None:
    """The exception as one of ours; None for one that neither the file system nor Arrow raises.

    Args:
        exc: What a verb raised.
        what: What was asked, for the message.
    """
    if isinstance(exc, OSError):
        if exc.errno in _FULL:  # a request that did not fit is removed again
            message = f"{what}: no room left: {exc.strerror}; free some and write again"
            return StorageFullError(message, unsent=True)
        if exc.errno in _FORBIDDEN:
            return ConfigError(f"{what}: {exc.strerror}: {exc.filename or ''}")
        return BackendError(f"{what}: {exc}")
    if isinstance(exc, pa.ArrowException):
        return BackendError(f"{what}: Arrow: {exc}")
    return None
