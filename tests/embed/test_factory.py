"""The front door: which runtime for which model, and what is said about it."""

import importlib.util
import logging
import shutil
import sys

import pytest

import vecbridge as vb
from vecbridge.embed import factory, hardware
from vecbridge.embed.factory import embedder
from vecbridge.embed.files import BUNDLED, locate
from vecbridge.embed.logits import Logits
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


@pytest.fixture
def both(bundled, tmp_path):
    """A directory with weights, and graphs from elsewhere."""
    return shutil.copytree(bundled, tmp_path / "both", ignore=shutil.ignore_patterns("gallery"))


def default(directory, device="auto", dtype="auto"):
    return factory._default_runtime(locate(str(directory)), device, dtype)


def test_a_directory_with_both_runs_in_torch_or_else_in_onnx(both, without):
    if importlib.util.find_spec("torch"):
        assert default(both) == default(both, "cpu", "float32") == "torch"
    without("torch")
    assert default(both) == "onnx"


@pytest.mark.parametrize(
    ("device", "dtype", "flags", "driver", "wanted"),
    [
        ("cpu", "float32", "avx2", True, "onnx"),
        ("cpu", "auto", "avx2", True, "onnx"),
        ("auto", "auto", "avx2", False, "onnx"),
        ("auto", "auto", "avx2", True, "torch"),
        ("cuda", "auto", "avx2", True, "torch"),
        ("cpu", "auto", "avx512_bf16", False, "torch"),
        ("cpu", "float32", "avx512_bf16", False, "onnx"),
        ("cpu", "bfloat16", "avx2", False, "torch"),
    ],
)
def test_an_export_of_vecbridge_runs_in_onnx_where_torch_would_compute_the_same(
    both, monkeypatch, tmp_path, device, dtype, flags, driver, wanted
):
    monkeypatch.setattr(factory, "_installed", lambda package: True)
    monkeypatch.setattr(hardware.platform, "system", lambda: "Linux")
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "_NVIDIA_DRIVER", tmp_path / ("cpuinfo" if driver else "none"))
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    Logits(100.0).write(both)
    assert default(both, device, dtype) == wanted
    monkeypatch.setattr(factory, "_installed", lambda package: package != "onnxruntime")
    assert default(both, device, dtype) == "torch"


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
