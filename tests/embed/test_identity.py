"""Everything that changes a vector is in the embedder's identity, and how a file is written is not."""

import json
import os

import numpy as np
import pytest

from vecbridge.embed.factory import embedder
from vecbridge.embed.files import BUNDLED
from vecbridge.errors import EmbedderMismatchError
from vecbridge.identity import embedder_differences, same_embedder
from vecbridge.schema import CollectionSpec

TEXTS = ["a red heart", "Un atardecer sobre montañas", "two dogs"]
# of the bundled model: collections hold it
BUNDLED_PREPROCESSING = "ac22773019273897"


@pytest.fixture(params=["onnx", "torch"])
def runtime(request):
    pytest.importorskip({"onnx": "onnxruntime", "torch": "torch"}[request.param])
    return request.param


@pytest.fixture
def checkpoint(bundled, tmp_path):
    """A directory with the bundled model, whose JSON files can be changed; the weights are linked."""
    directory = tmp_path / "clip"
    directory.mkdir()
    for path in bundled.iterdir():
        if path.suffix == ".json" or path.name == "merges.txt":
            (directory / path.name).write_bytes(path.read_bytes())
        elif path.name in ("onnx", "model.safetensors"):
            (directory / path.name).symlink_to(path)
    return directory


def edit(directory, name, change):
    """Rewrites a JSON file by a function of its values, which may give others back."""
    path = directory / name
    values = json.loads(path.read_text("utf-8"))
    values = change(values) or values
    path.write_text(json.dumps(values), "utf-8")


def load(directory, runtime):
    options = {"dtype": "float32"} if runtime == "torch" else {}
    return embedder(str(directory), runtime=runtime, **options)


def swap_letters(values):
    vocabulary = values["model"]["vocab"]
    vocabulary["a</w>"], vocabulary["o</w>"] = vocabulary["o</w>"], vocabulary["a</w>"]


def forget_merges(values):
    del values["model"]["merges"][:200]


def keep_capitals(values):
    values["normalizer"]["normalizers"] = [{"type": "NFC"}]


def add_token(values):
    number, flags = values["model"]["vocab"]["re"], ("single_word", "lstrip", "rstrip", "special")
    token = {"id": number, "content": "re", "normalized": True, **dict.fromkeys(flags, False)}
    values["added_tokens"].append(token)


def divide_digits(values):
    values["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"[\p{L}]|[^\s\p{L}]+"


TOKENIZERS = [swap_letters, forget_merges, keep_capitals, add_token, divide_digits]


@pytest.mark.parametrize("change", TOKENIZERS, ids=lambda each: each.__name__)
def test_an_altered_tokenizer_is_another_model(checkpoint, runtime, change):
    with load(checkpoint, runtime) as before:
        wanted = before.embed_texts(TEXTS)
    edit(checkpoint, "tokenizer.json", change)
    with load(checkpoint, runtime) as after:
        assert (wanted * after.embed_texts(TEXTS)).sum(axis=1).min() < 0.99, "it makes other vectors"
    assert embedder_differences(before.identity, after.identity) == ["tokenizer"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer_config.json", {"model_max_length": 5}),
        ("config.json", {"text_config": {"max_position_embeddings": 5}}),
        ("tokenizer.json", {"truncation": {
            "max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}}),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_the_length_that_texts_are_cut_to_is_part_of_it(checkpoint, change, name):
    with load(checkpoint, "onnx") as before:
        pass
    edit(checkpoint, name, lambda values: merge(values, change))
    with load(checkpoint, "onnx") as after:
        pass
    assert "tokenizer" in embedder_differences(before.identity, after.identity)


def merge(values, change):
    return {**values, **{
        key: merge(values[key], each) if isinstance(values.get(key), dict) else each
        for key, each in change.items()
    }}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": {"hidden_act": "quick_gelu"}},
        {"vision_config": {"num_attention_heads": 4}},
        {"text_config": {"layer_norm_eps": 0.5}},
        {"vision_config": {"layer_norm_eps": 0.5}},
    ],
    ids=str,
)
def test_an_altered_value_of_config_json_is_another_model(checkpoint, runtime, change):
    with load(checkpoint, runtime) as before:
        vectors = both(before)
    edit(checkpoint, "config.json", lambda values: merge(values, change))
    with load(checkpoint, runtime) as after:
        if runtime == "torch":  # an exported graph has the values of its export
            assert (vectors * both(after)).sum(axis=1).min() < 0.9999, "it makes other vectors"
    assert embedder_differences(before.identity, after.identity) == ["config.json"]


def both(model):
    picture = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    return np.concatenate([model.embed_texts(TEXTS), model.embed_images([picture])])


@pytest.mark.parametrize(
    "change",
    [{"image_mean": [0.5, 0.5, 0.5]}, {"resample": 2}, {"size": {"shortest_edge": 80}}],
    ids=str,
)
def test_an_altered_preprocessing_is_another_model(checkpoint, runtime, change):
    with load(checkpoint, runtime) as before:
        pass
    edit(checkpoint, "preprocessor_config.json", lambda values: {**values, **change})
    with load(checkpoint, runtime) as after:
        assert embedder_differences(before.identity, after.identity) == ["preprocessing of pictures"]


def shuffle_vocabulary(values):
    values["model"]["vocab"] = dict(reversed(values["model"]["vocab"].items()))


def write_merges_as_texts(values):
    values["model"]["merges"] = [" ".join(each) for each in values["model"]["merges"]]


def use_a_template(values):
    def token(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            token("<|startoftext|>"), {"Sequence": {"id": "A", "type_id": 0}}, token("<|endoftext|>")
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in (("<|startoftext|>", 5898), ("<|endoftext|>", 5899))
        },
    }  # fmt: skip


def write_as_transformers_4(values):
    values["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = (
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )


def pad_and_decode(values):
    values["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                         "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    values["decoder"] = None


@pytest.mark.parametrize(
    "change",
    [shuffle_vocabulary, write_merges_as_texts, use_a_template, pad_and_decode, write_as_transformers_4],
    ids=lambda each: each.__name__,
)
def test_how_a_tokenizer_is_written_does_not_matter(checkpoint, bundled, change):
    edit(checkpoint, "tokenizer.json", change)
    with load(checkpoint, "onnx") as model, embedder(runtime="onnx") as reference:
        assert model.identity.tokenizer == reference.identity.tokenizer
        np.testing.assert_array_equal(model.embed_texts(TEXTS), reference.embed_texts(TEXTS))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: {"transformers_version": "4.9", "torch_dtype": "float16", **values},
        lambda values: merge(values, {"text_config": {"bos_token_id": 0, "attention_dropout": 0.1}}),
        lambda values: merge(values, {"text_config": {"eos_token_id": 2}}),
        lambda values: {**values, "text_config_dict": values["text_config"], "text_config": {}},
        lambda values: merge(values, {"vision_config": {"layer_norm_eps": 1e-5, "num_channels": 3}}),
    ],
    ids=["version", "unused", "highest id", "old section", "defaults written out"],
)
def test_how_config_json_is_written_does_not_matter(checkpoint, bundled, change):
    edit(checkpoint, "config.json", change)
    with load(checkpoint, "onnx") as model, embedder(runtime="onnx") as reference:
        assert model.identity.config == reference.identity.config


def test_what_transformers_writes_again_is_the_same_model(checkpoint):
    transformers = pytest.importorskip("transformers")
    with load(checkpoint, "torch") as before:
        pass
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(checkpoint)
    transformers.CLIPConfig.from_pretrained(checkpoint).save_pretrained(checkpoint)
    assert (checkpoint / "tokenizer.json").read_bytes() != (BUNDLED / "tokenizer.json").read_bytes()
    with load(checkpoint, "torch") as after:
        assert after.identity == before.identity


def test_a_checkpoint_with_vocab_and_merges_alone_is_the_same_model(checkpoint):
    pytest.importorskip("transformers")
    with load(checkpoint, "torch") as before:
        pass
    (checkpoint / "tokenizer.json").unlink()
    with load(checkpoint, "torch") as after:
        assert after.identity == before.identity


def test_the_bundled_models_identity_is_the_same_in_both_runtimes_and_extends_the_recorded_one(bundled):
    pytest.importorskip("torch")
    with embedder(runtime="onnx") as one, embedder(runtime="torch") as two:
        assert one.identity == two.identity
        assert one.identity.preprocessing == BUNDLED_PREPROCESSING, "stored in collections"
        assert (one.identity.format, len(one.identity.config), len(one.identity.tokenizer)) == (2, 16, 16)


def test_other_weights_under_the_same_name_are_another_model(checkpoint, bundled):
    with load(checkpoint, "onnx") as before:
        pass
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").write_bytes(weights[:-2] + bytes([weights[-2] ^ 1]) + weights[-1:])
    os.utime(checkpoint / "model.safetensors", (0, 0))
    with load(checkpoint, "onnx") as after:
        assert embedder_differences(before.identity, after.identity) == ["revision"]


def test_a_collection_refuses_the_model_once_its_tokenizer_is_altered(checkpoint, bundled):
    import vecbridge as vb

    with load(checkpoint, "onnx") as model, vb.connect("memory://") as store:
        spec = CollectionSpec.single("texts", dim=model.dim, embedder=model.identity)
        texts = store.create(spec)
        texts.upsert(
            vb.stamp(vb.batch(spec, id=["a"], vector=model.embed_texts(["two dogs"])), model.identity)
        )
        edit(checkpoint, "tokenizer.json", swap_letters)
        with load(checkpoint, "onnx") as altered:
            query = vb.Query(altered.embed_texts(["two dogs"]), embedder=altered.identity)
            assert not same_embedder(model.identity, altered.identity)
            with pytest.raises(EmbedderMismatchError, match="another tokenizer"):
                texts.search(query)
