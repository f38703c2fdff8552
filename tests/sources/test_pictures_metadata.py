"""Metadata never spoils good pixels, and a picture is turned once."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vecbridge.embed.preprocess import Preprocessing
from vecbridge.errors import InvalidRecordError
from vecbridge.sources.pictures import open_picture, upright_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
LONG = "x" * 3_000_000

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def encoded(format, pixels=NOISE, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def png_with(add, **options):
    info = PngImagePlugin.PngInfo()
    add(info)
    return encoded("PNG", pnginfo=info, **options)


def damaged_text_chunk():
    data = png_with(lambda info: info.add_text("a", "hello"))
    return data.replace(b"hello", b"jello")  # its CRC is wrong now


def twenty_five_texts(info):
    for number in range(25):  # 75 MB
        info.add_text(f"k{number}", LONG)


PNG = {
    "a long text": lambda: png_with(lambda info: info.add_text("a", LONG)),
    "a long compressed text": lambda: png_with(lambda info: info.add_text("a", LONG, zip=True)),
    "a long international text": lambda: png_with(lambda info: info.add_itxt("a", LONG, zip=True)),
    "75 MB of texts": lambda: png_with(twenty_five_texts),
    "a text with a wrong CRC": damaged_text_chunk,
    "a huge colour profile": lambda: encoded("PNG", icc_profile=bytes(3_000_000)),
    "huge EXIF": lambda: encoded("PNG", exif=b"Exif\0\0II*\0" + b"\xff" * 3_000_000),
    "broken XMP": lambda: png_with(lambda info: info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta <<" * 90_000)),
}
WEBP = {
    "a huge colour profile": lambda: encoded("WEBP", lossless=True, icc_profile=bytes(3_000_000)),
    "huge EXIF": lambda: encoded("WEBP", lossless=True, exif=b"\xff" * 3_000_000),
    "huge XMP": lambda: encoded("WEBP", lossless=True, xmp=bytes(3_000_000)),
}
TIFF = {
    "a huge colour profile": lambda: encoded("TIFF", icc_profile=bytes(3_000_000)),
    "a long description": lambda: encoded("TIFF", description=LONG),
}
LOSSLESS = [
    pytest.param(make, id=f"{format}: {name}")
    for format, made in {"PNG": PNG, "WebP": WEBP, "TIFF": TIFF}.items()
    for name, make in made.items()
]


@pytest.mark.parametrize("make", LOSSLESS)
def test_pixels_are_read_whatever_the_metadata(make):
    np.testing.assert_array_equal(np.asarray(open_picture(make()).image), NOISE)


@pytest.mark.parametrize(
    "options",
    [
        {"icc_profile": bytes(3_000_000)},
        {"comment": b"c" * 65_000},
        {"exif": b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 60_000},
        {"xmp": b"\xff" * 60_000},
    ],
    ids=["profile", "comment", "exif", "xmp"],
)
def test_a_jpeg_s_pixels_are_read_whatever_the_metadata(options):
    plain = open_picture(encoded("JPEG")).image
    np.testing.assert_array_equal(np.asarray(open_picture(encoded("JPEG", **options)).image), plain)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE0, b"JFIF\0"),
        (0xE2, b"ICC_PROFILE\0\x9b"),
        (0xED, b"Photoshop 3.0\x008BIM\x02\0"),
        (0xEE, b"Adobe"),
    ],
    ids=["JFIF", "profile", "Photoshop", "Adobe"],
)
def test_a_jpeg_segment_that_pillow_fails_on_is_left_out(marker, body):
    plain = encoded("JPEG")
    data = plain[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + plain[2:]
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(open_picture(data).image), np.asarray(open_picture(plain).image))


def test_what_a_cmyk_jpeg_s_colours_depend_on_stays_when_metadata_is_left_out():
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert("CMYK").save(buffer, "JPEG", quality=98)
    plain = buffer.getvalue()
    data = plain[:2] + b"\xff\xe2\0\x0fICC_PROFILE\0\x9b" + plain[2:]
    np.testing.assert_array_equal(np.asarray(open_picture(data).image), np.asarray(open_picture(plain).image))


def test_what_the_pixels_depend_on_stays_when_metadata_is_left_out():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 1)
    exif = Image.Exif()
    exif[0x0112] = 3
    info = PngImagePlugin.PngInfo()
    info.add_text("a", LONG, zip=True)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, transparency=0, exif=exif)
    pixels = np.asarray(open_picture(buffer.getvalue()).image)
    assert pixels[3, 3].tolist() == [40, 50, 60]  # the palette, turned by a half
    assert pixels[0, 0].tolist() == [255, 255, 255]  # transparency on white


def test_pixels_that_are_damaged_stay_refused():
    data = png_with(lambda info: info.add_text("a", LONG, zip=True))
    place = data.index(b"IDAT") + 40
    with pytest.raises(InvalidRecordError, match="PNG data"):
        open_picture(data[:place])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_was_turned_is_not_turned_again(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(encoded(format, exif=exif)).image
    again = upright_rgb(picture)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(picture))
    assert not picture.getexif()


def test_good_orientation_in_exif_that_pillow_cannot_write_is_followed():
    # orientation 6, then a tag of a type that does not exist, whose data lies beyond the end
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x010E, 2, 900, 0x7FFFFF00)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    assert open_picture(encoded("JPEG", exif=exif)).image.size == (20, 30)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("GIF", {}), ("BMP", {})],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_pictures_keep_their_pixels(format, options, mode):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(buffer, format, **options)
    with Image.open(buffer) as image:  # what vecbridge has always taken
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(open_picture(buffer.getvalue()).image), expected)


def test_the_hash_of_the_preprocessing_stays():
    # it is part of every collection's embedder identity
    assert Preprocessing.from_config({}).hash == "a1461a0ec9527013"


def test_a_png_s_animation_gives_the_picture_that_others_show():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for format in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        options = {"lossless": True} if format == "WEBP" else {}
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:], **options)
        assert np.asarray(open_picture(buffer.getvalue()).image)[4, 4].tolist() == [255, 0, 0]


def test_a_chunk_longer_than_the_file_is_no_endless_loop():
    data = encoded("PNG")
    chunk = struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + b"abc" + struct.pack(">I", zlib.crc32(b"tEXtabc"))
    with pytest.raises(InvalidRecordError, match="PNG data"):
        open_picture(data[:33] + chunk + data[33:])
