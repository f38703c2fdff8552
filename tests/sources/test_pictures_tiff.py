"""TIFF as science has it: decoded right, or refused by the right name."""

import importlib.util
import io
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vecbridge.errors import InvalidRecordError
from vecbridge.sources.pictures import open_picture, upright_rgb

_SPEC = importlib.util.spec_from_file_location("odd_files", Path(__file__).parents[2] / "docs/odd_files.py")
odd = sys.modules["odd_files"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(odd)
tiff = odd.tiff


def pixels(data):
    return np.asarray(open_picture(data).image).astype(int)


def reason(data):
    with pytest.raises(InvalidRecordError) as caught:
        open_picture(data)
    return caught.value.rows[0].error


GREY = np.repeat(odd.GREY[..., None] * 255, 3, -1)
SCENE = odd.SCENE * 255
TWELVE = (odd.GREY * 4095).round().astype(np.uint16)


def packed_12_bits(values):
    """Two samples in three bytes, the first one's upper bits first; TIFF 6.0, section 4."""
    first, second = values[:, 0::2].astype(int), values[:, 1::2].astype(int)
    three = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(three, -1).reshape(len(values), -1).astype(np.uint8)


def twelve_bit_tiff():
    wide = packed_12_bits(TWELVE)
    return tiff(wide, bits=12, tags={256: (4, [odd.WIDTH])})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values",
    [
        odd.BYTES[..., 2],
        odd.WORDS[..., 2],
        TWELVE,
        (odd.GREY * 65535 - 32768).round().astype(np.int16),
        (odd.GREY * 2e9 - 1e9).astype(np.int32),
        (odd.GREY * 8 - 3).astype(np.float32),
        (odd.GREY * 255 - 128).round().astype(np.int8),
    ],
    ids=["uint8", "uint16", "12 bits", "int16", "int32", "float32", "int8"],
)
def test_greys_of_every_depth(values, order):
    assert np.abs(pixels(tiff(values, order=order)) - GREY).max() <= 1


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (tiff((odd.GREY * (2**32 - 1)).astype(np.uint32)), 1),
        (twelve_bit_tiff(), 1),
        (tiff((odd.GREY * 16383).round().astype(np.uint16), tags={281: (3, [16383])}), 1),
        (tiff((odd.GREY * 255).round().astype(np.uint16)), 1),
        (tiff(65535 - odd.WORDS[..., 2], colours=0), 1),
        (tiff(255 - odd.BYTES[..., 2], colours=0), 1),
        (tiff((1 - odd.GREY).astype(np.float32), colours=0), 1),
        (tiff(odd.WORDS[..., 2], compression=8, rows=7), 1),
        (tiff(odd.WORDS[..., 2], big=True), 1),
        (tiff(odd.GREY.astype(np.float16)), 1),
        (tiff((1 - odd.GREY) * 9, colours=0), 1),
        (tiff((odd.GREY * 2**60).astype(np.uint64), compression=8, rows=3), 1),
    ],
    ids=[
        "uint32",
        "packed 12",
        "14 bits",
        "8 in 16",
        "white 16",
        "white 8",
        "white f",
        "strips",
        "big",
        "float16",
        "white float64",
        "uint64",
    ],
)
def test_greys_of_other_ranges_and_layouts(data, tolerance):
    assert np.abs(pixels(data) - GREY).max() <= tolerance


@pytest.mark.parametrize(
    "data",
    [
        tiff(odd.WORDS, colours=2),
        tiff(odd.WORDS, colours=2, order=">"),
        tiff(odd.WORDS, colours=2, planar=True, compression=8),
        tiff(odd.BYTES, colours=2, planar=True),
        tiff(odd.BYTES, colours=2, planar=True, rows=5),
        tiff(np.dstack([odd.BYTES, odd.BYTES[..., :2]]), colours=2, extra=(0, 0)),
        tiff(np.dstack([odd.WORDS, odd.WORDS[..., :1]]), colours=2, extra=(0,)),
        tiff(odd.BYTES, colours=2, big=True),
        tiff(odd.WORDS, colours=2, planar=True),
        tiff(odd.WORDS, colours=2, planar=True, order=">", rows=7),
        tiff(np.dstack([odd.WORDS] * 3), colours=2, extra=(0,) * 6, planar=True),
        tiff(np.dstack([odd.BYTES] * 3), colours=2, extra=(0,) * 6, rows=5, compression=8),
        tiff((odd.SCENE * 4095).round().astype(np.uint16), colours=2),
        tiff((odd.SCENE * 4095).round().astype(np.uint16), colours=2, planar=True, compression=8),
        tiff(odd.BYTES.astype(np.uint16), colours=2),
        tiff((odd.SCENE * 16383).round().astype(np.uint16), colours=2, tags={281: (3, [16383] * 3)}),
        tiff(odd.SCENE.astype(np.float32), colours=2),
        tiff(odd.SCENE * 700 - 300, colours=2, planar=True, order=">"),
        tiff((odd.SCENE * 1e9).astype(np.int64), colours=2),
    ],
    ids=[
        "16", "16 be", "planar 16 deflate", "planar 8", "planar strips", "5 bands", "4 bands", "big",
        "planar 16", "planar 16 be", "9 planes", "9 bands", "12 bits", "12 bits deflate", "8 bits", "14 bits",
        "float", "planes of float64", "int64",
    ],
)  # fmt: skip
def test_colours_of_every_layout(data):
    assert np.abs(pixels(data) - SCENE).max() <= 1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tiff(odd.SCENE.astype(np.float64), colours=2, compression=5), "3 bands of 64-bit float, RGB"),
        (tiff(odd.GREY.astype(np.float16), compression=5), "one band of 16-bit float, grey"),
        (tiff(odd.SCENE.astype(np.float32), colours=2, tags={317: (3, [3])}), "3 bands of 32-bit float"),
        (tiff(np.dstack([odd.WORDS] * 2), colours=2, extra=(0, 2, 0)), "6 bands of 16-bit unsigned, RGB"),
        (tiff(np.full((4, 4, 3), np.nan), colours=2), "NaN"),
        (tiff(odd.GREY.astype(np.complex64)), "complex"),
        (tiff(np.dstack([odd.BYTES] * 3), extra=(0,) * 8), "9 bands of 8-bit unsigned, grey"),
        (tiff(odd.WORDS, colours=32803), "raw data of a camera's sensor"),
        (tiff(odd.BYTES, colours=2, compression=34712), "JPEG 2000"),
        (tiff(odd.BYTES, colours=2, compression=50001), "WebP"),
        (tiff(odd.BYTES, colours=2, compression=777), "compression 777"),
        (tiff(odd.BYTES, colours=2, big=True, order=">"), "BigTIFF in big-endian"),
        (tiff(np.full((4, 4), np.inf, np.float32)), "Inf"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "no picture in it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_are_refused_by_their_name(data, name, caplog):
    with caplog.at_level(logging.ERROR, logger="PIL"):
        assert name in reason(data)
    assert caplog.records == []  # Pillow would print them


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_image_that_the_caller_opened_is_not_decoded_into_noise_either(order):
    image = Image.open(io.BytesIO(tiff(odd.WORDS, colours=2, planar=True, order=order)))
    with pytest.raises(InvalidRecordError, match="planar"):
        upright_rgb(image)


def test_the_first_page_is_read():
    second = Image.fromarray(255 - odd.BYTES)
    buffer = io.BytesIO()
    Image.fromarray(odd.BYTES).save(buffer, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels(buffer.getvalue()), odd.BYTES)


def test_rgb_of_12_bits_that_is_compressed_otherwise_is_refused_and_not_shown_black():
    twelve = (odd.SCENE * 4095).round().astype("<u2")
    # PackBits of literal runs of up to 128 bytes, a strip a row; TIFF 6.0, section 9
    rows = []
    for row in twelve:
        stored = row.tobytes()
        runs = [stored[i : i + 128] for i in range(0, len(stored), 128)]
        rows.append(b"".join(bytes([len(run) - 1]) + run for run in runs))
    places = [8 + sum(map(len, rows[:i])) for i in range(len(rows))]
    packed = np.frombuffer(b"".join(rows), np.uint8)[None]
    tags = {
        256: (4, [odd.WIDTH]), 257: (4, [odd.HEIGHT]), 258: (3, [16] * 3), 273: (4, places), 277: (3, [3]),
        278: (4, [1]), 279: (4, [len(row) for row in rows]), 339: (3, [1] * 3),
    }  # fmt: skip
    assert "14 bits or fewer" in reason(tiff(packed, colours=2, compression=32773, tags=tags))


def test_a_black_picture_of_16_bits_stays_black():
    assert pixels(tiff(np.zeros((4, 4), np.uint16))).max() == 0
    assert pixels(tiff(np.zeros((4, 4, 3), np.uint16), colours=2)).max() == 0


def test_differences_of_neighbours_are_summed_up_again():
    stored = odd.WORDS.copy()
    stored[:, 1:] = odd.WORDS[:, 1:] - odd.WORDS[:, :-1]  # wraps around
    data = tiff(np.dstack([stored, stored]), colours=2, extra=(0, 0, 0), compression=8, tags={317: (3, [2])})
    assert np.abs(pixels(data) - SCENE).max() <= 1


def test_tiles_are_put_together_and_their_padding_is_left_out():
    wide, high = 16, 16
    padded = np.zeros((32, 32, 3))
    padded[: odd.HEIGHT, : odd.WIDTH] = odd.SCENE
    padded[odd.HEIGHT :] = 99  # must not be part of the range
    tiles = [padded[top : top + high, left : left + wide] for top in (0, 16) for left in (0, 16)]
    size = tiles[0].nbytes
    tags = {
        322: (4, [wide]),
        323: (4, [high]),
        324: (4, [8 + i * size for i in range(4)]),
        325: (4, [size] * 4),
    }
    data = tiff(np.concatenate(tiles), colours=2, tags=tags | {256: (4, [odd.WIDTH]), 257: (4, [odd.HEIGHT])})
    assert np.abs(pixels(data) - SCENE).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiff_of_every_reader_is_turned_once(orientation, dtype):
    turned = {1: odd.SCENE, 3: np.rot90(odd.SCENE, 2), 6: np.rot90(odd.SCENE, -1)}
    expected = turned.get(orientation, odd.SCENE[::-1, ::-1].transpose(1, 0, 2))
    data = tiff(odd.SCENE.astype(dtype), colours=2, tags={274: (3, [orientation])})
    found = open_picture(data)
    assert (found.width, found.height) == expected.shape[1::-1]
    assert np.abs(np.asarray(found.image) - expected * 255).max() <= 1


@pytest.mark.parametrize(
    ("compression", "tags", "said"),
    [
        (1, {273: (4, [17_000])}, "ends too early"),  # its strip begins near the end
        (8, {279: (4, [50])}, "ends too early"),
        (8, {273: (4, [9])}, "damaged"),
        (1, {257: (4, [odd.HEIGHT * 2]), 278: (4, [odd.HEIGHT])}, "damaged"),  # a strip is missing
        (1, {256: (4, [2**31])}, "pixels"),
        (1, {322: (4, [2**30]), 323: (4, [2**30]), 324: (4, [8]), 325: (4, [9])}, "damaged"),
        (1, {322: (4, [0]), 323: (4, [16]), 324: (4, [8]), 325: (4, [9])}, "damaged"),
    ],
)
def test_bands_that_end_too_early_or_say_impossible_sizes_are_refused(compression, tags, said):
    assert said in reason(tiff(odd.SCENE, colours=2, compression=compression, tags=tags))


def test_bands_have_the_limit_of_pixels_too():
    with pytest.raises(InvalidRecordError, match="32x24 is more than 767 pixels"):
        open_picture(tiff(odd.SCENE, colours=2), max_pixels=767)
    with pytest.raises(InvalidRecordError, match="too much memory"):
        open_picture(tiff(odd.SCENE, colours=2), max_pixels=768)  # 24 bytes a pixel
    assert open_picture(tiff(odd.SCENE, colours=2), max_pixels=1536).width == 32


@pytest.mark.parametrize("said", ["-9999", "nan", "-3.4028234663852886e+38"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_gdal_calls_no_data_is_black_and_no_part_of_the_range(said, dtype):
    values = (odd.GREY * 800 + 100).astype(dtype)
    values[:4, :4] = float(said)
    found = pixels(tiff(values, tags={42113: (2, list(said.encode() + b"\0"))}))
    expected = GREY.copy()
    low, high = odd.GREY[values > 0].min() * 255, 255
    expected = (expected - low) * 255 / (high - low)
    expected[:4, :4] = 0
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    "tags",
    [
        {700: (3, [1, 2, 3])},
        {700: (7, [255] * 90_000)},
        {34665: (4, [2**31])},
        {34853: (7, [1, 2, 3])},
        {270: (2, [255] * 90_000)},
        {34675: (7, [0] * 90_000)},
        {282: (4, [0]), 296: (3, [9])},
    ],
    ids=["XMP of numbers", "XMP", "EXIF beyond the end", "GPS", "description", "profile", "resolution"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_metadata_of_tiff_spoils_no_pixels(tags):
    assert np.abs(pixels(tiff(odd.BYTES, colours=2, tags=tags)) - SCENE).max() <= 1
    assert np.abs(pixels(tiff(odd.SCENE, colours=2, tags=tags)) - SCENE).max() <= 1
