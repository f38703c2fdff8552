"""Opening one picture: whatever the file, the outcome is upright RGB pixels or a reason."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from vecbridge.errors import Failure, InvalidRecordError, MissingDependencyError
from vecbridge.sources.deadletters import printable

# Raster formats that Pillow decodes itself. Naming them keeps a file called .png from reaching the
# PostScript plugin, which would run Ghostscript. JPEG includes MPO, the format of many phones; DIB is a BMP
# without a header.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF")
# Pillow's own threshold for a decompression bomb: a quarter of a GiB of RGB.
# https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.open
MAX_PIXELS: Final = 89_478_485

# What Pillow's decoders raise on damaged and hostile files, besides DecompressionBombError and its
# Warning: OSError (unknown, truncated), SyntaxError (broken PNG), ValueError (text chunks too large),
# struct.error, EOFError, LookupError (tables), ArithmeticError (sizes), TypeError, zlib.error,
# NotImplementedError (variants), MemoryError (sizes that the header invents), and its UserWarnings where the
# caller turns warnings into errors.
_DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    zlib.error,
    NotImplementedError,
    MemoryError,
    UserWarning,
)
_ORIENTATION: Final = 0x0112
# EXIF 2.32, table 6: how to turn the stored pixels, as Pillow's Transpose members
_UPRIGHT: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was read.

    Attributes:
        image: ``PIL.Image.Image`` in mode RGB, upright, on white; the first frame of an animation.
        format: What the content is, in small letters ("jpeg"), whatever the file's name says.
        bytes: Size of the file.
        modified: When the file last changed, in whole seconds since 1970; None for bytes in memory.
    """

    image: Any
    format: str
    bytes: int
    modified: int | None


def open_picture(source: str | os.PathLike[str] | bytes) -> Picture:
    """Reads a picture from a file or from encoded bytes.

    Args:
        source: A path, or the content of a JPEG, PNG, WebP, GIF, BMP or TIFF file.

    Returns:
        The picture, decoded.

    Raises:
        InvalidRecordError: It cannot be read; ``rows[0].error`` is the reason. Links are followed, and what
            is not a regular file is never waited for.
        MissingDependencyError: Pillow is not installed.
    """
    if isinstance(source, bytes):
        if not source:
            raise unreadable("the picture is empty")
        return _decode(io.BytesIO(source), len(source), None)
    path = os.fspath(source)
    try:
        with _open_regular(path) as file:
            status = os.fstat(file.fileno())
            return _decode(file, status.st_size, int(status.st_mtime))
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise unreadable(f"cannot be opened: {reason}", path) from exc


def upright_rgb(image: Any) -> Any:
    """A ``PIL.Image.Image`` turned as its EXIF says, in mode RGB.

    Transparency is laid on white, because ``convert("RGB")`` would show what hides below it. 16-bit greys are
    divided by 257; 32-bit integers and floats, whose range no header tells, are stretched from their own.

    Raises:
        InvalidRecordError: The pixels cannot be decoded.
    """
    from PIL import Image

    try:
        image.load()
        orientation = _orientation(image)
        rgb = _to_rgb(image, Image)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(Image.Transpose[_UPRIGHT[orientation]])
    except (*_DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise unreadable(f"not a picture that can be decoded: {_reason(exc)}") from exc
    return rgb


def unreadable(reason: str, path: str | None = None) -> InvalidRecordError:
    """The error for one picture; the reason stands in ``rows[0].error``."""
    message = reason if path is None else f"{printable(path)}: {reason}"
    return InvalidRecordError(message, [Failure(0, None, reason)])


def _open_regular(path: str) -> IO[bytes]:
    """Opens a regular file that is not empty; O_NONBLOCK, since opening a fifo would wait for a writer."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    status = os.fstat(handle)
    reason = None
    if stat.S_ISDIR(status.st_mode):
        reason = "is a directory"
    elif not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file"
    elif not status.st_size:
        reason = "the file is empty"
    if reason:
        os.close(handle)
        raise unreadable(reason, path)
    return open(handle, "rb")  # noqa: PTH123 - a descriptor; the caller closes it


def _decode(file: IO[bytes], size: int, modified: int | None) -> Picture:
    try:
        from PIL import Image
    except ImportError as exc:
        raise MissingDependencyError("pillow", extra="onnx") from exc
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise unreadable(f"{width}x{height} is more than {MAX_PIXELS} pixels: make it smaller")
            return Picture(upright_rgb(image), str(image.format).lower(), size, modified)
    except Image.UnidentifiedImageError as exc:
        raise unreadable("the content is not a JPEG, PNG, WebP, GIF, BMP or TIFF picture") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise unreadable(f"more than {MAX_PIXELS} pixels: make it smaller") from exc
    except _DAMAGED as exc:
        raise unreadable(f"not a picture that can be decoded: {_reason(exc)}") from exc


def _orientation(image: Any) -> int:
    """The EXIF orientation; damaged EXIF does not spoil good pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:
        return 1


def _to_rgb(image: Any, Image: Any) -> Any:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        greys = (np.asarray(image).astype(np.float64) / 257).round().clip(0, 255)
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretched(np.asarray(image).astype(np.float64))).convert("RGB")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layers).convert("RGB")
    return image.convert("RGB")


def _stretched(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not np.isfinite(values).all():
        raise ValueError("pixels are NaN or Inf")
    low, high = values.min(), values.max()
    scaled: np.ndarray[Any, np.dtype[np.float64]] = (values - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().astype(np.uint8)


def _reason(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def picture_path(source: str | os.PathLike[str]) -> str:
    """An absolute path as the ``path`` column holds it; links in it are kept."""
    return str(Path(source).absolute())
