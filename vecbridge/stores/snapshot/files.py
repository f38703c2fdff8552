"""Small things done to files, so that a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from vecbridge.errors import CorruptStoreError, StoreLockedError
from vecbridge.locks import FileLock

TEMPORARY: Final = ".new-"
_HOLDER_BYTES: Final = 32
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


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file whole or not at all, durably."""
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Removes a directory: out of sight at once, then piece by piece."""
    hidden = path.with_name(f".removed-{uuid.uuid4().hex}")
    try:
        path.rename(hidden)
    except FileNotFoundError:
        return
    sync_directory(path.parent)
    for remains in path.parent.glob(".removed-*"):  # this one, and what others died over
        shutil.rmtree(remains, ignore_errors=True)


class WriterLock:
    """The one writer of a collection; the kernel releases the lock with the process, and a fork keeps it out.

    Args:
        path: The lock file; the first one to take the lock creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FileLock(path)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, in this process."""
        return self._file.held

    def acquire(self) -> None:
        """Takes the lock; holding it already is fine.

        Raises:
            StoreLockedError: Another process, or another store of this process, holds it.
        """
        if self.held:
            return
        try:
            self._file.acquire()
        except BlockingIOError:
            holder = self._path.read_bytes()[:_HOLDER_BYTES].decode(errors="replace").strip() or "unknown"
            raise StoreLockedError(
                f"{self._path.parent} is being written by process {holder}: one writer at a time; "
                "close that store, or read only"
            ) from None
        with suppress(OSError):  # for messages only, and a full disk may have no room for it
            os.pwrite(self._file.descriptor, f"{os.getpid()}\n".encode().ljust(_HOLDER_BYTES), 0)

    def release(self) -> None:
        """Gives the lock back; not holding it is fine."""
        self._file.release()
