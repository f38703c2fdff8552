"""Pixels of the TIFF that Pillow does not decode: floats, planes and bands, uncompressed or deflated.

Layout and predictor are those of TIFF 6.0 (Adobe, 1992), sections 3, 14 and 15.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np

from vecbridge.sources.pictureerror import PictureError
from vecbridge.sources.tiff import Layout, full_range, missing_value, scaled_16_bit, stretched

_ROWS_PER_STRIP, _PREDICTOR, _FILL_ORDER, _ORIENTATION = 278, 317, 266, 274
_STRIPS: Final = (273, 279)  # offsets and byte counts
_TILES: Final = (324, 325)
_KINDS: Final = {"unsigned": "u", "signed": "i", "float": "f"}
_DEFLATE: Final = frozenset({8, 32946})
_BYTES_A_PIXEL: Final = 12  # RGB of 32-bit floats

Pixels = np.ndarray[Any, np.dtype[Any]]


def readable(layout: Layout, tags: Any) -> bool:
    """Whether :func:`read` decodes it: one grey band, or RGB with or without bands that are not alpha."""
    if layout.kind not in _KINDS or layout.bits not in (8, 16, 32, 64) or tags.get(_FILL_ORDER, 1) != 1:
        return False
    if (layout.kind, layout.bits) == ("float", 8):
        return False
    predictor = tags.get(_PREDICTOR, 1)
    if predictor != 1 and (predictor, layout.kind == "float") != (2, False):
        return False
    grey = layout.colours in (0, 1) and layout.samples == 1
    rgb = layout.colours == 2 and layout.samples >= 3 and not any(layout.extra)
    return layout.compression in {1, *_DEFLATE} and (grey or rgb)


def read(file: IO[bytes], tags: Any, max_pixels: int) -> Any:
    """The picture as a ``PIL.Image.Image`` of mode L or RGB, not yet turned.

    16-bit values become what :func:`vecbridge.sources.tiff.greys` makes of them; signed, wider and float
    values are stretched from the smallest to the largest of all bands.

    Raises:
        PictureError: Pixels are NaN or Inf, or take more memory than ``max_pixels`` of 12 bytes.
    """
    from PIL import Image

    layout = Layout.of(tags)
    values = _values(file, tags, layout, max_pixels)
    if layout.kind == "unsigned" and layout.bits == 8:
        scaled = values
    elif layout.kind == "unsigned" and layout.bits == 16:
        scaled = scaled_16_bit(values, full_range(layout, int(values.max())))
    else:
        scaled = stretched(values, missing_value(tags))
    if layout.colours == 0:
        scaled = 255 - scaled
    image = Image.fromarray(np.ascontiguousarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled))
    image.format = "TIFF"
    image.getexif()[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    return image


def _values(file: IO[bytes], tags: Mapping[int, Any], layout: Layout, max_pixels: int) -> Pixels:
    """The first one or three bands: shape (height, width, bands)."""
    width, height = layout.width, layout.height
    bands = 1 if layout.samples == 1 else 3
    stored = np.dtype(f"{layout.order}{_KINDS[layout.kind]}{layout.bits // 8}")
    if width * height * bands * stored.itemsize > max_pixels * _BYTES_A_PIXEL:
        raise PictureError(f"{width}x{height} of {bands} {layout.bits}-bit bands takes too much memory")
    tiled = _TILES[0] in tags
    wide, high = (tags[322], tags[323]) if tiled else (width, min(tags.get(_ROWS_PER_STRIP, height), height))
    samples = 1 if layout.planar else layout.samples
    if min(wide, high) < 1 or wide * high > max(4 * width * height, 2**20):
        raise ValueError("the size of the tiles")
    offsets, counts = (_numbers(tags[tag]) for tag in (_TILES if tiled else _STRIPS))
    values = np.empty((height, width, bands), stored.newbyteorder("="))
    places = [(top, left) for top in range(0, height, high) for left in range(0, width, wide)]
    for plane in range(bands if layout.planar else 1):
        for number, (top, left) in enumerate(places, plane * len(places)):
            rows = high if tiled else min(high, height - top)
            file.seek(offsets[number])
            size = rows * wide * samples * stored.itemsize
            data = _content(file, counts[number], size, deflated=layout.compression in _DEFLATE)
            block = np.frombuffer(data, stored).reshape(rows, wide, samples)
            if tags.get(_PREDICTOR, 1) == 2:
                block = np.cumsum(block, axis=1, dtype=values.dtype)  # differences that wrap around
            kept = slice(plane, plane + 1) if layout.planar else slice(None)
            part = block[: height - top, : width - left, :bands]
            values[top : top + rows, left : left + wide, kept] = part
    return values


def _content(file: IO[bytes], count: int, size: int, *, deflated: bool) -> bytes:
    if deflated:
        data = zlib.decompressobj().decompress(file.read(count), size)
    else:
        data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)
