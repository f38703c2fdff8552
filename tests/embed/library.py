"""What transformers itself makes of texts and pictures: its own processor, tokenizer and model."""

import json

import numpy as np
import torch
import transformers
from PIL import Image

from tests.embed import checkpoints

TEXTS = ["a dog", "", "Un ATARDECER sobre montañas", "x" * 300, "two dogs, and a cat."]


def pictures():
    """RGB, grey, with alpha, and of 16 bits, in several shapes, and what the library is given for each.

    It has no rule for alpha and for 16 bits: those are compared after our documented conversion.
    """
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


def vectors(directory):
    """The model of a checkpoint, and its unit vectors of the texts and of the pictures."""
    model = transformers.AutoModel.from_pretrained(directory).eval()
    name = "SiglipImageProcessor" if model.config.model_type == "siglip" else "CLIPImageProcessor"
    processor = getattr(transformers, f"{name}Pil", getattr(transformers, name)).from_pretrained(directory)
    _, pictures_of_the_library = pictures()
    pixels = processor(pictures_of_the_library, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        texts = model.get_text_features(**_tokens(directory))
        images = model.get_image_features(pixel_values=pixels)
    return model, _unit(texts), _unit(images)


def _tokens(directory):
    path = directory / "tokenizer_config.json"
    values = json.loads(path.read_text()) if path.exists() else {"pad_token": "<|endoftext|>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), pad_token=values["pad_token"], padding_side="right"
    )
    is_siglip = values.get("tokenizer_class") == "Siglip2Tokenizer"
    padded = tokenizer(
        [text.lower() if is_siglip else text for text in TEXTS],
        padding="max_length" if is_siglip else True, truncation=True, max_length=checkpoints.LENGTH,
        return_tensors="pt",
    )  # fmt: skip
    return {key: padded[key] for key in (("input_ids",) if is_siglip else ("input_ids", "attention_mask"))}


def _unit(found):
    tensor = getattr(found, "pooler_output", found)
    return torch.nn.functional.normalize(tensor, dim=-1).numpy()
