"""SigLIP 2 and MetaCLIP 2 give the vectors that transformers' own pipeline gives."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from vecbridge.embed.factory import embedder  # noqa: E402
from vecbridge.errors import ConfigError  # noqa: E402


def sibling(name):
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


checkpoints = sibling("checkpoints")
TEXTS = ["a dog", "", "Un ATARDECER sobre montañas", "x" * 300, "two dogs, and a cat."]
PROCESSORS = {"siglip_2": "SiglipImageProcessor", "metaclip_2": "CLIPImageProcessor"}


@pytest.fixture(scope="module", params=["siglip_2", "metaclip_2"])
def checkpoint(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("families") / request.param
    directory.mkdir()
    return getattr(checkpoints, request.param)(directory)


def pictures():
    """RGB, grey, with alpha, and of 16 bits, in several shapes, and what the library is given for each."""
    random = np.random.default_rng(5)
    colours = [Image.fromarray(random.integers(0, 256, (40 + 9 * i, 50, 3), np.uint8)) for i in range(3)]
    grey = Image.fromarray(random.integers(0, 256, (33, 47), np.uint8))
    levels = random.integers(0, 65536, (45, 36), np.uint16)
    deep = Image.fromarray(levels)
    clear = Image.fromarray(random.integers(0, 256, (40, 40, 4), np.uint8))
    white = Image.new("RGBA", clear.size, "white")
    white.alpha_composite(clear)
    eight = Image.fromarray(np.round(levels / 257).astype(np.uint8)).convert("RGB")
    return [*colours, grey, clear, deep], [*colours, grey.convert("RGB"), white.convert("RGB"), eight]


def library_texts(directory, model):
    values = json.loads((directory / "tokenizer_config.json").read_text())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), pad_token="<pad>", padding_side="right"
    )
    lower = values["tokenizer_class"] == "Siglip2Tokenizer"
    padded = tokenizer(
        [text.lower() if lower else text for text in TEXTS],
        padding="max_length" if lower else True, truncation=True, max_length=checkpoints.LENGTH,
        return_tensors="pt",
    )  # fmt: skip
    inputs = {"input_ids": padded["input_ids"]} if lower else dict(padded)
    inputs.pop("token_type_ids", None)
    return model.get_text_features(**inputs)


def unit(found):
    tensor = getattr(found, "pooler_output", found)
    return torch.nn.functional.normalize(tensor, dim=-1).numpy()


def test_texts_and_pictures_have_the_vectors_of_the_librarys_own_pipeline(checkpoint):
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    name = PROCESSORS[checkpoint.name]
    processor = getattr(transformers, f"{name}Pil", getattr(transformers, name)).from_pretrained(checkpoint)
    given, same = pictures()
    with torch.no_grad():
        texts = unit(library_texts(checkpoint, model))
        images = unit(
            model.get_image_features(pixel_values=processor(same, return_tensors="pt")["pixel_values"])
        )
    with embedder(checkpoint, device="cpu", dtype="float32", batch_size=2) as made:
        assert np.abs(made.embed_texts(TEXTS) - texts).max() <= 1e-5
        found = made.embed_images(given)
        # the library has no rule for alpha and 16 bits: those are compared after our documented conversion
        assert np.abs(found - images).max() <= 1e-5
        assert made.dim == texts.shape[1]
        assert made.logit_scale == pytest.approx(float(model.logit_scale.exp().detach()), rel=1e-6)
        assert (made.logit_bias is None) == (checkpoint.name == "metaclip_2")


def test_its_own_type_is_part_of_the_identity(checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    with embedder(checkpoint, dtype="float32") as one, embedder(other, dtype="float32") as two:
        assert one.identity == two.identity
    values = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(values | {"model_max_length": 9}))
    with embedder(other, dtype="float32") as two:
        assert one.identity.tokenizer != two.identity.tokenizer


def test_code_that_a_models_files_name_is_not_run(checkpoint, tmp_path):
    directory = shutil.copytree(checkpoint, tmp_path / "m")
    (directory / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    values = json.loads((directory / "config.json").read_text())
    values["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel"), "custom.Model")
    values["architectures"] = ["os.system"]
    (directory / "config.json").write_text(json.dumps(values))
    with embedder(directory, dtype="float32") as made:
        assert type(made._model).__module__.startswith("transformers.models.")
    assert not (tmp_path / "ran").exists()
    assert "custom" not in sys.modules


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer"}, "SentencePiece"),
        ("tokenizer_config.json", {"pad_token": None}, "pad_token is null"),
        ("tokenizer_config.json", {"pad_token": "<none>"}, "no token '<none>'"),
        ("tokenizer_config.json", {"padding_side": "top"}, "padding_side"),
        ("config.json", {"vision_config": {"hidden_size": 64}}, "projection_size"),
        ("config.json", {"model_type": "siglip2"}, "one of clip, metaclip_2, siglip"),
        ("config.json", {"model_type": ["siglip"]}, "one of clip"),
    ],
    ids=str,
)
def test_what_cannot_be_run_exactly_is_refused_by_its_key(tmp_path, name, change, words):
    directory = checkpoints.siglip_2(tmp_path)
    values = json.loads((directory / name).read_text())
    for key, value in change.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    (directory / name).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=words):
        embedder(directory, dtype="float32")
