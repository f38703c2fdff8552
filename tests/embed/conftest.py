"""A tiny CLIP with random weights, in a directory as users have them; and the bundled model."""

import json

import pytest

from vecbridge.embed.files import BUNDLED

SIZE = 32
PREPROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": SIZE}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}  # fmt: skip


def write_tokenizer(directory):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{each}</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    model = models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start, end = len(names) - 2, len(names) - 1
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return start, end


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """A directory with a whole CLIP of 60 thousand random weights, of 16 dimensions."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("models") / "tiny-clip"
    directory.mkdir()
    start, end = write_tokenizer(directory)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=shape
        | {"vocab_size": end + 1, "max_position_embeddings": 24, "bos_token_id": start, "eos_token_id": end},
        vision_config=shape | {"image_size": SIZE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).eval().save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return directory


@pytest.fixture(scope="session")
def bundled():
    if not (BUNDLED / "onnx" / "vision_model.onnx").is_file():
        pytest.skip("the bundled model is not in this checkout: train it with training/")
    pytest.importorskip("onnxruntime")
    return BUNDLED
