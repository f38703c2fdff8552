"""Opening one picture: whatever the file, the outcome is upright RGB pixels or a reason."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from vecbridge.errors import MissingDependencyError
from vecbridge.sources import tiff
from vecbridge.sources.metadata import without_metadata
from vecbridge.sources.opening import (
    DAMAGED,
    FORMATS,
    MAX_DRAFT_PIXELS,
    MAX_PIXELS,
    open_lazily,
    sentence,
)
from vecbridge.sources.pictureerror import PictureError
from vecbridge.sources.reading import open_regular, reading, unreadable

__all__ = [
    "FORMATS",
    "MAX_DRAFT_PIXELS",
    "MAX_PIXELS",
    "Picture",
    "decode",
    "open_picture",
    "picture_path",
    "unreadable",
    "upright_rgb",
]

_ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was read.

    Attributes:
        image: ``PIL.Image.Image`` in mode RGB, upright, on white; the first frame of an animation, and the
            first page of a TIFF. A JPEG above :data:`MAX_PIXELS` is decoded at a fraction of its size.
        format: What the content is, in small letters ("jpeg"), whatever the file's name says.
        width: Of the picture in the file, upright; larger than ``image.width`` where it was reduced.
        height: Likewise.
        bytes: Size of the file.
        modified: When the file last changed, in whole seconds since 1970; None for bytes in memory.
    """

    image: Any
    format: str
    width: int
    height: int
    bytes: int
    modified: int | None


def open_picture(source: str | os.PathLike[str] | bytes, *, max_pixels: int | None = None) -> Picture:
    """Reads a picture from a file or from encoded bytes.

    Metadata that Pillow cannot read, or refuses for its size, does not keep the pixels from being read.

    Args:
        source: A path, or the content of a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file. AVIF needs Pillow
            11.3 or later.
        max_pixels: Refuse pictures with more pixels. None is :data:`MAX_DRAFT_PIXELS` (250 million) for a
            baseline JPEG and :data:`MAX_PIXELS` (89 million) for all others. Decoding takes 3 to 12 bytes a
            pixel, but for a JPEG, of which no more than :data:`MAX_PIXELS` are decoded.

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
        return decode(io.BytesIO(source), len(source), max_pixels=max_pixels)
    path = os.fspath(source)
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        with reading(path):
            return decode(file, status.st_size, int(status.st_mtime), max_pixels=max_pixels)


def upright_rgb(image: Any) -> Any:
    """A ``PIL.Image.Image`` turned as its EXIF says, in mode RGB.

    Transparency is laid on white, because ``convert("RGB")`` would show what hides below it. 16-bit greys are
    divided by 257; 32-bit integers and floats, whose range no header tells, are stretched from their own.
    What is said about 16-bit TIFF stands at :func:`vecbridge.sources.tiff.greys`. The result carries no
    metadata, so that it is never turned again.

    Raises:
        InvalidRecordError: The pixels cannot be decoded.
    """
    from PIL import Image

    try:
        return _upright_rgb(image)
    except (*DAMAGED, PictureError, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise unreadable(sentence(exc, image.format or "picture")) from exc


def decode(
    file: IO[bytes], size: int, modified: int | None = None, *, max_pixels: int | None = None
) -> Picture:
    """Reads a picture from an open file, as :func:`open_picture` does.

    Args:
        file: Its content; it must seek.
        size: Bytes of the file.
        modified: When the file last changed, in whole seconds since 1970.
        max_pixels: Refuse pictures with more pixels.

    Raises:
        InvalidRecordError: It cannot be read; ``rows[0].error`` is the reason.
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as exc:
        raise MissingDependencyError("pillow", extra="onnx") from exc
    errors = (*DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        return _read(file, size, modified, max_pixels)
    except tiff.UpperBytesError:
        return _read_bands(file, size, modified, max_pixels)
    except PictureError as exc:
        raise unreadable(str(exc)) from exc
    except errors as exc:
        first = exc
    # a second try without the metadata, since that may be all that is wrong
    bare = without_metadata(file)
    if bare is not None:
        with bare:
            try:
                return _read(bare, size, modified, max_pixels)
            except (*errors, PictureError) as exc:
                raise unreadable(sentence(exc, _format(file))) from exc
    raise unreadable(sentence(first, _format(file))) from first


def _read(
    file: IO[bytes], size: int, modified: int | None, max_pixels: int | None, *, bands: bool = False
) -> Picture:
    file.seek(0)
    image, width, height = open_lazily(file, max_pixels, bands=bands)
    with image:
        reduced = image.size != (width, height)
        rgb = _upright_rgb(image)
        if not reduced:
            width, height = rgb.size
        elif _orientation(image) >= 5:  # a quarter turn
            width, height = height, width
        return Picture(rgb, str(image.format).lower(), width, height, size, modified)


def _read_bands(file: IO[bytes], size: int, modified: int | None, max_pixels: int | None) -> Picture:
    try:
        return _read(file, size, modified, max_pixels, bands=True)
    except (*DAMAGED, PictureError) as exc:
        raise unreadable(sentence(exc, "TIFF")) from exc


def _format(file: IO[bytes]) -> str:
    """The format that a damaged file claims to be, for a message."""
    from PIL import Image

    file.seek(0)
    prefix = file.read(16).ljust(16, b"\0")  # the plugins expect that many
    for format in FORMATS:
        _, accept = Image.OPEN.get(format, (None, None))
        if accept is not None and accept(prefix) is True:
            return format.replace("WEBP", "WebP").replace("DIB", "BMP")
    return "picture"


def _orientation(image: Any) -> int:
    """The EXIF orientation; damaged EXIF does not spoil good pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DAMAGED:
        return 1


def _upright_rgb(image: Any) -> Any:
    from PIL import Image, ImageOps

    if hasattr(image, "tag_v2") and (problem := tiff.problem(image.tag_v2)) is not None:
        raise PictureError(problem)  # an image that the caller opened
    image.load()
    orientation = _orientation(image)
    rgb = _to_rgb(image, Image)
    rgb.info.clear()
    rgb.getexif().clear()
    if 2 <= orientation <= 8:
        # alone, since Pillow writes the other tags anew, which fails where they are damaged
        rgb.getexif()[_ORIENTATION] = orientation
        ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def _to_rgb(image: Any, Image: Any) -> Any:
    scaled = None
    if hasattr(image, "tag_v2"):
        scaled = tiff.greys(image)
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        scaled = tiff.scaled_16_bit(np.asarray(image))
    elif image.mode in ("I", "F"):
        scaled = tiff.stretched(np.asarray(image))
    if scaled is not None:
        return Image.fromarray(scaled).convert("RGB")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layers).convert("RGB")
    return image.convert("RGB")


def picture_path(source: str | os.PathLike[str]) -> str:
    """An absolute path as the ``path`` column holds it; links in it are kept."""
    return str(Path(source).absolute())
