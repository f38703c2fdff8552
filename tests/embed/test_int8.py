"""Graphs of int8: judged by the bundled model on the gallery, beside its float weights."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from vecbridge.embed.factory import embedder
from vecbridge.embed.files import BUNDLED
from vecbridge.embed.onnx import INT8_DIRECTORY
from vecbridge.embed.torch_export import export
from vecbridge.errors import ConfigError

LEAST_COSINE = 0.99
MOST_LOST = 0.02  # of the queries whose picture was found first


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The bundled model, from its float weights: what it ships as ONNX has weights of 8 bits already."""
    return export("bundled", tmp_path_factory.mktemp("exports") / "bundled", int8=True)


@pytest.fixture(scope="module")
def gallery():
    """The pictures of the gallery and their English names."""
    lines = (BUNDLED / "gallery" / "gallery.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [BUNDLED / "gallery" / row["file"] for row in rows], [row["name"] for row in rows]


def vectors(model, gallery):
    """Vectors of pictures and of names."""
    pictures, names = gallery
    return model.embed_images(pictures), model.embed_texts(names)


def found_first(pictures, names):
    """The share of names whose own picture is the nearest."""
    return float((np.argmax(names @ pictures.T, axis=1) == np.arange(len(names))).mean())


def test_int8_stays_close_to_the_float_weights_and_finds_as_much(exported, gallery):
    with embedder("bundled", runtime="torch", device="cpu", dtype="float32") as model:
        exact = vectors(model, gallery)
    with embedder(exported.directory, device="cpu", dtype="int8") as model:
        rounded = vectors(model, gallery)
    for one, other in zip(exact, rounded, strict=True):
        cosines = (one * other).sum(axis=1)
        assert len(cosines) == 320
        assert cosines.min() >= LEAST_COSINE
        assert cosines.max() < 1 - 1e-6, "these are other numbers, not the same graph"
    assert found_first(*exact) > 0.8
    assert found_first(*rounded) >= found_first(*exact) - MOST_LOST
    assert exported.int8 is not None
    assert min(each.cosine for each in exported.int8) >= LEAST_COSINE


def test_int8_is_taken_only_where_it_is_asked_for_and_is_the_same_model(exported):
    files = {path.relative_to(exported.directory).as_posix() for path in exported.directory.rglob("*.onnx")}
    assert files == {
        f"{place}/{name}_model.onnx" for place in ("onnx", INT8_DIRECTORY) for name in ("text", "vision")
    }
    with (
        embedder(exported.directory, device="cpu") as auto,
        embedder(exported.directory, device="cpu", dtype="float32") as exact,
        embedder(exported.directory, device="cpu", dtype="int8") as rounded,
    ):
        assert auto.identity == exact.identity == rounded.identity
        assert np.array_equal(auto.embed_texts(["a dog"]), exact.embed_texts(["a dog"]))
        assert not np.array_equal(auto.embed_texts(["a dog"]), rounded.embed_texts(["a dog"]))


def test_adding_int8_leaves_the_identity_of_an_export_as_it_is(exported, tmp_path):
    copy = shutil.copytree(exported.directory, tmp_path / "bundled")
    shutil.rmtree(copy / INT8_DIRECTORY)
    with embedder(copy, device="cpu") as without, embedder(exported.directory, device="cpu") as beside:
        assert without.identity == beside.identity


def test_one_graph_is_smaller(exported):
    sizes = {
        place: (exported.directory / place / "vision_model.onnx").stat().st_size
        for place in ("onnx", INT8_DIRECTORY)
    }
    assert sizes[INT8_DIRECTORY] < 0.5 * sizes["onnx"]


@pytest.mark.parametrize(
    ("runtime", "words"),
    [("onnx", "embed export MODEL DIR --int8"), (None, "--int8"), ("torch", "runtime='onnx'")],
)
def test_a_model_without_int8_says_how_to_get_it(runtime, words):
    with pytest.raises(ConfigError, match="int8") as raised:
        embedder("bundled", dtype="int8", runtime=runtime, device="cpu")
    assert words in str(raised.value)
