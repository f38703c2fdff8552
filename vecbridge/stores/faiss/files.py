"""Small things done to files, so that a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from vecbridge.errors import ConfigError, StoreLockedError
from vecbridge.locks import FileLock

_HOLDER_BYTES: Final = 32
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "glusterfs", "fuse.sshfs", "afs")


def write_all(descriptor: int, data: memoryview | bytes, offset: int) -> None:
    """Writes all of ``data`` at ``offset``; the kernel takes at most 2 GiB a call."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view[: 1 << 30], offset)
        view, offset = view[written:], offset + written


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file whole or not at all, durably."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
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


def refuse_network_file_system(path: Path) -> None:
    """Locks and memory maps cannot be trusted over a network.

    Raises:
        ConfigError: The path lies on a network file system.
    """
    import psutil

    resolved = path.resolve()
    partitions = psutil.disk_partitions(all=True)
    mounts = [mount for mount in partitions if resolved.is_relative_to(mount.mountpoint)]
    if not mounts:
        return
    nearest = max(mounts, key=lambda mount: len(mount.mountpoint))
    if nearest.fstype.lower().startswith(_NETWORK):
        raise ConfigError(f"{path} is on {nearest.fstype}: the FAISS store needs a local disk")


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
            ConfigError: The collection lies on a network file system.
        """
        if self.held:
            return
        refuse_network_file_system(self._path.parent)
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
