"""Values of a checkpoint's files that cannot be are refused at load, by file and key."""

import json
import math
import shutil

import pytest

from vecbridge.embed.architecture import Architecture
from vecbridge.embed.encoder import Encoder
from vecbridge.embed.files import locate
from vecbridge.embed.preprocess import Preprocessing
from vecbridge.embed.tokens import Tokens
from vecbridge.embed.values import Values
from vecbridge.errors import ConfigError


def architecture(**values):
    return Architecture.read(Values("config.json", {"model_type": "clip", **values}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"projection_dim": None},
            "config.json: projection_dim is null: it must be a whole number, 1 or more",
        ),
        ({"projection_dim": "512"}, 'projection_dim is "512"'),
        ({"projection_dim": True}, "projection_dim is true"),
        ({"projection_dim": 0}, "projection_dim is 0"),
        ({"text_config": {"max_position_embeddings": 10**30}}, "a whole number up to 2,147,483,647"),
        ({"text_config": [1]}, "text_config is [1]: it must be an object"),
        ({"text_config": {"max_position_embeddings": None}}, "text_config.max_position_embeddings is null"),
        ({"text_config": {"max_position_embeddings": 7.5}}, "text_config.max_position_embeddings is 7.5"),
        ({"text_config": {"hidden_act": None}}, "text_config.hidden_act is null: it must be a text"),
        ({"text_config": {"layer_norm_eps": "1e-5"}}, "text_config.layer_norm_eps"),
        ({"text_config": {"eos_token_id": [1]}}, "text_config.eos_token_id is [1]"),
        ({"text_config": {"eos_token_id": None}}, "text_config.eos_token_id is null"),
        ({"text_config_dict": {"vocab_size": -1}}, "text_config_dict.vocab_size is -1"),
        ({"vision_config": {"image_size": None}}, "vision_config.image_size is null"),
        ({"vision_config": {"image_size": [64, 64]}}, "vision_config.image_size is [64, 64]"),
        ({"vision_config": {"image_size": 16}}, "vision_config.patch_size is missing: it must be no more"),
        ({"vision_config": {"num_channels": 1}}, "vision_config.num_channels is 1"),
        ({"vision_config": {"num_attention_heads": 5}}, "num_attention_heads is 5: it must be a divisor of"),
        ({"vision_config": {"layer_norm_eps": math.nan}}, "vision_config.layer_norm_eps is NaN"),
    ],
    ids=str,
)
def test_a_value_of_config_json_that_cannot_be_is_refused_by_its_key(values, words):
    with pytest.raises(ConfigError) as caught:
        architecture(**values)
    assert words in str(caught.value)
    assert str(caught.value).startswith("config.json: ")


def test_every_value_is_in_the_hash_and_how_it_is_written_is_not():
    plain = architecture()
    seen = {plain.hash, architecture(projection_dim=256).hash}
    for section, values in (("text_config", plain.text), ("vision_config", plain.vision)):
        assert architecture(**{section: dict(values), "transformers_version": "4.9"}).hash == plain.hash
        for key, value in values.items():
            if key == "num_channels":  # there is no other
                continue
            other = f"{value}!" if isinstance(value, str) else value * 2
            changed = {**values, key: other} | ({"image_size": 448} if key == "patch_size" else {})
            seen.add(architecture(**{section: changed}).hash)
    assert len(seen) == 2 + len(plain.text) + len(plain.vision) - 1


def test_a_missing_key_has_the_default_of_transformers():
    transformers = pytest.importorskip("transformers")
    found, reference = architecture(), transformers.CLIPConfig()
    assert found.dim == reference.projection_dim
    for ours, theirs in ((found.text, reference.text_config), (found.vision, reference.vision_config)):
        assert ours == {key: getattr(theirs, key) for key in ours}


@pytest.mark.parametrize(
    "values",
    [
        {"text_config_dict": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "relu", "vocab_size": 9}},
        {"text_config_dict": None, "text_config": {"hidden_act": "gelu"}},
        {"vision_config_dict": {"image_size": 64}, "vision_config": {"patch_size": 16}},
    ],
    ids=str,
)
def test_the_sections_of_old_configurations_count_as_in_transformers(values):
    transformers = pytest.importorskip("transformers")
    found, reference = architecture(**values), transformers.CLIPConfig(**json.loads(json.dumps(values)))
    for ours, theirs in ((found.text, reference.text_config), (found.vision, reference.vision_config)):
        assert ours == {key: getattr(theirs, key) for key in ours}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": None}, "size is null"),
        ({"size": {"shortest_edge": None}}, "size.shortest_edge is null"),
        ({"size": {"shortest_edge": "64"}}, 'size.shortest_edge is "64"'),
        ({"size": {"height": 64}, "do_center_crop": False}, "size.width is missing"),
        ({"size": {"shortest_edge": 64, "longest_edge": 9}}, "size.longest_edge is 9"),
        ({"crop_size": None}, "crop_size is null"),
        ({"crop_size": {"height": 64, "width": 0}}, "crop_size.width is 0"),
        ({"do_resize": "yes"}, 'do_resize is "yes": it must be true or false'),
        ({"do_normalize": None}, "do_normalize is null"),
        ({"resample": 9}, "resample is 9: it must be a filter of Pillow, 0 to 5"),
        ({"resample": "bicubic"}, "resample"),
        ({"rescale_factor": 0}, "rescale_factor is 0: it must be a number above 0"),
        ({"rescale_factor": math.inf}, "rescale_factor is Infinity"),
        ({"image_mean": [0.5, None, 0.5]}, "image_mean is [0.5, null, 0.5]: it must be three numbers"),
        ({"image_mean": 0.5}, "image_mean is 0.5"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std is [0.5, 0, 0.5]: it must be three numbers above 0"),
    ],
    ids=str,
)
def test_a_value_of_the_preprocessing_that_cannot_be_is_refused_by_its_key(values, words):
    with pytest.raises(ConfigError) as caught:
        Preprocessing.from_config(values)
    assert f"preprocessor_config.json: {words}" in str(caught.value)


@pytest.fixture
def checkpoint(tiny_clip, tmp_path):
    return shutil.copytree(tiny_clip, tmp_path / "tiny-clip")


def edit(checkpoint, name, change):
    path = checkpoint / name
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")


class Still(Encoder):
    """An encoder that reads a model's files and no weights."""

    def __init__(self, directory):
        files = locate(str(directory))
        tokens = Tokens.from_file(files.need("tokenizer.json"), files.max_length())
        super().__init__(files, tokens, dim=files.config().dim, batch_size=2, note="")

    def close(self):
        """Nothing to let go of."""

    def _text_features(self, ids, mask):
        raise AssertionError("nothing is embedded")

    def _image_features(self, pixels):
        raise AssertionError("nothing is embedded")


def crop_otherwise(values):
    values["crop_size"] = {"height": 24, "width": 32}


def take_larger_pictures(values):
    values["vision_config"]["image_size"] = 64


def look_for_another_end(values):
    values["text_config"]["eos_token_id"] = 7


def know_fewer_tokens(values):
    values["text_config"]["vocab_size"] = 100


def leave_no_room(values):
    values["text_config"]["max_position_embeddings"] = 2


def mark_no_end(values):
    values["post_processor"] = None


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("preprocessor_config.json", crop_otherwise, ["preprocessor_config.json: pictures become 24 x 32",
                                                      "takes 32 x 32", "vision_config.image_size"]),
        ("config.json", take_larger_pictures, ["takes 64 x 64", "config.json: vision_config.image_size"]),
        ("config.json", look_for_another_end, ["looks for 7", "config.json: text_config.eos_token_id"]),
        ("config.json", know_fewer_tokens, ["the model knows 100", "config.json: text_config.vocab_size"]),
        ("config.json", leave_no_room, ["cut to 2 tokens", "text_config.max_position_embeddings"]),
        ("tokenizer.json", mark_no_end, ["tokenizer.json: post_processor"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_files_that_do_not_fit_each_other_are_refused_by_their_keys(checkpoint, name, change, words):
    Still(checkpoint)
    edit(checkpoint, name, change)
    with pytest.raises(ConfigError) as caught:
        Still(checkpoint)
    assert all(each in str(caught.value) for each in words), caught.value
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("length", [None, "77", 0, -1, 2.5])
def test_a_tokenizers_length_that_is_none_is_refused_by_its_key(checkpoint, length):
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: model_max_length is "):
        Still(checkpoint)


def test_the_file_of_transformers_5_is_named_with_its_section(checkpoint):
    (checkpoint / "preprocessor_config.json").unlink()
    (checkpoint / "processor_config.json").write_text(json.dumps({"image_processor": {"size": None}}))
    with pytest.raises(ConfigError, match=r"processor_config\.json: image_processor\.size is null"):
        Still(checkpoint)


def test_fewer_layers_than_the_weights_have_are_refused(checkpoint):
    pytest.importorskip("torch")
    from vecbridge.embed.torch_clip import ClipEmbedder

    edit(checkpoint, "config.json", lambda values: values["text_config"].update(num_hidden_layers=1))
    with pytest.raises(ConfigError, match=r"text_model.*layers.1.*num_hidden_layers"):
        ClipEmbedder(locate(str(checkpoint)), dtype="float32")


def test_graphs_of_another_size_than_config_json_are_refused(bundled, tmp_path):
    from vecbridge.embed.onnx import OnnxEmbedder

    directory = shutil.copytree(bundled, tmp_path / "m", ignore=shutil.ignore_patterns("gallery"))
    edit(directory, "config.json", lambda values: values.update(projection_dim=128))
    with pytest.raises(
        ConfigError, match=r"vision_model\.onnx gives image_embeds .*256.*projection_dim is 128"
    ):
        OnnxEmbedder(locate(str(directory)))
    edit(directory, "config.json", lambda values: values["vision_config"].update(image_size=32))
    edit(directory, "preprocessor_config.json", lambda values: values.update(crop_size=32))
    with pytest.raises(ConfigError, match=r"vision_model\.onnx takes pictures of 64 x 64 .*makes 32 x 32"):
        OnnxEmbedder(locate(str(directory)))
