"""The scale of a model's similarities: from weights, from an export, or unknown."""

import json
import math
import shutil
import struct

import pytest

from vecbridge.embed.factory import embedder
from vecbridge.embed.logits import LOGITS_FILE, Logits, read_logits
from vecbridge.errors import ConfigError


def write_weights(path, kind, data, name="logit_scale"):
    header = json.dumps({name: {"dtype": kind, "shape": [], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_bundled_model_tells_its_scale_in_both_runtimes(bundled, runtime):
    pytest.importorskip({"onnx": "onnxruntime", "torch": "torch"}[runtime])
    with embedder(runtime=runtime) as model:
        assert model.logit_scale == read_logits(bundled).scale
        assert 1 < model.logit_scale <= 101, "CLIP is trained with at most 100"
        assert model.logit_bias is None


def test_it_is_the_number_that_transformers_multiplies_by(tiny_clip):
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(tiny_clip)
    with embedder(tiny_clip, dtype="bfloat16", device="cpu") as made:
        assert made.logit_scale == pytest.approx(float(model.logit_scale.exp().detach()), rel=1e-6)


def test_graphs_alone_do_not_tell_it_and_an_export_does(bundled, tmp_path):
    directory = shutil.copytree(bundled, tmp_path / "graphs", ignore=shutil.ignore_patterns("gallery"))
    (directory / "model.safetensors").unlink()
    with embedder(directory) as model:
        assert model.logit_scale is None
    Logits(12.5, -3.0).write(directory)
    with embedder(directory) as model:
        assert (model.logit_scale, model.logit_bias) == (12.5, -3.0)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("F32", struct.pack("<f", 4.5)), ("F16", struct.pack("<e", 4.5)), ("F64", struct.pack("<d", 4.5)),
     ("BF16", struct.pack("<f", 4.5)[2:])],
)  # fmt: skip
def test_weights_of_every_precision_are_read(tmp_path, kind, data):
    write_weights(tmp_path / "model.safetensors", kind, data)
    assert read_logits(tmp_path).scale == pytest.approx(math.exp(4.5))


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, struct.pack("<Q", 4) + b"null"])
def test_damaged_weights_leave_it_unknown(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    assert read_logits(tmp_path) == Logits()


@pytest.mark.parametrize("text", ["", "[]", '{"logit_scale": "big"}', '{"logit_scale": 1, "logit_bias": []}'])
def test_a_damaged_file_of_an_export_is_refused_with_its_path(tmp_path, text):
    (tmp_path / "onnx").mkdir()
    (tmp_path / LOGITS_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"logits\.json"):
        read_logits(tmp_path)
