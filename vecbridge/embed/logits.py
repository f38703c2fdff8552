"""How a model scales similarities before a softmax or a sigmoid, read from its files."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vecbridge.embed.values import Values
from vecbridge.errors import ConfigError

#: Where an export keeps both numbers, beside its graphs.
LOGITS_FILE: Final = "onnx/logits.json"
_LARGEST_HEADER: Final = 100_000_000  # as the safetensors library has it
_WIDTHS: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits are ``scale * cosine + bias``.

    Attributes:
        scale: What a cosine is multiplied by; None where the model does not tell.
        bias: What is added; None of a model that has none, as CLIP.
    """

    scale: float | None = None
    bias: float | None = None

    @classmethod
    def of_weights(cls, scale: float | None, bias: float | None) -> Logits:
        """From the weights ``logit_scale``, which is a logarithm, and ``logit_bias``."""
        return cls(None if scale is None else math.exp(scale), bias)

    def write(self, directory: Path) -> None:
        """Writes both beside the graphs of an export."""
        values = {"logit_scale": self.scale, "logit_bias": self.bias}
        (directory / LOGITS_FILE).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def read_logits(directory: Path | None) -> Logits:
    """From an export's own file, else from the weights beside the graphs; unknown where neither has it.

    Args:
        directory: A model's directory; None of one on the hub, whose weights are not downloaded for it.

    Raises:
        ConfigError: The export's file cannot be read.
    """
    if directory is None:
        return Logits()
    path = directory / LOGITS_FILE
    if path.is_file():
        return _exported(path)
    for weights in sorted(directory.glob("model*.safetensors")):
        scale = _scalar(weights, "logit_scale")
        if scale is not None:
            return Logits.of_weights(scale, _scalar(weights, "logit_bias"))
    return Logits()


def _exported(path: Path) -> Logits:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not a JSON object")
    values = Values(str(path), found)
    scale, bias = found.get("logit_scale"), found.get("logit_bias")
    if bias is not None and (isinstance(bias, bool) or not isinstance(bias, int | float)):
        raise values.error("logit_bias", "a number or null")
    return Logits(None if scale is None else values.number("logit_scale", 1.0), bias)


def _scalar(path: Path, name: str) -> float | None:
    """One number of a safetensors file, without the library, which the ONNX runtime does not need.

    https://github.com/huggingface/safetensors#format: the length of a JSON header, the header, the tensors.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                return None
            entry: dict[str, Any] | None = json.loads(file.read(length)).get(name)
            if entry is None or entry["dtype"] not in _WIDTHS:
                return None
            width = _WIDTHS[entry["dtype"]]
            file.seek(8 + length + entry["data_offsets"][0])
            data = file.read(width)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None  # damaged weights are reported by the runtime that needs them
    if len(data) != width:
        return None
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return float(np.frombuffer(b"\0\0" + data, "<f4")[0])
    return float(np.frombuffer(data, f"<f{width}")[0])
