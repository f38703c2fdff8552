"""Small things done to files, so that a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

import pyarrow as pa

from vecbridge.errors import CorruptStoreError

_READ_BYTES: Final = 1 << 20


class NewFile:
    """A file that is written once.

    Args:
        path: It must not exist.

    Attributes:
        sink: What Arrow's writers write to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.open("xb").close()
        self.sink = pa.OSFile(str(path), "wb")
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written."""
        if not self.sink.closed:
            self._size = self.sink.tell()
        return self._size

    def finish(self) -> int:
        """Closes the file, whose content is durable then; its size.

        The name in its directory is the caller's to make durable.
        """
        self.close()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return self._size

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._size = self.size
        self.sink.close()


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def regular_file(path: Path) -> os.stat_result:
    """The status of a file that is one, in a directory that is one: neither is a link.

    Raises:
        FileNotFoundError: There is none.
        CorruptStoreError: A link, a directory, a device.
    """
    if not stat.S_ISDIR(path.parent.lstat().st_mode):
        raise CorruptStoreError(f"{path.parent} is not a directory, and links are not followed")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise CorruptStoreError(f"{path} is not a plain file, and links are not followed")
    return status
