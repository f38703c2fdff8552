"""The ledger: which rows a side has and what they hold, as 16 bytes a row, on the disk.

A row is an *entry*: an 8-byte key, made from its namespace and its id, and an 8-byte digest of what it holds.
The entries of a side are spread over 256 files by the first byte of their keys, so that two sides are
compared file by file: memory is one file of each, however many rows there are.

Two different rows have the same digest once in 2**64 pairs, and nobody can make such a pair on purpose, since
both hashes are keyed (BLAKE2, RFC 7693) by 16 random bytes.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from vecbridge.errors import StorageFullError
from vecbridge.migration import encoding
from vecbridge.storage import is_full

ENTRY: Final = np.dtype([("key", "<u8"), ("digest", "<u8")])
KEY_BYTES: Final = 16  # of the hash key
BUCKETS: Final = 256
#: The digest of no row: of an entry whose row may be at the target, with whatever content.
UNSETTLED: Final = 0

Entries: TypeAlias = "np.ndarray[Any, np.dtype[np.void]]"
Keys: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
Kind: TypeAlias = Literal["left", "right", "digest", "repeated"]

_BUFFERED: Final = 1 << 18  # entries, 4 MiB
_SPARE: Final = 16 << 20  # bytes of a disk that are left free


def new_key() -> bytes:
    """A random hash key; both sides of a comparison need the same one."""
    return os.urandom(KEY_BYTES)


def entries(batch: pa.RecordBatch, namespace: str, *, key: bytes) -> Entries:
    """The entries of some rows.

    Vectors and floats count by their bits, -0.0 as 0.0; null, "" and [] differ, and so do the id 1 and the
    id "1". How the rows are cut into batches does not matter, nor does the order of the columns.

    Args:
        batch: Rows in the schema of the target: what the converter made, or what a scan of the target gave.
        namespace: Their namespace at the target.
        key: The hash key, 16 bytes.

    Returns:
        One entry a row, in the order of the rows; dtype :data:`ENTRY`, shape (n,).

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"title": "string"})
        >>> batch = vb.batch(spec, id=["a", "b"], vector=[[1, 0], [1, 0]], title=["", None])
        >>> left, right = entries(batch, "", key=bytes(16))
        >>> left["digest"] == right["digest"]
        np.False_
    """
    made = np.empty(batch.num_rows, ENTRY)
    made["key"] = keys(batch.column("id"), namespace, key=key)
    hashed = b"".join(
        blake2b(data[start:end], digest_size=8, key=key).digest()
        for data, offsets in encoding.encoded(batch)
        for start, end in pairwise(offsets)
    )
    digests = np.frombuffer(hashed, "<u8")
    made["digest"] = np.where(digests == UNSETTLED, 1, digests)
    return made


def keys(ids: pa.Array, namespace: str, *, key: bytes) -> Keys:
    """The keys of some ids; uint64, shape (n,)."""
    name = namespace.encode("utf-8", "surrogatepass")
    start = len(name).to_bytes(4, "little") + name + (b"i" if pa.types.is_integer(ids.type) else b"s")
    data, offsets = encoding.id_bytes(ids)
    hashed = b"".join(
        blake2b(start + data[first:end], digest_size=8, key=key).digest() for first, end in pairwise(offsets)
    )
    return np.frombuffer(hashed, "<u8")


class Ledger:
    """The entries of one side, in 256 files of a directory; thread-safe.

    Args:
        directory: An empty directory, or one that does not exist yet. Whoever gives it removes it.

    Attributes:
        directory: Where the files are.
        rows: Entries so far.

    Raises:
        StorageFullError: The disk is full.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rows = 0
        self._buffer: list[Entries] = []
        self._buffered = 0
        self._written: set[int] = set()  # buckets
        self._mutex = threading.Lock()
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)

    def add(self, entries: Entries) -> None:
        """Adds entries; those of one thread stay in the order in which it adds them."""
        with self._mutex:
            self._buffer.append(entries)
            self._buffered += len(entries)
            self.rows += len(entries)
            if self._buffered >= _BUFFERED:
                self._spill()

    def close(self) -> None:
        """Writes out what is in memory. The buckets can be read then, and more can be added still."""
        with self._mutex:
            self._spill()

    def bucket(self, number: int) -> Entries:
        """The entries whose keys start with this byte, sorted by key, then by digest."""
        entries = self.unsorted_bucket(number)
        return entries[np.lexsort((entries["digest"], entries["key"]))]

    def latest_bucket(self, number: int) -> Entries:
        """The same with each key once: of several entries the one that was added last."""
        entries = self.unsorted_bucket(number)
        entries = entries[np.argsort(entries["key"], kind="stable")]
        last = np.ones(len(entries), np.bool_)
        last[:-1] = entries["key"][1:] != entries["key"][:-1]
        return entries[last]

    def unsorted_bucket(self, number: int) -> Entries:
        """The entries of a bucket in the order in which they were added."""
        if self._buffered:
            self.close()
        return np.fromfile(self._path(number), ENTRY) if number in self._written else np.empty(0, ENTRY)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:02x}"

    def _spill(self) -> None:
        if not self._buffered:
            return
        entries = np.concatenate(self._buffer)
        buckets = (entries["key"] >> np.uint64(56)).astype(np.uint8)
        entries = entries[np.argsort(buckets, kind="stable")]
        ends = np.cumsum(np.bincount(buckets, minlength=BUCKETS))
        with storage_errors(self.directory):
            for number, part in enumerate(np.split(entries, ends[:-1])):
                if len(part):
                    with self._path(number).open("ab") as file:
                        file.write(part.tobytes())
                    self._written.add(number)
        self._buffer, self._buffered = [], 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of which the two sides hold not the same.

    Attributes:
        kind: "left" or "right" where only that side has it, "digest" where the rows differ, "repeated" where
            a side has the key more than once.
        key: The key.
        left: The digests at the left side, sorted.
        right: The digests at the right side, sorted.
    """

    kind: Kind
    key: int
    left: tuple[int, ...]
    right: tuple[int, ...]

    @property
    def covered(self) -> bool:
        """Whether each row of the right side is one of the left: all that can be asked of repeated ids."""
        return bool(self.right) and set(self.right) <= set(self.left)


def compare(left: Ledger, right: Ledger) -> Iterator[Difference]:
    """All that differs, in the order of the keys; memory is one file of each side.

    A key that comes twice is a difference even where the digests are the same; :attr:`Difference.covered`
    tells.
    """
    for number in range(BUCKETS):
        yield from _differences(left.bucket(number), right.bucket(number))


def _differences(left: Entries, right: Entries) -> Iterator[Difference]:
    if np.array_equal(left, right) and not (left["key"][1:] == left["key"][:-1]).any():
        return
    both = np.concatenate([left, right])
    both_keys, where, counts = np.unique(both["key"], return_inverse=True, return_counts=True)
    left_counts = np.bincount(where[: len(left)], minlength=len(both_keys))
    right_counts = counts - left_counts
    left_ends, right_ends = np.cumsum(left_counts), np.cumsum(right_counts)
    suspects = (left_counts != 1) | (right_counts != 1)
    alone = np.flatnonzero(~suspects)
    suspects[alone] = left["digest"][left_ends[alone] - 1] != right["digest"][right_ends[alone] - 1]
    for place in np.flatnonzero(suspects).tolist():
        mine = left["digest"][left_ends[place] - left_counts[place] : left_ends[place]].tolist()
        theirs = right["digest"][right_ends[place] - right_counts[place] : right_ends[place]].tolist()
        yield Difference(_kind(mine, theirs), int(both_keys[place]), tuple(mine), tuple(theirs))


def _kind(left: list[int], right: list[int]) -> Kind:
    if not right:
        return "left"
    if not left:
        return "right"
    return "digest" if len(left) == len(right) == 1 else "repeated"


def require_room(directory: Path, rows: int) -> None:
    """Refuses to start where the entries of so many rows will find no room.

    Args:
        directory: Where they are to be written; or, if it does not exist yet, the one in which it will be.
        rows: Rows of all sides together.

    Raises:
        StorageFullError: Says what is free and what is needed.
    """
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    needed, free = ENTRY.itemsize * rows + _SPARE, shutil.disk_usage(place).free
    if needed > free:
        raise StorageFullError(
            f"{directory}: {free / 1e9:,.1f} GB are free, and the ledger of {rows:,} rows takes "
            f"{needed / 1e9:,.1f} GB"
        )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Maps a full disk to our error."""
    try:
        yield
    except OSError as exc:
        if is_full(exc):
            raise StorageFullError(f"{path}: {exc.strerror}") from exc
        raise
