"""Pictures without the parts that say something about them: damaged metadata does not spoil good pixels."""

from __future__ import annotations

import struct
import tempfile
import zlib
from typing import IO, Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
# What the pixels depend on; eXIf holds the orientation. The chunks of an animation are left out: what remains
# is the picture that a viewer without animations shows.
_PNG_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_WEBP_CHUNKS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_IN_MEMORY: Final = 32 * 2**20  # a larger copy goes to the disk


def without_metadata(file: IO[bytes]) -> IO[bytes] | None:
    """A copy of a PNG, JPEG or WebP with its pixels alone; None for other formats and damaged structures."""
    file.seek(0)
    prefix = file.read(12)
    file.seek(0)
    copy: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    done = False
    if prefix.startswith(_PNG):
        done = _png(file, copy)
    elif prefix.startswith(b"\xff\xd8"):
        done = _jpeg(file, copy)
    elif prefix[:4] == b"RIFF" and prefix[8:] == b"WEBP":
        done = _webp(file, copy)
    if not done:
        copy.close()
        return None
    copy.seek(0)
    return copy


def _png(file: IO[bytes], copy: IO[bytes]) -> bool:
    """Chunks: length, name, content, CRC.

    https://www.w3.org/TR/png-3/#5Chunk-layout
    """
    copy.write(file.read(len(_PNG)))
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name not in _PNG_CHUNKS:
            file.seek(length + 4, 1)
            continue
        rest = file.read(length + 4)
        intact = zlib.crc32(name + rest[:-4]).to_bytes(4, "big") == rest[-4:]
        if name != b"eXIf" or intact:
            copy.write(head + rest)
        if name == b"IEND":
            return True
    return False


def _jpeg(file: IO[bytes], copy: IO[bytes]) -> bool:
    """Segments up to the first scan; of APPn and COM, only Adobe's mark stays, which tells the colours."""
    copy.write(file.read(2))
    while len(mark := file.read(2)) == 2 and mark[0] == 0xFF:
        if mark[1] == 0xDA:
            copy.write(mark)
            while block := file.read(2**20):
                copy.write(block)
            return True
        if mark[1] == 0xFF:  # padding
            file.seek(-1, 1)
            continue
        size = file.read(2)
        body = file.read(max(int.from_bytes(size, "big") - 2, 0))
        says_colours = mark[1] == 0xEE and len(body) >= 12
        if not (0xE0 <= mark[1] <= 0xEF or mark[1] == 0xFE) or says_colours:
            copy.write(mark + size + body)
    return False


def _webp(file: IO[bytes], copy: IO[bytes]) -> bool:
    """RIFF chunks, padded to an even length; the flags in VP8X say which metadata follows."""
    file.seek(12)
    copy.write(b"RIFF\0\0\0\0WEBP")
    while len(head := file.read(8)) == 8:
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name not in _WEBP_CHUNKS:
            file.seek(length + length % 2, 1)
            continue
        body = file.read(length + length % 2)
        if name == b"VP8X" and body:
            body = bytes([body[0] & ~0b101100]) + body[1:]  # ICC, EXIF, XMP
        copy.write(head + body)
    total = copy.tell()
    copy.seek(4)
    copy.write(struct.pack("<I", total - 8))
    return total > 12
