"""SHA-256 of what records come from, in hex digits."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


def of_file(path: str | os.PathLike[str]) -> str:
    """The digest of a file.

    Raises:
        OSError: It cannot be read, or is not a regular file, which is never waited for.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "is not a regular file", str(Path(path)))
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_text(text: str) -> str:
    """The digest of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
