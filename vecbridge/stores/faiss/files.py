"""Files of the FAISS store: they are on a local disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from vecbridge import storage
from vecbridge.errors import ConfigError

_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "glusterfs", "fuse.sshfs", "afs")


def write_all(descriptor: int, data: memoryview | bytes, offset: int) -> None:
    """Writes all of ``data`` at ``offset``; the kernel takes at most 2 GiB a call."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view[: 1 << 30], offset)
        view, offset = view[written:], offset + written


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


class WriterLock(storage.WriterLock):
    """The one writer of a collection, on a local disk."""

    def acquire(self) -> None:
        """Takes the lock; holding it already is fine.

        Raises:
            StoreLockedError: Another process, or another store of this process, holds it.
            ConfigError: The collection lies on a network file system.
        """
        if not self.held:
            refuse_network_file_system(self._path.parent)
            super().acquire()
