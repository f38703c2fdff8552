"""Opening one picture."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vecbridge.errors import InvalidRecordError
from vecbridge.sources import pictures
from vecbridge.sources.pictures import open_picture, upright_rgb

# Left half red, right half blue: every turn of it looks different together with a green corner
CORNERS = np.zeros((20, 30, 3), np.uint8)
CORNERS[:, :15] = (255, 0, 0)
CORNERS[:, 15:] = (0, 0, 255)
CORNERS[:8, :8] = (0, 255, 0)


def picture(*, mode="RGB"):
    return Image.fromarray(CORNERS).convert(mode)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(source):
    return np.asarray(open_picture(source).image).astype(int)


def reason(source):
    with pytest.raises(InvalidRecordError) as caught:
        open_picture(source)
    return caught.value.rows[0].error


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_format_gives_the_same_rgb_pixels_and_its_name(tmp_path, format):
    options = (
        {"lossless": True}
        if format == "WEBP"
        else {"quality": 98, "subsampling": 0}
        if format == "JPEG"
        else {}
    )
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(encoded(picture(), format, **options))
    found = open_picture(path)
    assert found.image.mode == "RGB"
    assert found.image.size == (30, 20)
    assert found.format == format.lower()
    assert found.bytes == path.stat().st_size
    assert found.modified == int(path.stat().st_mtime)
    assert np.abs(np.asarray(found.image).astype(int) - CORNERS).mean() < (6 if format == "JPEG" else 0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone(format, orientation):
    # what a camera stores is the upright picture after the inverse turn; EXIF 2.32, table 6
    stored = {
        1: CORNERS,
        2: CORNERS[:, ::-1],
        3: CORNERS[::-1, ::-1],
        4: CORNERS[::-1],
        5: CORNERS.transpose(1, 0, 2),
        6: np.rot90(CORNERS),
        7: CORNERS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(CORNERS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    options = (
        {"lossless": True}
        if format == "WEBP"
        else {"quality": 98, "subsampling": 0}
        if format == "JPEG"
        else {}
    )
    found = pixels(encoded(image, format, exif=exif, **options))
    assert found.shape == CORNERS.shape
    assert np.abs(found - CORNERS).mean() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_the_picture():
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert open_picture(data).image.size == (30, 20)


def test_cmyk_jpeg_becomes_the_same_colours():
    assert np.abs(pixels(encoded(picture(mode="CMYK"), "JPEG", quality=98)) - CORNERS).mean() < 8


def test_16_bit_grey_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    found = pixels(encoded(Image.fromarray(ramp), "PNG"))
    assert np.abs(found[..., 0] - ramp / 257).max() <= 0.5
    assert (found[..., 0] == found[..., 2]).all()


def test_32_bit_float_tiff_is_stretched_over_its_range():
    ramp = np.linspace(-3.0, 5.0, 600, dtype=np.float32).reshape(20, 30)
    found = pixels(encoded(Image.fromarray(ramp), "TIFF"))
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found[..., 0].ravel()) >= 0).all()


def test_float_tiff_with_nan_is_refused():
    assert "NaN" in reason(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


def test_transparency_is_laid_on_white_whatever_colour_hides_below_it():
    rgba = np.dstack([CORNERS, np.full((20, 30), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    found = pixels(encoded(Image.fromarray(rgba), "PNG"))
    assert (found[:10] == 255).all()
    assert (found[10:] == CORNERS[10:]).all()


def test_half_transparency_is_mixed_with_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 3] = 128
    assert (np.abs(pixels(encoded(Image.fromarray(rgba), "PNG")) - 127) <= 1).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])], ids=["one colour", "a table"])
def test_palette_with_transparency_is_laid_on_white(transparency):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 1)
    found = pixels(encoded(image, "PNG", transparency=transparency))
    assert found[0, 0].tolist() == [40, 50, 60]
    assert found[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(mode):
    assert open_picture(encoded(picture(mode=mode), "PNG")).image.mode == "RGB"


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(data)[4, 4].tolist() == [255, 0, 0]


def test_the_content_decides_and_not_the_name(tmp_path):
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(encoded(picture(), "JPEG"))
    assert open_picture(path).format == "jpeg"


def test_a_text_file_with_a_picture_s_name_is_refused(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    assert "not a JPEG, PNG" in reason(path)


def test_postscript_never_reaches_ghostscript():
    assert "not a JPEG, PNG" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_files_are_refused(format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, format)
    assert reason(data[: len(data) // 2])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_bytes_give_a_picture_or_a_reason_and_nothing_else(format):
    random = np.random.default_rng(1)
    data = np.frombuffer(encoded(picture(), format), np.uint8)
    outcomes = set()
    for _ in range(150):
        damaged = data.copy()
        damaged[random.integers(8, len(data), 6)] = random.integers(0, 256, 6)
        try:
            outcomes.add(open_picture(damaged.tobytes()).image.mode)
        except InvalidRecordError as exc:
            outcomes.add(bool(exc.rows[0].error))
    assert outcomes <= {"RGB", True}


def png_header(width, height):
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b""),
    ):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 10_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(width, height):
    assert "make it smaller" in reason(png_header(width, height))


def test_the_limit_holds_where_pillow_s_is_switched_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert f"{pictures.MAX_PIXELS} pixels" in reason(png_header(60_000, 60_000))


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    assert reason(path) == "the file is empty"
    assert reason(b"") == "the picture is empty"


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    assert reason(tmp_path / "x.jpg") == "is a directory"
    assert "No such file" in reason(tmp_path / "y.jpg")
    assert "cannot be opened" in reason("a\0b.jpg")


@pytest.mark.timeout(10)
def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    assert reason(tmp_path / "x.jpg") == "is not a regular file"


def test_a_path_with_a_file_for_a_folder_is_refused(tmp_path):
    (tmp_path / "a").touch()
    assert "Not a directory" in reason(tmp_path / "a" / "b.jpg")


def test_a_pil_image_whose_pixels_cannot_be_loaded_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(), "PNG"))
    image = Image.open(path)
    image.close()
    with pytest.raises(InvalidRecordError, match=r"cannot be decoded|closed"):
        upright_rgb(image)
