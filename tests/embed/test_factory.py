"""The front door: which runtime for which model, and what is said about it."""

import importlib.util
import logging
import shutil
import sys

import pytest

import vecbridge as vb
from vecbridge.embed import factory
from vecbridge.embed.factory import embedder
from vecbridge.embed.files import BUNDLED, locate
from vecbridge.errors import ConfigError, MissingDependencyError


@pytest.fixture
def without(monkeypatch):
    """Pretends that packages are not installed."""

    def lacking(*packages):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in packages else find(name)
        )
        for name in packages:
            monkeypatch.setitem(sys.modules, name, None)
        for module in ("torch_clip", "torch_device", "onnx"):
            monkeypatch.delitem(sys.modules, f"vecbridge.embed.{module}", raising=False)
            monkeypatch.delattr(f"vecbridge.embed.{module}", raising=False)

    return lacking


def test_the_public_name_is_the_function():
    assert vb.embedder is embedder


def test_the_bundled_model_runs_in_onnx_and_says_what_it_is(bundled, caplog):
    caplog.set_level(logging.INFO)
    with embedder() as made:
        assert type(made).__name__ == "OnnxEmbedder"
        assert made.identity.model == "bundled"
        assert "demonstration model" in made.note
        assert "openai/clip-vit-base-patch32" in made.note
    assert made.note in caplog.text


def test_the_bundled_model_runs_in_torch_where_onnxruntime_is_missing(bundled, without):
    pytest.importorskip("torch")
    without("onnxruntime")
    assert type(embedder(dtype="float32")).__name__ == "ClipEmbedder"


def test_without_any_runtime_the_bundled_model_says_what_to_install(bundled, without):
    without("onnxruntime", "torch")
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[onnx\]'"):
        embedder()


def test_a_directory_of_weights_runs_in_torch(tiny_clip):
    with embedder(tiny_clip, dtype="float32") as made:
        assert type(made).__name__ == "ClipEmbedder"
        assert made.note == ""


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_directory_of_weights_without_torch_says_what_to_install(tiny_clip, without, package):
    without(package)
    with pytest.raises(
        MissingDependencyError, match=rf"{package} is not installed: pip install '\.\[clip\]'"
    ):
        embedder(str(tiny_clip))


def test_a_directory_with_both_runs_in_torch_or_else_in_onnx(bundled, tmp_path, without):
    directory = shutil.copytree(bundled, tmp_path / "both", ignore=shutil.ignore_patterns("gallery"))
    files = locate(str(directory))
    if importlib.util.find_spec("torch"):
        assert factory._default_runtime(files) == "torch"
    without("torch")
    assert factory._default_runtime(files) == "onnx"


def test_a_directory_of_graphs_alone_runs_in_onnx(bundled, tmp_path):
    directory = shutil.copytree(bundled, tmp_path / "graphs", ignore=shutil.ignore_patterns("gallery"))
    (directory / "model.safetensors").unlink()
    with embedder(str(directory)) as made:
        assert type(made).__name__ == "OnnxEmbedder"
        assert made.identity.model == "graphs"
        assert made.identity.revision != locate("bundled").revision


def test_an_installation_without_the_bundled_model_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("vecbridge.embed.files.BUNDLED", tmp_path / "none")
    with pytest.raises(ConfigError, match="without the bundled model"):
        embedder()


def test_settings_that_a_runtime_does_not_have_are_refused(bundled):
    with pytest.raises(ConfigError, match="'torch' or 'onnx'"):
        embedder(runtime="tensorflow")
    with pytest.raises(ConfigError, match="dtype='bfloat16'"):
        embedder(runtime="onnx", dtype="bfloat16")


def test_the_bundled_directory_given_by_its_path_is_the_same_model(bundled):
    assert embedder(str(BUNDLED), runtime="onnx").identity == embedder().identity
