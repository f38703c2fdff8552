"""The row log of one generation: a checksummed frame for each commit, appended; its frames are the catalogue.

::

    frame 0    frame 1    ...    last whole frame | what a writer died over
    ------------------------------------------------------------------------
    committed: read by everybody, changed by nobody | passed by, cut by the next writer

    frame =  header         64 bytes: magic, checksums, sizes, number of fields
             dead rows      their numbers, then the numbers of the rows that replace them, -1 for none
             new rows       an Arrow message: id, scalar fields, and the norm of each vector
             end mark       64 bytes, written with the rest; every part is padded to 64 bytes, so that Arrow
                            reads it in place

The vectors of new rows are on the disk before the frame is written, and the frame before the commit is
acknowledged. Row numbers are not written down: the new rows of a frame follow those of the frames before it.

A collection that fields were added to has frames of another magic, which say how many fields their rows have;
the rest of the columns are null. All other frames have the fields that the collection was made with. A
version of vecbridge that knows only those refuses a log with the others.

A frame without its end mark was being written when the process or the machine died, and was never
acknowledged. One that has the mark and fails its checksum is damage: nothing behind it is believed, and the
file is left as it is. Only the process that holds the writer's lock appends or cuts.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.errors import CorruptStoreError
from vecbridge.stores.faiss.files import write_all
from vecbridge.stores.faiss.place import SPEC, Place, padded

Rows = np.ndarray[Any, np.dtype[np.int64]]

_MAGIC: Final = b"VBROWS01"
_MAGIC_GROWN: Final = b"VBROWS02"  # of a frame that says how many fields it has
_ALIGN: Final = 64
_END: Final = b"VBEND\xff\xfe\xfd".ljust(_ALIGN, b"\0")
_HEADER: Final = struct.Struct("<8sIIQQQQ")  # magic, crc of the rest, crc of the body, sizes, fields
_CRC_FROM: Final = 12  # where the rest of the header starts
_MAP_FROM: Final = 4 << 20


def no_rows() -> Rows:
    """An empty array of row numbers."""
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One commit.

    Attributes:
        batch: The new rows, without their vectors; may have none.
        dead: int64 (n,), rows that this commit removes or replaces.
        successors: int64 (n,), the row that replaces each dead one; -1 if none does.
        fields: How many fields the rows have; 0 is those that the collection was made with.
    """

    batch: pa.RecordBatch
    dead: Rows = field(default_factory=no_rows)
    successors: Rows = field(default_factory=no_rows)
    fields: int = 0

    def encode(self) -> bytes:
        """The frame as it stands in the log."""
        message: bytes = self.batch.serialize().to_pybytes()
        dead = np.ascontiguousarray(np.concatenate([self.dead, self.successors]), "<i8").tobytes()
        body = dead + bytes(-len(dead) % _ALIGN) + message
        body += bytes(-len(body) % _ALIGN)
        values = (zlib.crc32(body), len(body), len(self.dead), len(message), self.fields)
        unsigned = _HEADER.pack(_magic(self.fields), 0, *values)
        header = _HEADER.pack(_magic(self.fields), _header_crc(unsigned, self.fields), *values)
        return header.ljust(_ALIGN, b"\0") + body + _END


class NewFieldsError(CorruptStoreError):
    """A frame has fields that were added since spec.json was read, or it is damage."""


def append(descriptor: int, offset: int, data: bytes) -> int:
    """Writes an encoded frame durably; returns the offset behind it.

    A frame that could not be written whole is cut off again.

    Raises:
        OSError: As the file system says.
    """
    try:
        write_all(descriptor, data, offset)
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
    return offset + len(data)


def read(path: Path, place: Place, offset: int = 0) -> tuple[list[Frame], int]:
    """Reads the whole frames from ``offset`` on.

    Args:
        path: The log.
        place: Of the namespace.
        offset: Where a frame starts.

    Returns:
        The frames, with the columns of ``place.schema``, and the offset behind the last whole one.

    Raises:
        NewFieldsError: A frame has more fields than ``place`` knows.
        CorruptStoreError: Something stands there that no writer wrote; the file is not touched.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < offset:
            raise CorruptStoreError(f"{path} is shorter than it was: {size} bytes, not {offset}")
        if size == offset:
            return [], offset
        if (
            size - offset >= _MAP_FROM
        ):  # small reads are copied: every map counts against a limit of the kernel
            data = pa.py_buffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)).slice(offset)
        else:
            data = pa.py_buffer(os.pread(file.fileno(), size - offset, offset))
    frames = []
    position = 0
    while position < data.size:
        frame, length = _decode(data.slice(position), place, path, offset + position)
        if frame is None:
            break
        frames.append(frame)
        position += length
    return frames, offset + position


def _magic(fields: int) -> bytes:
    return _MAGIC_GROWN if fields else _MAGIC


def _header_crc(header: bytes, fields: int) -> int:
    """Of all behind itself; without the number of fields where that is none, as frames always had it."""
    return zlib.crc32(header[_CRC_FROM : _HEADER.size if fields else _HEADER.size - 8])


def _decode(data: pa.Buffer, place: Place, path: Path, offset: int) -> tuple[Frame | None, int]:
    """The first frame of ``data`` and its length; None where it was never finished."""
    if data.size < _ALIGN:
        return None, 0
    header = data.slice(0, _ALIGN).to_pybytes()
    magic, header_crc, body_crc, size, dead_rows, message_size, fields = _HEADER.unpack_from(header, 0)
    whole = magic == _magic(fields) and _header_crc(header, fields) == header_crc
    if not whole or any(header[_HEADER.size :]):
        if not np.frombuffer(data, np.uint8).any():  # room that was allocated and never written
            return None, 0
        raise CorruptStoreError(
            f"{path}: no frame at byte {offset}: restore the file from a copy; nothing was changed"
        )
    length = _ALIGN + size + _ALIGN
    if data.size < length:
        return None, 0
    end = data.slice(length - _ALIGN, _ALIGN).to_pybytes()
    if end != _END:
        if data.size == length and not any(end):
            return None, 0
        raise CorruptStoreError(f"{path}: the frame at byte {offset} has no end; nothing was changed")
    body = data.slice(_ALIGN, size)
    if zlib.crc32(body) != body_crc:
        raise CorruptStoreError(
            f"{path}: the frame at byte {offset} fails its checksum: restore the file from a copy; "
            "nothing was changed"
        )
    numbers = np.frombuffer(body, "<i8", 2 * dead_rows) if dead_rows else no_rows()
    start = -(-16 * dead_rows // _ALIGN) * _ALIGN
    schema = place.schema_of(fields)
    if schema is None:
        raise NewFieldsError(
            f"{path}: the frame at byte {offset} has fields that {SPEC} does not have; nothing was changed"
        )
    batch = pa.ipc.read_record_batch(pa.py_buffer(body.slice(start, message_size)), schema)
    return Frame(padded(batch, place.schema), numbers[:dead_rows], numbers[dead_rows:], fields), length
