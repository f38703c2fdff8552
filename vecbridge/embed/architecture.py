"""The values of a CLIP's ``config.json`` that change its vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.embed.values import Values
from vecbridge.errors import ConfigError

# What transformers takes for a key that is missing: CLIPTextConfig and CLIPVisionConfig, the same in versions
# 4.31 to 5. Keys that change no vector of a trained model (dropout, initialisers) are not here.
_TOWER: Final = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
_TEXT: Final[Mapping[str, Any]] = _TOWER | {
    "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8,
    "vocab_size": 49_408, "max_position_embeddings": 77, "eos_token_id": 49_407,
}  # fmt: skip
_VISION: Final[Mapping[str, Any]] = _TOWER | {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
    "num_channels": 3, "image_size": 224, "patch_size": 32,
}  # fmt: skip
_DIM: Final = 512
# Configurations from before transformers 4.31 have this eos_token_id, which transformers reads as the highest
# id of the text: the last of the vocabulary, where CLIP has its end-of-text token.
_HIGHEST: Final = 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """A CLIP model, without its weights.

    Attributes:
        file: The file that it was read from, as errors name it.
        dim: Length of its vectors.
        text: Values of the text tower, by the keys of ``text_config``.
        vision: Values of the vision tower, by the keys of ``vision_config``.
    """

    file: str
    dim: int
    text: Mapping[str, Any]
    vision: Mapping[str, Any]

    @classmethod
    def read(cls, config: Values) -> Architecture:
        """Reads a ``config.json``; what it leaves out has the default of transformers.

        Raises:
            ConfigError: Of another model type, or a value cannot be; the message names file and key.
        """
        kind = config.values.get("model_type")
        if kind != "clip":
            raise ConfigError(f"{config.file}: model_type is {kind!r}: only CLIP models ('clip') are read")
        dim = config.whole("projection_dim", _DIM)
        text, vision = _tower(config, "text_config", _TEXT), _tower(config, "vision_config", _VISION)
        return cls(config.file, dim, text, vision)

    @property
    def end_token(self) -> int | None:
        """Id of the token whose place gives the text's vector; None is the highest of the text."""
        end: int = self.text["eos_token_id"]
        return None if end == _HIGHEST else end

    @property
    def hash(self) -> str:
        """16 hex digits that differ where a value does, however the file is written."""
        end = self.text["vocab_size"] - 1 if self.end_token is None else self.end_token
        text = {**self.text, "eos_token_id": end}
        values = {"dim": self.dim, "text": text, "vision": dict(self.vision)}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _tower(config: Values, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    # transformers lets text_config_dict win over text_config, with its defaults, too
    old = f"{name}_dict"
    section = config.section(name if config.values.get(old) is None else old)
    found = {key: _value(section, key, default) for key, default in defaults.items()}
    if found["hidden_size"] % found["num_attention_heads"]:
        raise section.error("num_attention_heads", f"a divisor of hidden_size, {found['hidden_size']}")
    if found.get("num_channels", 3) != 3:
        raise section.error("num_channels", "3, as pictures have")
    if found.get("patch_size", 0) > found.get("image_size", 0):
        raise section.error("patch_size", f"no more than image_size, {found['image_size']}")
    return found


def _value(section: Values, key: str, default: Any) -> Any:
    if isinstance(default, str):
        return section.text(key, default)
    if isinstance(default, float):
        return section.number(key, default)
    return section.whole(key, default, least=0 if key == "eos_token_id" else 1)
