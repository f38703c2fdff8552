"""Graphs exported from a checkpoint give its vectors, or nothing is written."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from tests.embed import checkpoints, library
from tests.embed.library import TEXTS
from vecbridge.embed import torch_export
from vecbridge.embed.factory import embedder
from vecbridge.embed.torch_export import TOLERANCE, export
from vecbridge.errors import BackendError, ConfigError, MissingDependencyError


@pytest.fixture(scope="module")
def clip_export(tiny_clip, tmp_path_factory):
    """Each export takes seconds: this one stands for several."""
    return export(str(tiny_clip), tmp_path_factory.mktemp("exports") / "clip")


@pytest.fixture
def without_exporting(clip_export, monkeypatch):
    """Copies the graphs that were exported from the unchanged checkpoint."""

    def copy(reference, directory):
        for path in (clip_export.directory / "onnx").glob("*.onnx"):
            shutil.copyfile(path, directory / "onnx" / path.name)

    monkeypatch.setattr(torch_export, "_write_graphs", copy)


@pytest.fixture(scope="module", params=["clip", "siglip_2", "metaclip_2", "altclip"])
def exported(request, tiny_clip, clip_export, tmp_path_factory):
    """A tiny checkpoint of each family, and what was exported from it."""
    if request.param == "clip":
        return tiny_clip, clip_export
    place = tmp_path_factory.mktemp("families")
    source = place / request.param
    source.mkdir()
    getattr(checkpoints, request.param)(source)
    done = export(str(source), place / "exported")
    assert sorted(path.name for path in place.iterdir()) == sorted(["exported", request.param])
    return source, done


def test_an_export_gives_the_vectors_of_pytorch_in_any_batch(exported):
    source, done = exported
    random = np.random.default_rng(8)
    pictures = [random.integers(0, 256, (30 + i, 70, 3), np.uint8) for i in range(5)]
    with (
        embedder(source, dtype="float32", device="cpu") as one,
        embedder(done.directory, device="cpu", batch_size=3) as two,
    ):
        assert type(two).__name__ == "OnnxEmbedder"
        assert np.abs(one.embed_texts(TEXTS) - two.embed_texts(TEXTS)).max() <= TOLERANCE
        assert np.abs(one.embed_images(pictures) - two.embed_images(pictures)).max() <= TOLERANCE
        assert (one.logit_scale, one.logit_bias) == (two.logit_scale, two.logit_bias)
        assert one.logit_scale is not None
        for part in ("preprocessing", "config", "tokenizer", "dim"):
            assert getattr(one.identity, part) == getattr(two.identity, part)
    assert max(done.texts.largest, done.pictures.largest) <= TOLERANCE
    assert min(done.texts.cosine, done.pictures.cosine) > 0.99999


def test_both_runtimes_give_the_vectors_of_the_librarys_own_pipeline(exported):
    """The reference is the processor, the tokenizer and the model of transformers, and nothing of ours."""
    source, done = exported
    _, texts, images = library.vectors(source)
    given, _ = library.pictures()
    for model, runtime, bound in ((source, "torch", 1e-5), (done.directory, "onnx", 1e-4)):
        with embedder(model, runtime=runtime, dtype="float32", device="cpu", batch_size=2) as made:
            assert np.abs(made.embed_texts(TEXTS) - texts).max() <= bound
            assert np.abs(made.embed_images(given) - images).max() <= bound


def test_graphs_exported_beside_the_weights_are_the_same_model(tiny_clip, tmp_path, without_exporting):
    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    with embedder(directory, dtype="float32") as before:
        export(str(directory), directory)
    with embedder(directory, runtime="onnx") as after:
        assert after.identity == before.identity
    with pytest.raises(ConfigError, match="exists"):
        export(str(directory), directory)


@pytest.mark.parametrize(("weight", "tower"), [("text_projection", "text"), ("visual_projection", "vision")])
def test_graphs_of_other_weights_are_refused_and_nothing_is_left(
    tiny_clip, tmp_path, without_exporting, weight, tower
):
    from safetensors.torch import load_file, save_file

    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    weights = load_file(directory / "model.safetensors")
    weights[f"{weight}.weight"][0, 0] += 0.1
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match=f"the exported {tower} tower .*nothing was written"):
        export(str(directory), tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_directory_that_exists_is_left_alone(tiny_clip, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="there exists"):
        export(str(tiny_clip), tmp_path / "there")


def test_without_the_exporter_it_says_what_to_install(tiny_clip, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(MissingDependencyError, match="onnxscript"):
        export(str(tiny_clip), tmp_path / "exported")
    assert json.loads((tiny_clip / "config.json").read_text())["model_type"] == "clip"
