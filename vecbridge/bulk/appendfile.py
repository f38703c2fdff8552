"""An append-only file of lines, for one writer; a line is on the disk when ``append`` returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vecbridge.closing import Closing
from vecbridge.errors import ConfigError, StorageFullError, VecbridgeError
from vecbridge.locks import FileLock
from vecbridge.storage import is_full, sync_directory


class AppendFile(Closing):
    """Whole lines at the end of a file; one writer at a time.

    A line that a crash cut short stays behind without its end: the first :meth:`append` removes it, so what
    the file holds must be checked first, with :meth:`lines` or :attr:`torn`.

    Args:
        path: The file; it is created where there is none.
        error: What failures other than a full disk become.

    Attributes:
        path: The file.
        torn: What follows the last whole line.

    Raises:
        StorageFullError: The disk is full.
        VecbridgeError: ``error``: the file cannot be opened, or another process writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], error: type[VecbridgeError]) -> None:
        self.path: Final = Path(path)
        self._error: Final = error
        self._lock: Final = FileLock(self.path)
        try:
            with self._errors():
                self._lock.acquire()
                sync_directory(self.path.parent)  # the name must survive a power cut, not only the lines
                self._end, self.torn = self._last_line_end()
        except VecbridgeError:
            self._lock.release()
            raise

    @property
    def held(self) -> bool:
        """Whether this process may append: it has opened the file and not closed it."""
        return self._lock.held

    def lines(self) -> Iterator[bytes]:
        """Streams the whole lines, without their ends."""
        with self._errors(), self.path.open("rb") as file:
            while file.tell() < self._end:
                yield file.readline().removesuffix(b"\n")

    def append(self, data: bytes) -> None:
        """Writes whole lines and returns when they are on the disk; on failure the file is as it was.

        Raises:
            ConfigError: Another process opened the file, of which this one is a fork.
            StorageFullError: The disk is full.
            VecbridgeError: As given to the constructor: any other failure.
        """
        descriptor = self._descriptor()
        with self._errors():
            try:
                os.ftruncate(descriptor, self._end)
                os.lseek(descriptor, self._end, os.SEEK_SET)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._end)
                raise
        self._end += len(data)
        self.torn = b""

    def close(self) -> None:
        """Gives the lock back, in the process that opened the file; a second call does nothing."""
        self._lock.release()

    def _descriptor(self) -> int:
        if self._lock.held:
            return self._lock.descriptor
        if self._lock.pid != os.getpid():
            raise ConfigError(f"{self.path}: opened by process {self._lock.pid}; open it in this process")
        raise self._error(f"{self.path} is closed")

    def _last_line_end(self) -> tuple[int, bytes]:
        """Where the last whole line ends, and what follows it."""
        size = os.fstat(self._lock.descriptor).st_size
        tail, start = b"", size
        while start and b"\n" not in tail:
            step = min(start, 65_536)
            start -= step
            tail = os.pread(self._lock.descriptor, step, start) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        return size - len(torn), torn

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise self._error(f"{self.path}: another run is writing to it") from None
        except OSError as exc:
            if is_full(exc):
                raise StorageFullError(f"{self.path}: {exc.strerror}") from exc
            raise self._error(f"{self.path}: {exc.strerror or exc}") from exc
