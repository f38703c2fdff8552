"""Makes odd pictures from fixed seeds, for the page "Odd files" and for tests; needs Pillow alone."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

Make = Callable[[], bytes]
HEIGHT, WIDTH = 24, 32
_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH]
#: A gradient of three colours, 0 to 1: every kind of picture holds it, so that what is read can be compared.
SCENE = np.stack([_X / (WIDTH - 1), _Y / (HEIGHT - 1), (_X + _Y) / (WIDTH + HEIGHT - 2)], -1)
GREY = SCENE[..., 2]
BYTES = (SCENE * 255).round().astype(np.uint8)
WORDS = (SCENE * 65535).round().astype(np.uint16)
FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


@dataclass(frozen=True)
class Odd:
    """An odd file: its name, what is odd about it, and its content."""

    name: str
    about: str
    make: Make


def tiff(
    pixels: np.ndarray[Any, Any],
    *,
    colours: int = 1,
    planar: bool = False,
    order: str = "<",
    compression: int = 1,
    bits: int | None = None,
    rows: int | None = None,
    extra: tuple[int, ...] = (),
    tags: dict[int, tuple[int, list[int]]] | None = None,
    big: bool = False,
) -> bytes:
    """A TIFF of one page, in strips; TIFF 6.0, section 2.

    Args:
        pixels: Shape (height, width) or (height, width, bands).
        colours: The photometric interpretation: 0 and 1 grey, 2 RGB, 3 palette, 5 CMYK.
        planar: One plane a band.
        order: "<" or ">".
        compression: 1 none, 8 deflate.
        bits: Of a sample; None is those of the array.
        rows: Of a strip; None is all.
        extra: What the bands beyond the colours are.
        tags: Further ones, {number: (type, values)}; types 3 and 4 are integers, others bytes.
        big: A BigTIFF.
    """
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    planes = [pixels[..., i] for i in range(samples)] if planar else [pixels]
    rows = rows or pixels.shape[0]
    data = [
        plane[top : top + rows].astype(pixels.dtype.newbyteorder(order)).tobytes()
        for plane in planes
        for top in range(0, pixels.shape[0], rows)
    ]
    if compression == 8:
        data = [zlib.compress(strip) for strip in data]
    head = 16 if big else 8
    places = [head + sum(map(len, data[:i])) for i in range(len(data))]
    entries = {
        256: (4, [pixels.shape[1]]),
        257: (4, [pixels.shape[0]]),
        258: (3, [bits or pixels.dtype.itemsize * 8] * samples),
        259: (3, [compression]),
        262: (3, [colours]),
        273: (4, places),
        277: (3, [samples]),
        278: (4, [rows]),
        279: (4, [len(strip) for strip in data]),
        284: (3, [2 if planar else 1]),
        339: (3, [FORMATS[pixels.dtype.kind]] * samples),
    } | ({338: (3, list(extra))} if extra else {})
    body = b"".join(data)
    body += bytes(len(body) % 2)
    directory = _directory(entries | (tags or {}), head + len(body), order, big)
    mark = b"II" if order == "<" else b"MM"
    if big:
        return mark + struct.pack(f"{order}HHHQ", 43, 8, 0, head + len(body)) + body + directory
    return mark + struct.pack(f"{order}HI", 42, head + len(body)) + body + directory


def _directory(entries: dict[int, tuple[int, list[int]]], start: int, order: str, big: bool) -> bytes:
    count, entry, size, inline = ("Q", "HHQ", 20, 8) if big else ("H", "HHI", 12, 4)
    beyond = start + struct.calcsize(f"{order}{count}") + size * len(entries) + inline
    table, values = struct.pack(f"{order}{count}", len(entries)), b""
    for number, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{ {3: 'H', 4: 'I'}.get(kind, 'B') }", *numbers)
        if len(packed) > inline:
            place = struct.pack(f"{order}{'Q' if big else 'I'}", beyond + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            place = packed.ljust(inline, b"\0")
        table += struct.pack(f"{order}{entry}", number, kind, len(numbers)) + place
    return table + bytes(inline) + values


def encoded(format: str, pixels: Any = BYTES, mode: str = "RGB", **options: Any) -> bytes:
    """A picture that Pillow writes."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    (image if image.mode == mode or mode == "" else image.convert(mode)).save(buffer, format, **options)
    return buffer.getvalue()


def _text(text: str, *, compressed: bool = True) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", text, zip=compressed)
    return info


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _png_of_size(width: int, height: int) -> bytes:
    data = b"\x89PNG\r\n\x1a\n"
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for chunk in (header, b"IDAT" + zlib.compress(b"")):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


def _jpeg_of_size(width: int, height: int, *, progressive: bool = False) -> bytes:
    data = encoded("JPEG", progressive=progressive)
    mark = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:mark] + struct.pack(">HH", height, width) + data[mark + 4 :]


def _animation(format: str, **options: Any) -> bytes:
    second = Image.fromarray(255 - BYTES)
    return encoded(format, save_all=True, append_images=[second], **options)


def _damaged(data: bytes, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    changed = np.frombuffer(data, np.uint8).copy()
    changed[random.integers(len(data) // 2, len(data), 12)] = random.integers(0, 256, 12)
    return changed.tobytes()


def _with_alpha(pixels: np.ndarray[Any, Any], alpha: int) -> np.ndarray[Any, Any]:
    return np.concatenate([pixels, np.full_like(pixels[..., :1], alpha)], -1)


def _palette() -> Image.Image:
    image = Image.fromarray(BYTES).quantize(64)
    image.info["transparency"] = 0
    return image


def odd_files() -> Iterator[Odd]:
    """Every odd file, in the order of the page."""
    for name, about, make in [*_metadata(), *_depths(), *_tiffs(), *_sizes(), *_damages(), *_others()]:
        yield Odd(name, about, make)


def _metadata() -> list[tuple[str, str, Make]]:
    long = "x" * 3_000_000
    crc = encoded("PNG", pnginfo=_text("hello", compressed=False)).replace(b"hello", b"jello")
    return [
        ("text.png", "a text of 3 MB", lambda: encoded("PNG", pnginfo=_text(long, compressed=False))),
        ("ztxt.png", "a compressed text of 3 MB", lambda: encoded("PNG", pnginfo=_text(long))),
        ("text-crc.png", "a text whose checksum is wrong", lambda: crc),
        ("profile.png", "a colour profile of 3 MB", lambda: encoded("PNG", icc_profile=bytes(3_000_000))),
        ("profile.jpg", "a colour profile of 3 MB", lambda: encoded("JPEG", icc_profile=bytes(3_000_000))),
        ("comment.jpg", "a comment of 65 kB", lambda: encoded("JPEG", comment=b"c" * 65_000)),
        ("exif.jpg", "broken EXIF", lambda: encoded("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")),
        (
            "exif.png",
            "broken EXIF of 3 MB",
            lambda: encoded("PNG", exif=b"Exif\0\0II*\0" + b"\xff" * 3_000_000),
        ),
        ("xmp.webp", "XMP of 3 MB", lambda: encoded("WEBP", lossless=True, xmp=bytes(3_000_000))),
        ("turned-3.jpg", "EXIF says: turned by 180°", lambda: encoded("JPEG", exif=_exif(3))),
        ("turned-6.jpg", "EXIF says: turned by 90°", lambda: encoded("JPEG", exif=_exif(6))),
        ("turned-7.png", "EXIF says: mirrored and turned", lambda: encoded("PNG", exif=_exif(7))),
        (
            "turned-9.jpg",
            "EXIF with an orientation that there is not",
            lambda: encoded("JPEG", exif=_exif(9)),
        ),
    ]


def _depths() -> list[tuple[str, str, Make]]:
    rgba = np.dstack([BYTES, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    frames = {"lossless": True}
    return [
        ("1-bit.png", "one bit a pixel", lambda: encoded("PNG", mode="1")),
        ("grey16.png", "16-bit grey", lambda: encoded("PNG", WORDS[..., 2], "")),
        ("grey-alpha.png", "grey with alpha", lambda: encoded("PNG", mode="LA")),
        ("alpha.png", "half transparent", lambda: encoded("PNG", rgba, "RGBA")),
        ("palette.png", "a palette with a transparent colour", lambda: encoded("PNG", _palette(), "")),
        ("cmyk.jpg", "CMYK", lambda: encoded("JPEG", mode="CMYK", quality=95)),
        ("grey.jpg", "grey", lambda: encoded("JPEG", mode="L")),
        ("progressive.jpg", "progressive", lambda: encoded("JPEG", progressive=True)),
        ("animated.gif", "an animation", lambda: _animation("GIF")),
        ("animated.webp", "an animation", lambda: _animation("WEBP", **frames)),
        ("animated.png", "an animation", lambda: _animation("PNG")),
    ]


def _tiffs() -> list[tuple[str, str, Make]]:
    twelve = (GREY * 4095).round().astype(np.uint16)
    real = GREY.astype(np.float32)
    hole = real.copy()
    hole[0, 0] = np.nan
    five, many = np.dstack([BYTES, BYTES[..., :2]]), np.dstack([BYTES, BYTES, BYTES])
    cmyk = np.dstack([255 - BYTES, np.zeros((HEIGHT, WIDTH), np.uint8)])
    signed = (GREY * 65535 - 32768).round().astype(np.int16)
    ramp = {320: (3, [i * 257 for i in range(256)] * 3)}
    return [
        ("rgb16.tif", "16-bit RGB", lambda: tiff(WORDS, colours=2)),
        ("rgb16-be.tif", "16-bit RGB, big-endian", lambda: tiff(WORDS, colours=2, order=">")),
        ("planar8.tif", "planar 8-bit RGB", lambda: tiff(BYTES, colours=2, planar=True)),
        ("planar16.tif", "planar 16-bit RGB", lambda: tiff(WORDS, colours=2, planar=True)),
        ("planar16-be.tif", "the same, big-endian", lambda: tiff(WORDS, colours=2, planar=True, order=">")),
        (
            "planar16-deflate.tif",
            "the same, compressed",
            lambda: tiff(WORDS, colours=2, planar=True, compression=8),
        ),
        ("grey16.tif", "16-bit grey", lambda: tiff(WORDS[..., 2])),
        ("grey16-strips.tif", "16-bit grey in strips of five rows", lambda: tiff(WORDS[..., 2], rows=5)),
        ("grey16-white.tif", "16-bit grey, zero is white", lambda: tiff(65535 - WORDS[..., 2], colours=0)),
        ("grey12.tif", "12 bits in 16", lambda: tiff(twelve)),
        (
            "grey14.tif",
            "14 bits in 16, MaxSampleValue says so",
            lambda: tiff((GREY * 16383).round().astype(np.uint16), tags={281: (3, [16383])}),
        ),
        (
            "rgb12.tif",
            "RGB of 12 bits in 16",
            lambda: tiff((SCENE * 4095).round().astype(np.uint16), colours=2),
        ),
        ("signed16.tif", "signed 16-bit grey", lambda: tiff(signed)),
        ("signed8.tif", "signed 8-bit grey", lambda: tiff((GREY * 255 - 128).round().astype(np.int8))),
        ("grey32.tif", "unsigned 32-bit grey", lambda: tiff((GREY * (2**32 - 1)).astype(np.uint32))),
        ("float32.tif", "32-bit float, 0 to 1", lambda: tiff(real)),
        ("float32-be.tif", "the same, big-endian", lambda: tiff(real, order=">")),
        ("float32-nan.tif", "32-bit float with a NaN", lambda: tiff(hole)),
        ("float16.tif", "16-bit float", lambda: tiff(GREY.astype(np.float16))),
        ("float64.tif", "64-bit float", lambda: tiff(GREY)),
        ("rgb-float.tif", "RGB of 32-bit float", lambda: tiff(SCENE.astype(np.float32), colours=2)),
        ("complex.tif", "complex numbers", lambda: tiff(GREY.astype(np.complex64))),
        ("bands5.tif", "RGB and two more bands", lambda: tiff(five, colours=2, extra=(0, 0))),
        (
            "bands5-planar.tif",
            "the same, planar",
            lambda: tiff(five, colours=2, extra=(0, 0), planar=True),
        ),
        ("bands9.tif", "RGB and six more bands", lambda: tiff(many, colours=2, extra=(0,) * 6)),
        (
            "bands4-grey.tif",
            "four bands, none said to be a colour",
            lambda: tiff(five[..., :4], extra=(0, 0, 0)),
        ),
        (
            "alpha16.tif",
            "16-bit RGB with alpha",
            lambda: tiff(_with_alpha(WORDS, 65535), colours=2, extra=(2,)),
        ),
        ("cmyk.tif", "CMYK", lambda: tiff(cmyk, colours=5)),
        ("palette.tif", "a palette", lambda: tiff(BYTES[..., 2], colours=3, tags=ramp)),
        ("big.tif", "a BigTIFF", lambda: tiff(BYTES, colours=2, big=True)),
        ("big-be.tif", "a BigTIFF, big-endian", lambda: tiff(BYTES, colours=2, big=True, order=">")),
        ("jpeg2000.tif", "JPEG 2000 in TIFF", lambda: tiff(BYTES, colours=2, compression=34712)),
        ("jpeg.tif", "JPEG in TIFF, YCbCr", lambda: encoded("TIFF", compression="jpeg")),
        ("fax.tif", "a fax, one bit", lambda: encoded("TIFF", mode="1", compression="group4")),
        ("pages.tif", "two pages", lambda: _animation("TIFF")),
    ]


def _sizes() -> list[tuple[str, str, Make]]:
    return [
        ("bomb.png", "60000x60000 in 100 bytes", lambda: _png_of_size(60_000, 60_000)),
        ("120mp.png", "12000x10000", lambda: _png_of_size(12_000, 10_000)),
        ("256mp.jpg", "16000x16000", lambda: _jpeg_of_size(16_000, 16_000)),
        ("progressive-120mp.jpg", "12000x10000", lambda: _jpeg_of_size(12_000, 10_000, progressive=True)),
        ("1x1.png", "one pixel", lambda: encoded("PNG", BYTES[:1, :1])),
        (
            "line.png",
            "a thousand pixels wide, one high",
            lambda: encoded("PNG", np.zeros((1, 1000, 3), np.uint8)),
        ),
    ]


def _damages() -> list[tuple[str, str, Make]]:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    formats = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
    cut = [
        (f"half.{each.lower()}", "cut in half", lambda each=each: (d := encoded(each, noise))[: len(d) // 2])
        for each in formats
    ]
    changed = [
        (
            f"changed.{each.lower()}",
            "twelve bytes of the second half are others",
            lambda each=each: _damaged(encoded(each, noise), 1),
        )
        for each in ("PNG", "TIFF", "BMP")
    ]
    return [
        *cut,
        *changed,
        ("empty.png", "no byte", lambda: b""),
        ("zeros.png", "1 kB of zeros", lambda: bytes(1024)),
    ]


def _others() -> list[tuple[str, str, Make]]:
    return [
        ("really-a-jpeg.png", "a JPEG with a PNG's name", lambda: encoded("JPEG")),
        ("text-mode.png", "a PNG that was sent as text", lambda: encoded("PNG").replace(b"\r\n", b"\n")),
        ("notes.png", "a text with a PNG's name", lambda: b"no picture"),
        ("page.jpg", "an HTML page, as of a failed download", lambda: b"<!doctype html><title>404</title>"),
        ("script.png", "PostScript with a PNG's name", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("document.jpg", "a PDF with a JPEG's name", lambda: b"%PDF-1.7\n"),
        ("phone.jpg", "HEIC with a JPEG's name", lambda: b"\0\0\0\x18ftypheic" + bytes(40)),
        ("new.jpg", "JPEG XL with a JPEG's name", lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)),
        (
            "lfs.jpg",
            "a pointer of Git LFS",
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ),
    ]
