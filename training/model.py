"""The model's shape, and how the training stages feed it."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from training.tokenizer import END, START, encode

IMAGE_SIZE, DIM = 64, 256
SCALE = 25.0  # the softmax temperature of every loss, and the shipped logit scale
_CHUNK = 64


def make(tokenizer: Tokenizer) -> CLIPModel:
    """A CLIPModel of 5.5 M parameters: 64 px pictures in 16 px patches, 32 tokens used of 77 positions."""
    end = tokenizer.token_to_id(END)
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.token_to_id(START),
        "eos_token_id": end,  # the default, 2, would switch on a legacy way of pooling
        "pad_token_id": end,
        "projection_dim": DIM,
    }
    vision = {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "image_size": IMAGE_SIZE,
        "patch_size": 16,
        "hidden_act": "gelu",
        "projection_dim": DIM,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM))
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.1)
    model.logit_scale.data.fill_(torch.tensor(SCALE).log())
    return model


def _tensor(features: object) -> Tensor:
    """Unit rows of the features: transformers 4 returns a tensor, 5 an object that holds it."""
    found = features if isinstance(features, Tensor) else features.pooler_output  # type: ignore[attr-defined]
    assert isinstance(found, Tensor)
    return F.normalize(found.float(), dim=-1)


def embed_pictures(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Unit embeddings (n, 256) float32 of model input (n, 3, 64, 64)."""
    return _tensor(model.get_image_features(pixel_values=pixels))


def embed_texts(model: CLIPModel, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Unit embeddings (n, 256) float32 of texts, which go through the model in chunks of like length."""
    rows = encode(tokenizer, texts)
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    parts = [
        _embed_rows(model, [rows[k] for k in order[i : i + _CHUNK]]) for i in range(0, len(rows), _CHUNK)
    ]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _embed_rows(model: CLIPModel, rows: list[list[int]]) -> Tensor:
    width, end = max(map(len, rows)), rows[0][-1]
    ids = torch.tensor([row + [end] * (width - len(row)) for row in rows])
    # No mask: attention is causal and pooling takes the first END, so padding changes nothing.
    return _tensor(model.get_text_features(input_ids=ids))


def optimizer(model: CLIPModel, prefixes: tuple[str, ...], rate: float) -> torch.optim.AdamW:
    """AdamW over the parameters under `prefixes`; biases, norms and embeddings are not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            (decayed if parameter.ndim >= 2 and "embedding" not in name else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6)


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
