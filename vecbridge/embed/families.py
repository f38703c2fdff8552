"""The kinds of two-tower models that are read, by ``model_type`` in ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.embed.values import Values
from vecbridge.errors import ConfigError

# What transformers takes for a key that is missing: CLIPTextConfig and CLIPVisionConfig, the same in versions
# 4.31 to 5. Keys that change no vector of a trained model (dropout, initialisers) are not here.
_TOWER: Final = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
_CLIP_TEXT: Final[Mapping[str, Any]] = _TOWER | {
    "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8,
    "vocab_size": 49_408, "max_position_embeddings": 77, "eos_token_id": 49_407,
}  # fmt: skip
_CLIP_VISION: Final[Mapping[str, Any]] = _TOWER | {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
    "num_channels": 3, "image_size": 224, "patch_size": 32,
}  # fmt: skip
# AltCLIPTextConfig, the same in versions 4.31 to 5: XLM-RoBERTa, whose positions are counted from the id of
# its padding token on, and which is read at its first token. The vision tower is CLIP's.
_ALTCLIP_TEXT: Final[Mapping[str, Any]] = {
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 24,
    "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "project_dim": 768,
    "vocab_size": 250_002, "max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0,
}  # fmt: skip
# SiglipTextConfig and SiglipVisionConfig, the same in versions 4.37 to 5
_SIGLIP: Final[Mapping[str, Any]] = {
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_hidden_layers": 12,
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between kinds of models.

    Attributes:
        model_type: As ``config.json`` has it.
        model_class: The class of transformers that runs it; one that a file names is never used.
        text: Values of the text tower that change a vector, with their defaults.
        vision: The same of the vision tower.
        dim: The default of ``projection_dim``; 0 where the towers' own widths tell.
        full_length: Whether texts are padded to the full length, without a mask, as in training. Otherwise
            padding changes nothing: it is masked, or stands behind the token that is read.
        squares: Whether pictures are resized to a square and not cropped, unless the files say otherwise.
    """

    model_type: str
    model_class: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    dim: int = 512
    full_length: bool = False
    squares: bool = False


FAMILIES: Final = {
    each.model_type: each
    for each in (
        Family("clip", "CLIPModel", _CLIP_TEXT, _CLIP_VISION),
        Family("metaclip_2", "MetaClip2Model", _CLIP_TEXT, _CLIP_VISION),
        Family("altclip", "AltCLIPModel", _ALTCLIP_TEXT, _CLIP_VISION, dim=768),
        # SigLIP 2 of a fixed size is of this type, too; `siglip2` is the one that takes pictures of any shape
        Family(
            "siglip",
            "SiglipModel",
            {**_SIGLIP, "vocab_size": 32_000, "max_position_embeddings": 64},
            {**_SIGLIP, "num_channels": 3, "image_size": 224, "patch_size": 16},
            dim=0,
            full_length=True,
            squares=True,
        ),
    )
}
#: What to say of a type that is not read, where another of its family is.
_INSTEAD: Final = {
    "siglip2": "takes pictures of any shape; a SigLIP 2 of a fixed size, such as "
    "google/siglip2-base-patch16-224, is read instead",
}


def family_of(config: Values) -> Family:
    """The family of a ``config.json``.

    Raises:
        ConfigError: Another model type than those that are read, which the message lists.
    """
    kind = config.values.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        hint = f": {kind} {_INSTEAD[kind]}" if isinstance(kind, str) and kind in _INSTEAD else ""
        raise ConfigError(
            f"{config.file}: model_type is {kind!r}: it must be one of {', '.join(FAMILIES)}{hint}"
        )
    return family
