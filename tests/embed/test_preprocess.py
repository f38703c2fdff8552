"""The preprocessing is CLIP's, to the bit."""

import io

import numpy as np
import pytest
from PIL import Image

from vecbridge.embed.preprocess import Preprocessing
from vecbridge.errors import ConfigError, InvalidRecordError

SHAPES = [(64, 64), (65, 64), (37, 200), (301, 50), (1, 1), (1, 40), (224, 223), (640, 479)]


def noise(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def reference(config, image):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    # said, because transformers 4 takes a picture one pixel high for one of one channel
    return processor(**config)(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]


def ours(config, image):
    preprocessing = Preprocessing.from_config(config)
    return preprocessing.normalise(preprocessing.prepare(image)[np.newaxis])


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("size", [64, 63, 224])
def test_pixels_are_those_of_transformers_to_the_bit(height, width, size):
    config = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    image = Image.fromarray(noise(height, width))
    np.testing.assert_array_equal(ours(config, image), reference(config, image))


@pytest.mark.parametrize(
    "config",
    [
        {"resample": 2},
        {"do_resize": False},
        {"do_center_crop": False, "size": {"height": 40, "width": 50}},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [0.5, 0.25, 2]},
        {"size": {"shortest_edge": 50}, "crop_size": {"height": 61, "width": 40}},
    ],
    ids=str,
)
@pytest.mark.parametrize(("height", "width"), [(90, 70), (33, 47)])
def test_every_setting_means_what_it_means_in_transformers(config, height, width):
    config = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}} | config
    image = Image.fromarray(noise(height, width))
    np.testing.assert_array_equal(ours(config, image), reference(config, image))


def test_the_numbers_of_old_configurations_are_edges():
    new = {"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 48}}
    assert Preprocessing.from_config({"size": 64, "crop_size": 48}) == Preprocessing.from_config(new)


def test_what_a_configuration_leaves_out_is_clip_s():
    image = Image.fromarray(noise(300, 400))
    np.testing.assert_array_equal(ours({}, image), reference({}, image))


def test_transparent_pictures_are_on_white_as_transformers_lays_them():
    rgba = np.dstack([noise(70, 80), noise(70, 80)[..., :1]])
    image = Image.fromarray(rgba)
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    np.testing.assert_array_equal(ours({}, image), reference({}, white))


def test_the_hash_follows_the_meaning_and_not_the_spelling():
    one = Preprocessing.from_config(
        {"size": 64, "crop_size": 64, "image_mean": [0, 0, 0], "processor_class": "X"}
    )
    same = Preprocessing.from_config(
        {
            "image_mean": [0.0, 0.0, 0.0],
            "crop_size": {"width": 64, "height": 64},
            "size": {"shortest_edge": 64},
        }
    )
    others = [
        Preprocessing.from_config({"size": 64, "crop_size": 64} | change)
        for change in (
            {"resample": 2},
            {"image_mean": [0, 0, 0.1]},
            {"crop_size": 63},
            {"do_normalize": False},
        )
    ]
    assert one.hash == same.hash
    assert len({one.hash, *(each.hash for each in others)}) == 5


@pytest.mark.parametrize(
    "config",
    [
        {"do_center_crop": False},
        {"do_center_crop": False, "do_resize": False},
        {"size": {"longest_edge": 9}},
        {"size": {"shortest_edge": 9, "longest_edge": 10}},
        {"image_mean": [0.5]},
        {"crop_size": "large"},
    ],
    ids=str,
)
def test_configurations_that_do_not_lead_to_one_size_are_refused(config):
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        Preprocessing.from_config(config)


def test_a_path_bytes_an_image_and_an_array_are_the_same_picture(tmp_path):
    pixels = noise(80, 60)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    preprocessing = Preprocessing.from_config({"size": 32, "crop_size": 32})
    prepared = [
        preprocessing.prepare(each) for each in (path, str(path), path.read_bytes(), Image.open(path), pixels)
    ]
    assert prepared[0].dtype == np.uint8
    assert prepared[0].shape == (3, 32, 32)
    for each in prepared[1:]:
        np.testing.assert_array_equal(each, prepared[0])


def test_a_turned_image_is_turned_back_however_it_is_handed_in():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(noise(80, 60)).save(buffer, "PNG", exif=exif)
    preprocessing = Preprocessing.from_config({"size": 32, "crop_size": 32})
    upright = preprocessing.prepare(np.rot90(noise(80, 60), -1))
    np.testing.assert_array_equal(preprocessing.prepare(buffer.getvalue()), upright)
    np.testing.assert_array_equal(preprocessing.prepare(Image.open(buffer)), upright)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        7,
    ],
    ids=lambda each: f"{type(each).__name__} {getattr(each, 'shape', '')}",
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(InvalidRecordError):
        Preprocessing.from_config({}).prepare(image)
