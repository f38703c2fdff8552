"""A file of lines that only grows, each line durable before the next thing happens."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vecbridge.errors import StorageFullError, VecbridgeError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class AppendFile:
    """Whole lines at the end of a file; one writer at a time.

    A line that a crash cut short stays behind without its end: the first :meth:`append` removes it, so what
    the file holds must be checked first, with :meth:`lines` or :attr:`torn`.

    Args:
        path: The file; it is created where there is none.
        error: What failures other than a full disk become.

    Raises:
        StorageFullError: The disk is full.
        VecbridgeError: ``error``: the file cannot be opened, or another process writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], error: type[VecbridgeError]) -> None:
        self.path: Final = Path(path)
        self._error: Final = error
        with self._errors():
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with self._errors():
                self._lock()
                _sync_directory(self.path.parent)  # the name must survive a power cut, not only the lines
                self._end, self.torn = self._last_line_end()
        except VecbridgeError:
            os.close(self._fd)
            raise

    def lines(self) -> Iterator[bytes]:
        """Streams the whole lines, without their ends."""
        with self._errors(), self.path.open("rb") as file:
            while file.tell() < self._end:
                yield file.readline().removesuffix(b"\n")

    def append(self, data: bytes) -> None:
        """Writes whole lines and returns when they are on the disk; on failure the file is as it was.

        Raises:
            StorageFullError: The disk is full.
            VecbridgeError: As given to the constructor: any other failure.
        """
        with self._errors():
            try:
                os.ftruncate(self._fd, self._end)
                os.lseek(self._fd, self._end, os.SEEK_SET)
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, self._end)
                raise
        self._end += len(data)
        self.torn = b""

    def close(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._error(f"{self.path}: another run is writing to it") from None

    def _last_line_end(self) -> tuple[int, bytes]:
        """Where the last whole line ends, and what follows it."""
        size = os.fstat(self._fd).st_size
        tail, start = b"", size
        while start and b"\n" not in tail:
            step = min(start, 65_536)
            start -= step
            tail = os.pread(self._fd, step, start) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        return size - len(torn), torn

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno in _FULL:
                raise StorageFullError(f"{self.path}: {exc.strerror}") from exc
            raise self._error(f"{self.path}: {exc.strerror or exc}") from exc


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
