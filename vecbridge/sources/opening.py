"""Opening pictures with Pillow: only raster formats, our own limit of pixels, our own sentences."""

from __future__ import annotations

import struct
import zlib
from typing import IO, Any, Final

from vecbridge.sources import tiff, tiffbands
from vecbridge.sources.pictureerror import PictureError

# Raster formats that Pillow decodes itself. Naming them keeps a file called .png from reaching the
# PostScript plugin, which would run Ghostscript. JPEG includes MPO, the format of many phones; DIB is a BMP
# without a header.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF")
# Pillow's own threshold for a decompression bomb: a quarter of a GiB of RGB.
# https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.open
MAX_PIXELS: Final = 89_478_485
# A baseline JPEG above MAX_PIXELS is decoded at a half, a quarter or an eighth of its size, row by row, so
# that memory stays what it is for the others.
MAX_DRAFT_PIXELS: Final = 250_000_000

# What Pillow's decoders raise on damaged and hostile files, besides DecompressionBombError and its
# Warning: OSError (unknown, truncated), SyntaxError (broken PNG), ValueError (text chunks too large),
# struct.error, EOFError, LookupError (tables), ArithmeticError (sizes), TypeError, AttributeError (headers
# half read), zlib.error, NotImplementedError (variants), RuntimeError (AVIF), MemoryError (sizes that the
# header invents), and its UserWarnings where the caller turns warnings into errors.
DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    zlib.error,
    RuntimeError,
    MemoryError,
    UserWarning,
)
_NO_PICTURE: Final = "the content is not a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF picture"
_OTHERS: Final = (  # what a camera or a colleague may have sent: (offset, bytes, name)
    (0, b"\x89PNG", "a PNG whose signature is damaged, as by a transfer in text mode"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"GIF", "a GIF of an unknown version"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML, perhaps SVG"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, whose file was not fetched"),
)


def open_lazily(file: IO[bytes], max_pixels: int | None, *, bands: bool = False) -> tuple[Any, int, int]:
    """A ``PIL.Image.Image`` whose header was read, with the width and height that stand in it.

    Its pixels are not read but for the kinds of TIFF that Pillow does not decode. A large JPEG is decoded at
    a fraction of its size.

    ``Image.open`` would apply Pillow's global limit of pixels, which is not ours to change, and would say of
    a damaged header that the file is no picture.

    Args:
        file: Where the picture is, from its beginning.
        max_pixels: The limit; None is :data:`MAX_DRAFT_PIXELS` for a baseline JPEG, and :data:`MAX_PIXELS`
            for all others. A progressive one is held whole, whatever size is decoded.
        bands: Do not leave a TIFF to Pillow.

    Raises:
        PictureError: No format that is read, a kind of TIFF that nothing here decodes, or too many pixels.
    """
    image = _open(file, max_pixels, bands=bands)
    width, height = image.size
    _shrink(image, max_pixels)
    return image, width, height


def _open(file: IO[bytes], max_pixels: int | None, *, bands: bool) -> Any:
    from PIL import Image

    prefix = file.read(132)
    Image.preinit()
    for format in FORMATS:
        if format not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN.get(format, (None, None))
        accepted = factory is not None and (accept is None or accept(prefix[:16].ljust(16, b"\0")))
        if format == "AVIF" and accepted is not True and prefix[4:12] in (b"ftypavif", b"ftypavis"):
            raise PictureError("AVIF is read with Pillow 11.3 or later, built with AVIF")
        if accepted is not True:  # a text says that the format's library is missing
            continue
        if format == "TIFF":
            return _open_tiff(file, factory, max_pixels, bands=bands)
        file.seek(0)
        try:
            return factory(file, "")
        except SyntaxError:
            if format != "DIB" and prefix[8:12] not in (b"mif1", b"msf1"):  # marks that others have, too
                raise
    raise PictureError(_other(prefix))


def _open_tiff(file: IO[bytes], factory: Any, max_pixels: int | None, *, bands: bool) -> Any:
    tags = tiff.read_tags(file)
    layout = tiff.Layout.of(tags)
    problem = tiff.problem(tags)
    if problem is None and not bands:
        file.seek(0)
        try:
            image = factory(file, "")
        except SyntaxError as exc:
            raise PictureError(tiff.not_read(layout)) from exc
        if not isinstance(image.info.get("xmp", b""), bytes):  # Pillow would search it as bytes
            del image.info["xmp"]
        return image
    if not tiffbands.readable(layout, tags):
        raise PictureError(problem or tiff.TWELVE_BITS)
    _require_size(layout.width, layout.height, max_pixels or MAX_PIXELS)
    return tiffbands.read(file, tags, max_pixels or MAX_PIXELS)


def _shrink(image: Any, max_pixels: int | None) -> None:
    width, height = image.size
    can_shrink = image.format in ("JPEG", "MPO")
    if max_pixels is None:
        baseline = can_shrink and not image.info.get("progressive")
        max_pixels = MAX_DRAFT_PIXELS if baseline else MAX_PIXELS
    _require_size(width, height, max_pixels)
    if can_shrink and width * height > MAX_PIXELS:
        scale = next((s for s in (2, 4) if -(-width // s) * -(-height // s) <= MAX_PIXELS), 8)
        image.draft(None, (width // scale, height // scale))


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(
            f"{width}x{height} is more than {max_pixels} pixels: make it smaller, or raise the limit "
            "(--max-pixels)"
        )


def sentence(exc: BaseException, format: str = "picture") -> str:
    """What to tell a user about an exception of Pillow's; its own sentences name its insides."""
    from PIL import Image

    text = str(exc).lower()
    if isinstance(exc, PictureError):
        return str(exc)
    if isinstance(exc, MemoryError):
        return f"the {format} needs more memory than there is"
    if isinstance(exc, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "its parts have too many pixels: make it smaller"
    if isinstance(exc, EOFError) or "truncated" in text or "not enough" in text or "unexpected end" in text:
        return f"not a picture that can be decoded: the {format} data ends too early"
    if "closed" in text:
        return "not a picture that can be decoded: its file is closed"
    return f"not a picture that can be decoded: the {format} data is damaged"


def _other(prefix: bytes) -> str:
    for offset, mark, name in _OTHERS:
        if prefix[offset : offset + len(mark)].lower() == mark.lower():
            return f"{_NO_PICTURE}, but {name}"
    return _NO_PICTURE
