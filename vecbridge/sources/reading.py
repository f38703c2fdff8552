"""Reading a file once: its content, its SHA-256, its size and its time come from the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from vecbridge.errors import Failure, InvalidRecordError
from vecbridge.sources.deadletters import printable

IN_MEMORY: Final = 64 * 2**20  # bytes; a larger file is decoded from the disk


@dataclass(frozen=True, slots=True)
class FileState:
    """What the file system tells of a file without reading it.

    Attributes:
        size: Bytes.
        modified: When it last changed, in nanoseconds since 1970.
    """

    size: int
    modified: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """The state of a file; links are followed.

        Raises:
            InvalidRecordError: It is not there, or is not a regular file; ``rows[0].error`` is the reason.
        """
        try:
            status = os.stat(path)  # noqa: PTH116 - nothing but a call to the system, for each of millions
        except (OSError, ValueError) as exc:
            raise unreadable(_cannot_be_opened(exc), path) from exc
        if not stat.S_ISREG(status.st_mode):
            raise unreadable(_irregular(status.st_mode), path)
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class SourceItem:
    """A picture, or a line of a text, as it was read: what tells whether it is still the same.

    Attributes:
        id: The id of its record.
        root: The folder that :class:`~vecbridge.sources.images.ImageSource` measures from; absolute.
        relative: The path of its file below the root, with ``/``.
        size: Bytes of the file, or of the line in UTF-8.
        modified: When the file last changed, in nanoseconds since 1970; None for a line.
        sha256: Of the bytes of the file, or of the line in UTF-8; 64 hexadecimal digits.
    """

    id: str
    root: str
    relative: str
    size: int
    modified: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that is being read.

    Attributes:
        file: Its content, from the beginning.
        state: Its size and its time.
        sha256: Of its content; 64 hexadecimal digits.
    """

    file: IO[bytes]
    state: FileState
    sha256: str


@contextmanager
def read_once(path: str) -> Iterator[OpenedFile]:
    """Reads a file for a decoder.

    A file up to 64 MiB is read into memory. A larger one stays on the disk, and is refused if it changes
    before the decoder has finished.

    Raises:
        InvalidRecordError: It cannot be read, is empty or no regular file; ``rows[0].error`` is the reason.
            Links are followed, and what is not a regular file is never waited for.
    """
    with open_regular(path) as file:
        state = _state(file)
        if state.size <= IN_MEMORY:
            with reading(path):
                data = file.read()
            state = FileState(len(data), state.modified)
            yield OpenedFile(io.BytesIO(data), state, hashlib.sha256(data).hexdigest())
            return
        with reading(path):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        yield OpenedFile(file, state, digest)
        if _state(file) != state:
            raise unreadable("changed while it was read", path)


def digest_file(path: str) -> tuple[FileState, str]:
    """The state and the SHA-256 of a file, in constant memory.

    Raises:
        InvalidRecordError: As :func:`read_once`.
    """
    with open_regular(path) as file:
        state = _state(file)
        with reading(path):
            return state, hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_regular(path: str) -> Iterator[IO[bytes]]:
    """Opens a regular file that is not empty.

    Raises:
        InvalidRecordError: There is none; ``rows[0].error`` is the reason.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags)  # O_NONBLOCK, since opening a fifo would wait for a writer
    except (OSError, ValueError) as exc:
        raise unreadable(_cannot_be_opened(exc), path) from exc
    status = os.fstat(handle)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = _irregular(status.st_mode)
    elif not status.st_size:
        reason = "the file is empty"
    if reason is not None:
        os.close(handle)
        raise unreadable(reason, path)
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
        yield file


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Has an error of the operating system name the file.

    Raises:
        InvalidRecordError: There was one.
    """
    try:
        yield
    except OSError as exc:
        raise unreadable(f"cannot be read: {exc.strerror or exc}", path) from exc


def unreadable(reason: str, path: str | None = None) -> InvalidRecordError:
    """The error for one file; the reason stands in ``rows[0].error``."""
    message = reason if path is None else f"{printable(path)}: {reason}"
    return InvalidRecordError(message, [Failure(0, None, reason)])


def _state(file: IO[bytes]) -> FileState:
    status = os.fstat(file.fileno())
    return FileState(status.st_size, status.st_mtime_ns)


def _cannot_be_opened(exc: OSError | ValueError) -> str:
    if isinstance(exc, OSError):
        return f"cannot be opened: {exc.strerror or exc}"
    return "cannot be opened: its name has a NUL byte"


def _irregular(mode: int) -> str:
    return "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
