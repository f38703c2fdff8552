"""Small things done to files, so that a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vecbridge.errors import (
    BackendError,
    CollectionExistsError,
    ConfigError,
    StorageFullError,
    StoreLockedError,
    VecbridgeError,
)
from vecbridge.locks import FileLock

#: What the names of files and directories begin with that are not finished.
TEMPORARY: Final = ".new-"
_HOLDER_BYTES: Final = 32
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def is_full(exc: OSError) -> bool:
    """Whether there is no room: on the disk, in a quota, or below a limit to the size of one file."""
    return exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def vecbridge_error(exc: OSError, what: str) -> VecbridgeError:
    """The error that a store raises for one of the file system.

    Args:
        exc: What the file system said.
        what: What was asked, for the message.
    """
    if is_full(exc):
        message = f"{what}: no room left: {exc.strerror}; free some and write again"
        return StorageFullError(message, unsent=True)
    if exc.errno in _FORBIDDEN:
        return ConfigError(f"{what}: {exc.strerror}: {exc.filename or ''}")
    return BackendError(f"{what}: {exc}")


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file whole or not at all, durably."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}.{uuid.uuid4().hex}")
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


def make_directory(path: Path) -> None:
    """Makes a directory and those above it where they are missing, durably."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


@contextmanager
def new_collection(path: Path) -> Iterator[Path]:
    """A hidden directory that gets its name when the block ends, and is removed if the block fails.

    Raises:
        CollectionExistsError: Another process has made one of that name meanwhile.
    """
    hidden = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    make_directory(path.parent)
    hidden.mkdir()
    try:
        yield hidden
        hidden.rename(path)
        sync_directory(path.parent)
    except BaseException as exc:
        remove_tree(hidden)
        if isinstance(exc, OSError) and exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise CollectionExistsError(f"collection {path.name!r} was made meanwhile") from exc
        raise


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
