"""Copies input in which nobody can seek (standard input, pipes, compressed files) to temporary files.

The readers of tables and pictures open a file more than once and by its suffix. A copy has a suffix that they
know, and it is removed when the spool is closed.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from vecbridge.closing import Closing
from vecbridge.errors import ConfigError, StorageFullError, VecbridgeError
from vecbridge.sources.lines import MARKS
from vecbridge.sources.tables import TABLE_SUFFIXES
from vecbridge.storage import is_full

STDIN: Final = "-"
MAX_BYTES: Final = 64 * 2**30
FORMATS: Final[Mapping[str, str]] = {"jsonl": ".jsonl", "parquet": ".parquet", "npy": ".npy"}
COMPRESSED: Final = (".gz", ".zst")
_PIPES: Final = re.compile(r"/dev/(stdin|fd/[0-9]+)|/proc/(self|[0-9]+)/fd/[0-9]+")
_CHUNK: Final = 2**20
_MAGIC: Final[Mapping[str, bytes]] = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
_MAGIC_BYTES: Final = 4
_TABLES: Final[Mapping[bytes, str]] = {
    b"PAR1": ".parquet",
    b"\x93NUMPY": ".npy",
    b"{": ".jsonl",
    b"[": ".jsonl",
}


class Spool(Closing):
    """Temporary copies of what cannot be read in place.

    Args:
        max_bytes: A longer copy is refused, so that a small compressed file cannot fill the disk.
        format: What input without a suffix of its own holds: jsonl, parquet or npy; None looks at the first
            bytes.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, format: str | None = None) -> None:
        if format is not None and format not in FORMATS:
            raise ConfigError(f"format={format!r}: one of {', '.join(FORMATS)}")
        self._max_bytes = max_bytes
        self._suffix = FORMATS[format] if format else None
        self._folder: Path | None = None
        self._names: dict[str, str] = {}
        self._unnamed = 0
        self._stdin_read = False

    def table(self, path: Path) -> Path:
        """The path of a file of records: the one given if it can be read in place, or else that of a copy.

        Args:
            path: A file, ``-`` for standard input, or a pipe.

        Raises:
            ConfigError: Nothing to read, not compressed as its name says, or of no known format.
            StorageFullError: No room for the copy.
            VecbridgeError: The copy would be longer than ``max_bytes``.
        """
        compression = path.suffix.lower() if path.suffix.lower() in COMPRESSED else None
        if not is_stream(path):
            if compression is None or not path.is_file():
                return path
            inner = Path(path.stem).suffix.lower()
            suffix = inner if inner in TABLE_SUFFIXES else self._suffix
            with path.open("rb", buffering=0) as file:
                return self._copy(file, str(path), suffix, compression)
        self._require_first(path)
        with _opened(path) as stream:
            return self._copy(stream, self._name(), self._suffix, None)

    def picture(self, path: Path) -> Path:
        """The path of a picture: the one given, or that of a copy of standard input or of a pipe."""
        if not is_stream(path):
            return path
        with _opened(path) as stream:
            return self._copy(stream, self._name(), ".picture", None)

    def name(self, path: Path) -> str:
        """What a path that :meth:`table` or :meth:`picture` returned is called: ``-`` for what was a pipe."""
        return self._names.get(str(path), str(path))

    def named(self, text: str) -> str:
        """A text with the names of the inputs for the paths of their copies."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    def close(self) -> None:
        """Removes the copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _require_first(self, path: Path) -> None:
        if str(path) in (STDIN, "/dev/stdin"):
            if self._stdin_read:
                raise ConfigError(f"{path}: standard input can be read once only")
            self._stdin_read = True

    def _name(self) -> str:
        self._unnamed += 1
        return STDIN if self._unnamed == 1 else f"{STDIN}{self._unnamed}"

    def _copy(
        self,
        stream: io.FileIO,
        name: str,
        suffix: str | None,
        compression: str | None,
    ) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="vecbridge-input-"))
        copy: Path | None = None
        try:
            source = _expanded(stream, name, compression, known=suffix == ".picture")
            first = _read(source, _CHUNK, name)
            copy = self._folder / f"{len(self._names)}{suffix or _guessed(first, name)}"
            self._require_room(_length(stream), name)
            self._write(copy, first, source, name)
        except BaseException as exc:
            if copy is not None:
                copy.unlink(missing_ok=True)
            if isinstance(exc, OSError) and is_full(exc):
                raise _full(name, self._folder, exc) from exc
            raise
        self._names[str(copy)] = name
        return copy

    def _write(self, copy: Path, first: bytes, source: IO[bytes], name: str) -> None:
        written, data = 0, first
        with copy.open("wb", buffering=0) as file:
            while data:
                written += len(data)
                if written > self._max_bytes:
                    raise VecbridgeError(
                        f"{name} has more than {self._max_bytes:,} bytes once expanded: "
                        "give a larger max_bytes= if that is meant"
                    )
                self._require_room(len(data), name)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                data = _read(source, _CHUNK, name)

    def _require_room(self, needed: int, name: str) -> None:
        """Refuses what does not fit; a compressed file takes at least its own length once expanded."""
        if self._folder is not None and shutil.disk_usage(self._folder).free < needed:
            raise _full(name, self._folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def is_stream(path: Path) -> bool:
    """Whether a path is ``-``, a pipe, or anything else in which one cannot seek."""
    if str(path) == STDIN or _PIPES.fullmatch(str(path)):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class _Joined(io.RawIOBase):
    """The bytes that were read ahead, and then the rest of the stream.

    A call reads once from the unbuffered stream: a buffered one reads on until it has all, and no signal,
    such as that of Ctrl-C, is seen meanwhile.
    """

    def __init__(self, head: bytes, rest: io.FileIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._head = (self._head[: len(buffer)], self._head[len(buffer) :])
        data = data or _read_some(self._rest, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read_some(stream: io.FileIO, size: int) -> bytes:
    """At least one byte and at most ``size``; none at the end."""
    while (data := stream.read(size)) is None:  # a pipe that does not block, as a parent may have left it
        select.select([stream], [], [])
    return data


def _opened(path: Path) -> io.FileIO:
    if str(path) != STDIN:
        try:
            return path.open("rb", buffering=0)
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}") from exc
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError("-: nothing is piped into this command")
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def _expanded(stream: io.FileIO, name: str, compression: str | None, *, known: bool) -> IO[bytes]:
    """The stream without its compression; where no name tells it, the first bytes do."""
    head = b""
    while len(head) < _MAGIC_BYTES and (more := _read_some(stream, _MAGIC_BYTES - len(head))):
        head += more
    whole = io.BufferedReader(_Joined(head, stream), _CHUNK)
    found = next((suffix for suffix, magic in _MAGIC.items() if head.startswith(magic)), None)
    if compression not in (None, found):
        raise ConfigError(f"{name}: not compressed as {compression} says")
    if found is None or known:
        return whole
    if found == ".gz":
        import gzip

        return gzip.GzipFile(fileobj=whole, mode="rb")  # type: ignore[return-value]
    import pyarrow as pa

    expanded: IO[bytes] = pa.CompressedInputStream(pa.PythonFile(whole, mode="r"), "zstd")
    return expanded


def _read(source: IO[bytes], size: int, name: str) -> bytes:
    """Some bytes; none at the end.

    Raises:
        ConfigError: The compressed data is damaged or ends early.
    """
    import zlib

    try:
        return source.read(size)
    except (EOFError, zlib.error, OSError) as exc:
        cut = isinstance(exc, EOFError) or "truncated" in str(exc).lower()
        damage = f"the compressed data {'ends too early' if cut else 'is damaged'}"
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else damage
        raise ConfigError(f"{name}: cannot be read: {reason}") from exc


def _guessed(first: bytes, name: str) -> str:
    """The suffix for content that has no name.

    Raises:
        ConfigError: It is none of the formats.
    """
    text = first.lstrip()
    for mark in MARKS:
        if first.startswith(mark):
            return ".jsonl"
    for magic, suffix in _TABLES.items():
        if text.startswith(magic):
            return suffix
    if not text:
        return ".jsonl"
    raise ConfigError(
        f"{name}: neither Parquet, JSON lines nor .npy by its first bytes: say format= which it is"
    )


def _length(stream: io.FileIO) -> int:
    """Bytes of a file; 0 for a pipe, whose length nobody knows."""
    state = os.fstat(stream.fileno())
    return state.st_size if stat.S_ISREG(state.st_mode) else 0


def _full(name: str, folder: Path, exc: OSError) -> StorageFullError:
    return StorageFullError(
        f"{name}: no room for a temporary copy in {folder.parent}: {exc.strerror}; "
        "set TMPDIR to a folder with more",
        unsent=True,
    )
