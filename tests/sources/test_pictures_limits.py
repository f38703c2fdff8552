"""How large a picture may be, and what is said about pictures that cannot be read."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from vecbridge.errors import InvalidRecordError
from vecbridge.sources import opening
from vecbridge.sources.pictures import open_picture

# Words of Pillow's, Python's and libtiff's that no user should read
RAW = re.compile(
    r"Error|Warning|BytesIO|cannot identify|processed|decompression bomb|buffer|object at|broken PNG|decoder"
)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reason(source, **options):
    with pytest.raises(InvalidRecordError) as caught:
        open_picture(source, **options)
    assert not RAW.search(caught.value.rows[0].error)
    return caught.value.rows[0].error


def png_header(width, height):
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b""),
    ):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


def jpeg_header(width, height, *, progressive=False):
    """A JPEG of 16x16 whose header says another size: refused before it is decoded, or damaged."""
    data = encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=progressive)
    mark = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:mark] + struct.pack(">HH", height, width) + data[mark + 4 :]


@pytest.fixture
def small_limits(monkeypatch):
    """A hundred times fewer pixels, so that a test need not decode 100 megapixels."""
    monkeypatch.setattr(opening, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(opening, "MAX_DRAFT_PIXELS", 40_000)


GRADIENT = Image.fromarray(np.linspace(0, 255, 200 * 160).astype(np.uint8).reshape(160, 200)).convert("RGB")


@pytest.mark.usefixtures("small_limits")
def test_a_large_jpeg_is_decoded_smaller_and_keeps_its_size_as_columns():
    found = open_picture(encoded(GRADIENT, "JPEG"))
    assert found.image.size == (100, 80)
    assert (found.width, found.height) == (200, 160)
    full = np.asarray(GRADIENT.resize((100, 80), Image.Resampling.BOX), int)
    assert np.abs(np.asarray(found.image, int) - full).mean() < 3


@pytest.mark.usefixtures("small_limits")
def test_a_large_jpeg_that_is_turned_keeps_its_upright_size_as_columns():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = open_picture(encoded(GRADIENT, "JPEG", exif=exif))
    assert found.image.size == (80, 100)
    assert (found.width, found.height) == (160, 200)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {}), ("JPEG", {"progressive": True})])
def test_others_and_progressive_jpeg_have_the_lower_limit(format, options):
    data = encoded(GRADIENT, format, **options)
    assert "200x160 is more than 10000 pixels" in reason(data)
    assert open_picture(data, max_pixels=32_000).width == 200


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_limit_given_holds_for_every_format(format):
    data = encoded(GRADIENT, format)
    assert "200x160 is more than 31999 pixels" in reason(data, max_pixels=31_999)
    assert "--max-pixels" in reason(data, max_pixels=31_999)
    assert open_picture(data, max_pixels=32_000).width == 200


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(("side", "scale"), [(200, 2), (400, 4), (800, 8)])
def test_a_jpeg_is_decoded_at_the_largest_size_below_the_limit(side, scale):
    image = Image.new("RGB", (side, side), (200, 0, 0))
    found = open_picture(encoded(image, "JPEG"), max_pixels=side * side)
    assert found.image.size == (side // scale, side // scale)
    assert found.image.getpixel((5, 5))[0] in range(196, 205)


def test_the_limits_are_those_of_the_documentation():
    assert "more than 89478485 pixels" in reason(png_header(12_000, 10_000))
    assert "more than 250000000 pixels" in reason(jpeg_header(16_000, 16_000))
    assert "more than 89478485 pixels" in reason(jpeg_header(12_000, 10_000, progressive=True))


def test_a_user_s_own_limit_of_pillow_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_picture(encoded(GRADIENT, "PNG")).width == 200
    assert Image.MAX_IMAGE_PIXELS == 10


FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", FORMATS)
def test_pillow_s_sentences_reach_no_user_at_whatever_byte_a_file_ends(format):
    data = encoded(NOISE.resize((16, 16)), format)
    said = {reason(data[:length]) for length in range(1, len(data) * 9 // 10, 17)}
    assert all(said)
    assert any(("WebP" if format == "WEBP" else format) in each for each in said)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", FORMATS)
def test_pillow_s_sentences_reach_no_user_whatever_bytes_are_damaged(format):
    random = np.random.default_rng(2)
    data = np.frombuffer(encoded(NOISE.resize((16, 16)), format), np.uint8)
    for _ in range(100):
        damaged = data.copy()
        damaged[random.integers(4, len(data), 8)] = random.integers(0, 256, 8)
        try:
            assert open_picture(damaged.tobytes()).image.mode == "RGB"
        except InvalidRecordError as exc:
            assert not RAW.search(exc.rows[0].error), exc.rows[0].error  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
        (b"8BPS\0\1" + bytes(30), "Photoshop"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\x89PNG\r\n\n" + bytes(30), "text mode"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM"),
    ],
)
def test_a_file_of_another_kind_is_named(data, name):
    said = reason(data)
    assert "is not a JPEG, PNG" in said
    assert name in said


@pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"), reason="this Pillow reads no AVIF"
)
def test_avif_is_read():
    data = encoded(GRADIENT, "AVIF", quality=95)
    found = open_picture(data)
    assert (found.format, found.image.size) == ("avif", (200, 160))
    assert np.abs(np.asarray(found.image, int) - np.asarray(GRADIENT, int)).mean() < 3
    assert "AVIF data" in reason(data[:200])


def test_avif_without_its_library_names_the_version_that_has_it(monkeypatch):
    Image.init()
    monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda prefix: "AVIF support not installed"))
    assert "Pillow 11.3" in reason(b"\x00\x00\x00\x20ftypavif" + bytes(40))
