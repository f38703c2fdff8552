"""Tiny random checkpoints of each family, in directories as users have them."""

import json

import torch
import transformers

SIZE = 32
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
LENGTH = 24


def write_words(directory, special):
    """A byte-level tokenizer whose special tokens have the ids of the family's own."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: row for row, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start, end = next(((a, b) for a, b in [("<s>", "</s>")] if a in special), ("", "<eos>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(),
        special_tokens=[(each, names.index(each)) for each in (start, end) if each],
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return len(names)


def siglip_2(directory):
    """SigLIP 2 of a fixed size, whose model type is `siglip`; texts are in lower case and fill all places."""
    size = write_words(directory, ["<pad>", "<eos>", "<bos>", "<unk>"])
    config = transformers.SiglipConfig(
        text_config=SHAPE | {"vocab_size": size, "max_position_embeddings": LENGTH, "projection_size": 32},
        vision_config=SHAPE | {"image_size": SIZE, "patch_size": 8},
    )
    save(transformers.SiglipModel, config, directory)
    pictures = {
        "size": {"height": SIZE, "width": SIZE},
        "resample": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    write(directory / "preprocessor_config.json", pictures)
    about = {"tokenizer_class": "Siglip2Tokenizer", "pad_token": "<pad>", "padding_side": "right"}
    write(directory / "tokenizer_config.json", about | {"model_max_length": 10**30})
    return directory


def metaclip_2(directory):
    """MetaCLIP 2, whose end-of-text token is number 2."""
    size = write_words(directory, ["<s>", "<pad>", "</s>", "<unk>"])
    config = transformers.MetaClip2Config(
        text_config=SHAPE
        | {"vocab_size": size, "max_position_embeddings": LENGTH, "eos_token_id": 2, "projection_dim": 16},
        vision_config=SHAPE | {"image_size": SIZE, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    save(transformers.MetaClip2Model, config, directory)
    write(directory / "preprocessor_config.json", {"size": SIZE, "crop_size": SIZE, "resample": 3, **OPENAI})
    write(
        directory / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>"}
    )
    return directory


def altclip(directory):
    """AltCLIP, whose text tower is XLM-RoBERTa: its first two places are no token's."""
    size = write_words(directory, ["<s>", "<pad>", "</s>", "<unk>"])
    config = transformers.AltCLIPConfig(
        text_config=SHAPE
        | {"vocab_size": size, "max_position_embeddings": LENGTH + 2, "project_dim": 48, "pad_token_id": 1},
        vision_config=SHAPE | {"image_size": SIZE, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    save(transformers.AltCLIPModel, config, directory)
    write(directory / "preprocessor_config.json", {"size": SIZE, "crop_size": SIZE, "resample": 3, **OPENAI})
    write(
        directory / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>"}
    )
    return directory


def save(model, config, directory):
    torch.manual_seed(0)
    model(config).eval().save_pretrained(directory)


def write(path, values):
    path.write_text(json.dumps(values), "utf-8")
