"""What every runtime shares: checking what is handed in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vecbridge.embed.base import StagedEmbedder
from vecbridge.embed.encoder import Encoder
from vecbridge.embed.files import locate
from vecbridge.embed.tokens import Tokens
from vecbridge.errors import ConfigError, InvalidRecordError


class Means(Encoder):
    """An encoder without a model: means and lengths."""

    def __init__(self, directory):
        files = locate(str(directory))
        super().__init__(
            files, Tokens.from_file(files.need("tokenizer.json"), 24), dim=3, batch_size=2, note=""
        )
        self.calls = []

    def close(self):
        """Nothing to let go of."""

    def _text_features(self, ids, mask):
        self.calls.append(len(ids))
        return np.stack([mask.sum(axis=1), ids[:, 1], ids[:, 0]], axis=1).astype(np.float32)

    def _image_features(self, pixels):
        self.calls.append(len(pixels))
        return pixels.mean(axis=(2, 3)) + 10


@pytest.fixture
def encoder(tiny_clip):
    return Means(tiny_clip)


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path


def test_items_go_through_in_batches_and_keep_their_order(encoder):
    texts = ["a", "bb", "ccc", "dddd", "e"]
    found = encoder.embed_texts(texts)
    assert encoder.calls == [2, 2, 1]
    np.testing.assert_array_equal(found, np.concatenate([encoder.embed_texts([each]) for each in texts]))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_paths_bytes_images_and_arrays_can_stand_side_by_side(encoder, red):
    found = encoder.embed_images(
        [red, str(red), red.read_bytes(), Image.open(red), np.asarray(Image.open(red))]
    )
    assert found.shape == (5, 3)
    assert (found == found[0]).all()


def test_every_bad_picture_is_named_by_item_and_path_in_one_error(encoder, red, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    items = [red, tmp_path / "bad.png", red, b"", red, str(tmp_path / "gone.jpg"), 7]
    with pytest.raises(InvalidRecordError, match=r"item 1 \(.*bad\.png\): .*item 3: .*and 1 more") as caught:
        encoder.embed_images(items)
    rows = caught.value.rows
    assert [row.row for row in rows] == [1, 3, 5, 6]
    assert [row.id for row in rows] == [str(tmp_path / "bad.png"), None, str(tmp_path / "gone.jpg"), None]
    assert encoder.calls == [], "nothing is computed for a list that is refused"


@pytest.mark.parametrize("bad", [None, 7, b"bytes", Path("a.txt"), "half \ud800"])
def test_what_is_no_text_is_refused_by_item(encoder, bad):
    with pytest.raises(InvalidRecordError, match="item 1") as caught:
        encoder.embed_texts(["a", bad, "b"])
    assert [row.row for row in caught.value.rows] == [1]


@pytest.mark.parametrize("single", ["a.jpg", b"bytes", Path("a.jpg"), 7])
def test_one_item_where_a_list_is_wanted_is_refused_and_not_taken_apart(encoder, single):
    with pytest.raises(ConfigError, match=r"takes a list"):
        encoder.embed_images(single)
    with pytest.raises(ConfigError, match=r"takes a list"):
        encoder.embed_texts(single)


def test_generators_are_lists_too(encoder):
    assert encoder.embed_texts(each for each in "abc").shape == (3, 3)


def test_prepared_pictures_give_the_vectors_of_their_files(encoder, red):
    assert isinstance(encoder, StagedEmbedder)
    prepared = [encoder.prepare(red)] * 3
    np.testing.assert_array_equal(encoder.embed_prepared(prepared), encoder.embed_images([red] * 3))
