"""A model and pictures at random, for what depends on their sizes alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from vecbridge.embed.files import BUNDLED

_PREPROCESSOR: Final = {
    "do_resize": True, "resample": 3, "do_center_crop": True, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "do_convert_rgb": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip


def random_clip(directory: Path, shape: Mapping[str, Any] | None = None) -> Path:
    """A CLIP of random weights with the bundled model's tokenizer; a ViT-B/32 without another ``shape``."""
    import torch
    import transformers

    directory.mkdir()
    shape = shape or {}
    bundled = json.loads((BUNDLED / "config.json").read_text("utf-8"))["text_config"]
    tokens = {name: bundled[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    small = {name: value for name, value in shape.items() if name not in ("image_size", "patch_size")}
    config = transformers.CLIPConfig(text_config=small | tokens, vision_config=dict(shape))
    torch.manual_seed(0)
    transformers.CLIPModel(config).eval().save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        shutil.copyfile(BUNDLED / name, directory / name)
    side = config.vision_config.image_size
    values = _PREPROCESSOR | {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (directory / "preprocessor_config.json").write_text(json.dumps(values), "utf-8")
    return directory


def jpegs(directory: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files in smooth random colours; noise would be larger and slower to decode than photographs."""
    directory.mkdir()
    random = np.random.default_rng(size[0])
    found = [directory / f"{number:04}.jpg" for number in range(count)]
    for path in found:
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return found
