"""The values of a model's ``config.json`` that change its vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.embed.families import Family, family_of
from vecbridge.embed.values import Values

# Configurations from before transformers 4.31 have this eos_token_id, which transformers reads as the highest
# id of the text: the last of the vocabulary, where CLIP has its end-of-text token.
_HIGHEST: Final = 2
_IDS: Final = frozenset({"bos_token_id", "eos_token_id", "pad_token_id"})  # these may be 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model, without its weights.

    Attributes:
        file: The file that it was read from, as errors name it.
        family: What kind of model it is.
        dim: Length of its vectors.
        text: Values of the text tower, by the keys of ``text_config``.
        vision: Values of the vision tower, by the keys of ``vision_config``.
    """

    file: str
    family: Family
    dim: int
    text: Mapping[str, Any]
    vision: Mapping[str, Any]

    @classmethod
    def read(cls, config: Values) -> Architecture:
        """Reads a ``config.json``; what it leaves out has the default of transformers.

        Raises:
            ConfigError: Of another model type, or a value cannot be; the message names file and key.
        """
        family = family_of(config)
        text = _tower(config, "text_config", family.text)
        vision = _tower(config, "vision_config", family.vision)
        dim = config.whole("projection_dim", family.dim) if family.dim else _siglip_dim(config, text, vision)
        found = cls(config.file, family, dim, text, vision)
        if found.longest_text < 1:
            raise config.section("text_config").error(
                "max_position_embeddings", f"above {text['max_position_embeddings'] - found.longest_text}"
            )
        return found

    @property
    def longest_text(self) -> int:
        """Tokens that the text tower has places for; AltCLIP's are counted from the padding token's id on."""
        positions: int = self.text["max_position_embeddings"]
        return positions - self.text["pad_token_id"] - 1 if "pad_token_id" in self.text else positions

    @property
    def start_token(self) -> int | None:
        """Id of the first token of a text, where its vector is read there; else None."""
        start: int | None = self.text.get("bos_token_id")
        return start

    @property
    def end_token(self) -> int | None:
        """Id of the token whose place gives the text's vector; None is the highest of a text, or none."""
        end: int | None = self.text.get("eos_token_id")
        return None if end == _HIGHEST and self.family.model_type == "clip" else end

    @property
    def hash(self) -> str:
        """16 hex digits that differ where a value does, however the file is written."""
        text = dict(self.text)
        if "eos_token_id" in text and self.end_token is None:
            text["eos_token_id"] = text["vocab_size"] - 1
        values: dict[str, Any] = {"dim": self.dim, "text": text, "vision": dict(self.vision)}
        if self.family.model_type != "clip":  # the hashes of CLIP models are older than this key
            values["model_type"] = self.family.model_type
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


def _siglip_dim(config: Values, text: Mapping[str, Any], vision: Mapping[str, Any]) -> int:
    """SigLIP projects texts alone: into the width of the vision tower."""
    section = config.section("text_config")
    if section.values.get("projection_size") is None:
        dim: int = text["hidden_size"]
    else:
        dim = section.whole("projection_size", 0)
    if dim != vision["hidden_size"]:
        raise section.error("projection_size", f"vision_config.hidden_size, {vision['hidden_size']}")
    if not config.section("vision_config").flag("vision_use_head", True):
        raise config.section("vision_config").error("vision_use_head", "true: without it there is no vector")
    return dim


def _value(section: Values, key: str, default: Any) -> Any:
    if isinstance(default, str):
        return section.text(key, default)
    if isinstance(default, float):
        return section.number(key, default)
    return section.whole(key, default, least=0 if key in _IDS else 1)
