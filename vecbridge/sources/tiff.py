"""TIFF as science has it: which kinds are decoded, the name of those that are not, and the range of greys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np

from vecbridge.sources.pictureerror import PictureError

# Tags and their values: TIFF 6.0 (Adobe, 1992), Adobe's TIFF Technical Notes 1 and 2, and libtiff's tiff.h
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_SAMPLES, _MAX_SAMPLE, _PLANAR, _PREDICTOR, _EXTRA, _FORMAT, _NODATA = 277, 281, 284, 317, 338, 339, 42113
_KINDS: Final = {1: "unsigned", 2: "signed", 3: "float", 4: "undefined", 5: "complex", 6: "complex float"}
_COLOURS: Final = {
    0: "grey, white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
    10: "ITULAB",
    32803: "the raw data of a camera's sensor",
    32844: "LogL",
    32845: "LogLuv",
    34892: "the raw data of a camera",
}
_DECODED: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 32809, 32909, 34676, 34677, 34925, 50000})
_COMPRESSIONS: Final = {
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}


TWELVE_BITS: Final = "a TIFF of RGB whose 16-bit values use 14 bits or fewer is not read: scale them to 16"


class UpperBytesError(PictureError):
    """Pillow kept the upper bytes of 16-bit RGB, and the picture is in the lower ones."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the first page of a TIFF holds its pixels.

    Attributes:
        width: In pixels, as stored.
        height: Likewise.
        order: The order of bytes, "<" or ">".
        bits: Bits of a sample; 0 where the bands differ.
        kind: "unsigned", "signed", "float", …
        samples: Bands, those of ``extra`` among them.
        extra: What the bands beyond the colours are: 0 unknown, 1 and 2 alpha.
        colours: The photometric interpretation, a number.
        planar: One plane a band, instead of one pixel after the other.
        compression: Its number.
        max_sample: The largest value, where the file tells.
    """

    width: int
    height: int
    order: str
    bits: int
    kind: str
    samples: int
    extra: tuple[int, ...]
    colours: int
    planar: bool
    compression: int
    max_sample: int | None

    @classmethod
    def of(cls, tags: Any) -> Layout:
        """From the tags of a page, as ``PIL.TiffImagePlugin`` gives them."""
        bits = _numbers(tags.get(_BITS, 1))
        kinds = _numbers(tags.get(_FORMAT, 1))
        largest = _numbers(tags.get(_MAX_SAMPLE, ()))
        return cls(
            width=int(tags[_WIDTH]),
            height=int(tags[_HEIGHT]),
            order="<" if tags.prefix == b"II" else ">",
            bits=bits[0] if len(set(bits)) == 1 else 0,
            kind=_KINDS.get(kinds[0], "unknown") if len(set(kinds)) == 1 else "mixed",
            samples=int(tags.get(_SAMPLES, len(bits))),
            extra=_numbers(tags.get(_EXTRA, ())),
            colours=int(tags.get(_PHOTOMETRIC, 0)),
            planar=tags.get(_PLANAR, 1) == 2,
            compression=int(tags.get(_COMPRESSION, 1)),
            max_sample=max(largest) if largest else None,
        )

    def __str__(self) -> str:
        bands = "one band" if self.samples == 1 else f"{self.samples} bands"
        bits = f"{self.bits}-bit" if self.bits else "differing bits"
        parts = [f"{bands} of {bits} {self.kind}", _COLOURS.get(self.colours, f"colours {self.colours}")]
        if self.planar and self.samples > 1:
            parts.append("planar")
        if self.compression in _COMPRESSIONS:
            parts.append(_COMPRESSIONS[self.compression])
        elif self.compression not in _DECODED:
            parts.append(f"compression {self.compression}")
        return ", ".join(parts)


def read_tags(file: IO[bytes]) -> Any:
    """The tags of the first page, a ``PIL.TiffImagePlugin.ImageFileDirectory_v2``; the pixels are not read.

    Raises:
        PictureError: There is no picture, or it is a BigTIFF of a kind that is not read.
    """
    from PIL import TiffImagePlugin

    file.seek(0)
    head = file.read(8)
    if head[:4] == b"MM\x00\x2b":
        raise PictureError("a BigTIFF in big-endian order is not read: save it as an ordinary TIFF or as PNG")
    if head[2:3] == b"\x2b":  # BigTIFF
        head += file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise PictureError("not a picture that can be decoded: the TIFF has no picture in it")
    return tags


def problem(tags: Any) -> str | None:
    """Why Pillow does not decode a page, or decodes it into noise; None where it decodes it right.

    Pillow says some of its reasons through ``logging`` only.
    """
    layout = Layout.of(tags)
    return None if _is_decoded(layout, tags) else not_read(layout)


def not_read(layout: Layout) -> str:
    """The sentence for a kind that is not decoded."""
    return f"a TIFF of {layout} is not read: save it as 8-bit or 16-bit grey or RGB"


def _is_decoded(layout: Layout, tags: Any) -> bool:
    from PIL import TiffImagePlugin

    if layout.compression not in _DECODED:
        return False
    if (
        layout.planar
        and layout.compression == 1
        and (layout.bits != 8 or layout.extra)
        and layout.samples > 1
    ):
        return False  # Pillow takes a byte for a sample, which gives noise, or fails
    if layout.colours == 6 or layout.compression in (6, 7):
        return layout.bits == 8  # libtiff converts it to RGB
    bits = _numbers(tags.get(_BITS, 1))
    bits = bits * layout.samples if len(bits) == 1 else bits[: layout.samples]
    kinds = tuple(dict.fromkeys(_numbers(tags.get(_FORMAT, 1))))
    head = (tags.prefix, layout.colours, kinds, tags.get(_FILL_ORDER, 1), bits)
    # Pillow leaves unknown planes out, and takes the colours
    planar = [(*head[:4], bits[: -len(layout.extra)], ())] if layout.planar and layout.extra else []
    return any(key in TiffImagePlugin.OPEN_INFO for key in [(*head, layout.extra), *planar])


def greys(image: Any) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """A single band of a TIFF as greys, 0 is black; None where Pillow's own conversion is right.

    16-bit values are divided by 257. Where all are below 4,096 or 256, they are those of 12 or 8 bits, and
    scaled from these; another range holds where MaxSampleValue names it. Signed, 32-bit and float values,
    whose range nothing tells, are stretched from their own.

    Raises:
        PictureError: Pixels are NaN or Inf.
        UpperBytesError: It is RGB of 12 bits in 16, of which Pillow keeps four.
    """
    layout = Layout.of(image.tag_v2)
    if image.mode not in ("I", "F", "L") and not image.mode.startswith("I;16"):
        _require_16_bits(image, layout)
        return None
    values = np.asarray(image)
    if layout.bits == 8 and layout.kind == "signed":
        values = values.view(np.int8)
    elif image.mode == "L":
        return None
    elif layout.bits == 32 and layout.kind == "unsigned":
        values = values.view(np.uint32)
    if image.mode.startswith("I;16"):
        scaled = scaled_16_bit(values, full_range(layout, int(values.max())))
    else:
        scaled = stretched(values, missing_value(image.tag_v2))
    # Pillow inverts "white is zero" for 8 bits and fewer
    return 255 - scaled if layout.colours == 0 else scaled


def scaled_16_bit(values: np.ndarray[Any, Any], full: int = 65535) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """0 to ``full`` as 0 to 255."""
    levels = (np.arange(65536) * (255 / full)).round().clip(0, 255).astype(np.uint8)
    return np.take(levels, values, mode="clip")


def stretched(
    values: np.ndarray[Any, Any], missing: float | None = None
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The range from the smallest to the largest value as 0 to 255.

    Args:
        values: Of any shape with rows.
        missing: The value that stands for no value, and becomes 0; NaN is every NaN.

    Raises:
        PictureError: Pixels are NaN or Inf.
    """
    known = values
    if missing is not None:
        known = values[_is_known(values, missing)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all():  # a NaN is both the smallest and the largest
        raise PictureError("pixels are NaN or Inf")
    factor = 255 / (high - low) if high > low else 0
    scaled = np.zeros(values.shape, np.uint8)
    for number, row in enumerate(values):  # one at a time: float64 takes eight bytes
        kept = True if missing is None else _is_known(row, missing)
        levels = np.zeros(row.shape)
        np.subtract(row.astype(np.float64), low, out=levels, where=kept)
        scaled[number] = (levels * factor).round()
    return scaled


def missing_value(tags: Any) -> float | None:
    """What GDAL says stands for no value, as in elevations beyond a coast.

    https://gdal.org/en/stable/drivers/raster/gtiff.html#nodata-value
    """
    try:
        return float(str(tags.get(_NODATA, "")).strip("\0 "))
    except ValueError:
        return None


def _is_known(values: np.ndarray[Any, Any], missing: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if np.isnan(missing):
        known: np.ndarray[Any, np.dtype[np.bool_]] = ~np.isnan(values)
    else:
        known = values != np.float64(missing).astype(values.dtype)
    return known


def _require_16_bits(image: Any, layout: Layout) -> None:
    if layout.bits != 16 or image.mode not in ("RGB", "RGBA"):
        return
    highest = max(high for _, high in image.getextrema()[:3])  # of the upper bytes
    if highest < 16 or (layout.max_sample or 65535) < 32768:
        raise UpperBytesError(TWELVE_BITS)


def full_range(layout: Layout, largest: int) -> int:
    """The 16-bit value that is white, where ``largest`` is the largest that occurs."""
    if layout.bits == 12:
        return 4095
    if layout.max_sample is not None and max(largest, 255) <= layout.max_sample:
        return layout.max_sample
    return next(full for full in (255, 4095, 65535) if largest <= full)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)
