"""CLIP in ONNX Runtime."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from vecbridge.embed import onnx
from vecbridge.embed.files import locate
from vecbridge.embed.onnx import OnnxEmbedder, choose_providers
from vecbridge.errors import ConfigError

SESSION = onnx.onnxruntime.InferenceSession
TEXTS = ["a red heart", "un perro", "", "sunset over mountains", "x" * 300]


@pytest.fixture
def pictures(bundled):
    return sorted((bundled / "gallery").glob("*.png"))[:40]


@pytest.fixture(scope="module")
def embedder(bundled):
    with OnnxEmbedder(locate("bundled")) as made:
        yield made


def test_torch_and_onnx_are_one_model_under_one_identity(embedder, pictures):
    pytest.importorskip("torch")
    from vecbridge.embed.torch_clip import ClipEmbedder

    other = ClipEmbedder(locate("bundled"), dtype="float32")
    assert other.identity == embedder.identity
    assert (embedder.embed_texts(TEXTS) * other.embed_texts(TEXTS)).sum(axis=1).min() > 0.98
    ours, theirs = embedder.embed_images(pictures), other.embed_images(pictures)
    assert (ours * theirs).sum(axis=1).min() > 0.99
    assert ((ours @ theirs.T).argmax(axis=1) == np.arange(len(pictures))).all(), "each finds itself"


def test_vectors_are_float32_of_unit_length(embedder, pictures):
    for found in (embedder.embed_texts(TEXTS), embedder.embed_images(pictures)):
        assert found.dtype == np.float32
        assert found.shape[1] == embedder.dim == embedder.identity.dim
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert embedder.embed_images([]).shape == (0, embedder.dim)


def test_a_caption_finds_its_picture_among_others(embedder, bundled):
    lines = (bundled / "gallery" / "gallery.jsonl").read_text("utf-8").splitlines()[:60]
    rows = [json.loads(line) for line in lines]
    scores = (
        embedder.embed_texts([row["name"] for row in rows])
        @ embedder.embed_images([bundled / "gallery" / row["file"] for row in rows]).T
    )
    found = (scores.argsort(axis=1)[:, -5:] == np.arange(len(rows))[:, np.newaxis]).any(axis=1)
    assert found.mean() > 0.5, "chance is one in twelve"


def test_large_batches_are_cut_and_give_what_small_ones_do(bundled, pictures):
    small = OnnxEmbedder(locate("bundled"), batch_size=7)
    whole = OnnxEmbedder(locate("bundled"), batch_size=64)
    assert (small.embed_images(pictures) * whole.embed_images(pictures)).sum(axis=1).min() > 0.99


def test_a_damaged_graph_is_refused_with_its_path(bundled, tmp_path):
    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    (directory / "onnx" / "text_model.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"text_model\.onnx: ONNX Runtime cannot load it"):
        OnnxEmbedder(locate(str(directory)))


def test_a_lazy_embedder_loads_what_is_used_and_finds_damage_then(bundled, tmp_path):
    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    (directory / "onnx" / "vision_model.onnx").write_bytes(b"no graph")
    with OnnxEmbedder(locate(str(directory)), lazy=True) as lazy:
        assert lazy.embed_texts(TEXTS).shape == (len(TEXTS), lazy.dim)
        with pytest.raises(ConfigError, match=r"vision_model\.onnx: ONNX Runtime cannot load it"):
            lazy.embed_images([np.zeros((8, 8, 3), np.uint8)])
        assert lazy.embed_texts(TEXTS).shape == (len(TEXTS), lazy.dim)
    with pytest.raises(ConfigError, match="closed"):
        lazy.embed_texts(TEXTS)


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/vision_model.onnx", "preprocessor_config.json"])
def test_a_missing_file_is_named(bundled, tmp_path, name):
    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    (directory / name).unlink()
    with pytest.raises(ConfigError, match=name.partition("/")[2] or "has no"):
        OnnxEmbedder(locate(str(directory)))


def test_a_graph_with_other_outputs_is_refused(bundled, tmp_path):
    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    shutil.copy(directory / "onnx" / "text_model.onnx", directory / "onnx" / "vision_model.onnx")
    with pytest.raises(ConfigError, match="none of image_embeds"):
        OnnxEmbedder(locate(str(directory)))


class Symbolic:
    """A session whose graph does not tell its sizes, as exports with dynamic axes."""

    def __init__(self, path, **options):
        self._session = SESSION(path, **options)

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_inputs(self):
        return [SimpleNamespace(name=each.name, shape=["n"] * 4) for each in self._session.get_inputs()]

    def get_outputs(self):
        return [SimpleNamespace(name=each.name, shape=["n", "dim"]) for each in self._session.get_outputs()]


def test_a_graph_that_does_not_tell_its_sizes_is_run_once_to_see_them(bundled, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx.onnxruntime, "InferenceSession", Symbolic)
    with OnnxEmbedder(locate("bundled")) as made:
        assert made.embed_texts(TEXTS).shape == (len(TEXTS), 256)
    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    config = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"projection_dim": 128}), "utf-8")
    with pytest.raises(ConfigError, match=r"gives image_embeds of shape \(1, 256\).*projection_dim is 128"):
        OnnxEmbedder(locate(str(directory)))


def test_a_closed_embedder_says_so(bundled):
    with OnnxEmbedder(locate("bundled")) as made:
        pass
    with pytest.raises(ConfigError, match="closed"):
        made.embed_texts(["a"])


@pytest.fixture
def providers(monkeypatch):
    def having(*names):
        monkeypatch.setattr(
            onnx.onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"]
        )

    return having


def test_cuda_is_taken_where_it_is_there_and_not_refused(providers):
    cpu, both = ["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]
    providers()
    assert choose_providers("auto") == choose_providers("cpu") == cpu
    providers("CUDAExecutionProvider")
    assert choose_providers("auto") == choose_providers("cuda:0") == both
    assert choose_providers("cpu") == cpu


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "pip install onnxruntime-gpu"), ("mps", "runtime='torch'")]
)
def test_a_device_that_is_not_there_is_refused_with_what_to_do(providers, device, words):
    providers()
    with pytest.raises(ConfigError, match=words):
        choose_providers(device)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_does_not_load_is_an_error_if_asked_for_and_a_loud_warning_if_not(bundled, providers):
    providers("CUDAExecutionProvider")
    with pytest.raises(ConfigError, match="cuDNN"):
        OnnxEmbedder(locate("bundled"), device="cuda")
    with pytest.warns(RuntimeWarning, match="a GPU is there"):
        OnnxEmbedder(locate("bundled"), device="auto")
