"""CLIP's preprocessing with Pillow and NumPy, bit for bit that of transformers' CLIPImageProcessor."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from vecbridge.embed.base import FloatArray, ImageLike, Pixels
from vecbridge.embed.values import Values
from vecbridge.errors import ConfigError
from vecbridge.sources.pictures import open_picture, unreadable, upright_rgb

# Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021:
# https://github.com/openai/CLIP/blob/main/clip/clip.py#L79-L86
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_HALF: Final = (0.5, 0.5, 0.5)
_BICUBIC: Final = 3  # PIL.Image.Resampling.BICUBIC
_LAST_FILTER: Final = 5  # PIL.Image.Resampling.HAMMING
_EDGE: Final = 224


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a model's input: resize, centre crop, rescale, normalise.

    Attributes:
        shortest_edge: What the shorter side is resized to; None resizes to ``size`` whatever the shape.
        size: (height, width) to resize to where ``shortest_edge`` is None; None does not resize.
        crop: (height, width) cut from the centre; None does not cut.
        resample: Filter, a number of ``PIL.Image.Resampling``.
        scale: Factor on the pixels, 1/255 as a rule.
        mean: Subtracted, by channel.
        std: Divided by, by channel.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int = _BICUBIC
    scale: float = 1 / 255
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | Values, *, squares: bool = False) -> Preprocessing:
        """Reads a ``preprocessor_config.json``; what it leaves out is CLIP's, or SigLIP's.

        Args:
            config: The file's values.
            squares: Whether what is missing is as in SigLIP: a square, no crop, mean and deviation 0.5.

        Raises:
            ConfigError: A value cannot be, or pictures would not be of one size; it names file and key.
        """
        values = config if isinstance(config, Values) else Values("preprocessor_config.json", config)
        edge, size = _resize(values, squares) if values.flag("do_resize", True) else (None, None)
        crop = _height_width(values, "crop_size") if values.flag("do_center_crop", not squares) else None
        usual_mean, usual_std = (_HALF, _HALF) if squares else (CLIP_MEAN, CLIP_STD)
        if crop is None and size is None:
            raise ConfigError(f"{values.file}: neither a crop nor a size: pictures would differ in shape")
        normalise = values.flag("do_normalize", True)
        rescale = values.flag("do_rescale", True)
        return cls(
            edge,
            size,
            crop,
            resample=_resample(values),
            scale=values.number("rescale_factor", 1 / 255) if rescale else 1.0,
            mean=values.numbers("image_mean", usual_mean) if normalise else (0.0, 0.0, 0.0),
            std=values.numbers("image_std", usual_std, positive=True) if normalise else (1.0, 1.0, 1.0),
        )

    @property
    def height_width(self) -> tuple[int, int]:
        """The size that every picture gets."""
        found = self.size if self.crop is None else self.crop
        assert found is not None, "from_config refuses what has neither"
        return found

    @property
    def hash(self) -> str:
        """16 hex digits that differ where the preprocessing does, however its file is written."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def prepare(self, image: ImageLike) -> Pixels:
        """One picture, resized and cropped: uint8 of shape (3, height, width).

        Raises:
            InvalidRecordError: It cannot be read; ``rows[0].error`` is the reason.
        """
        rgb = _as_rgb(image)
        target = self._target(rgb.height, rgb.width)
        if target is not None:
            rgb = rgb.resize((target[1], target[0]), resample=self.resample)
        pixels = np.asarray(rgb)
        if self.crop is not None:
            pixels = _centre(pixels, *self.crop)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def normalise(self, pixels: Pixels) -> FloatArray:
        """A batch as the model takes it.

        Args:
            pixels: uint8, shape (n, 3, height, width).

        Returns:
            float32, the same shape.
        """
        # 256 values a channel: rescaled in float64 and normalised in float32, as transformers does
        levels = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        values = np.empty(pixels.shape, np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            table = (levels - np.float32(mean)) / np.float32(std)
            np.take(table, pixels[:, channel], out=values[:, channel], mode="clip")
        return values

    def _target(self, height: int, width: int) -> tuple[int, int] | None:
        if self.shortest_edge is None:
            return self.size
        longer = int(self.shortest_edge * max(height, width) / min(height, width))
        return (longer, self.shortest_edge) if width <= height else (self.shortest_edge, longer)


def _as_rgb(image: ImageLike) -> Any:
    if isinstance(image, str | os.PathLike | bytes):
        return open_picture(image).image
    from PIL import Image

    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise unreadable(f"an array {image.dtype} {image.shape}, not uint8 (height, width, 3)")
        return Image.fromarray(image)
    raise unreadable(f"{type(image).__name__} is no path, bytes, PIL image or array")


def _centre(pixels: Pixels, height: int, width: int) -> Pixels:
    """The middle; what lies beyond a smaller picture is black."""
    if pixels.shape[0] < height or pixels.shape[1] < width:
        below, right = max(height - pixels.shape[0], 0), max(width - pixels.shape[1], 0)
        above, left = -(-below // 2), -(-right // 2)
        pixels = np.pad(pixels, ((above, below - above), (left, right - left), (0, 0)))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _resize(values: Values, squares: bool) -> tuple[int | None, tuple[int, int] | None]:
    """(shortest edge, None) or (None, (height, width)); a number is the shortest edge, or both."""
    if not isinstance(values.values.get("size"), Mapping):
        if squares:
            return None, _height_width(values, "size")
        return values.whole("size", _EDGE), None
    size = values.section("size")
    if size.values.get("longest_edge"):
        raise size.error("longest_edge", "left out: it is no part of CLIP's preprocessing")
    if size.values.get("shortest_edge") is None and "height" in size.values:
        return None, _height_width(values, "size")
    return size.whole("shortest_edge", 0), None


def _height_width(values: Values, key: str) -> tuple[int, int]:
    """(height, width); a number means both."""
    if not isinstance(values.values.get(key), Mapping):
        edge = values.whole(key, _EDGE)
        return edge, edge
    size = values.section(key)
    return size.whole("height", 0), size.whole("width", 0)


def _resample(values: Values) -> int:
    found = values.whole("resample", _BICUBIC, least=0)
    if found > _LAST_FILTER:
        raise values.error("resample", f"a filter of Pillow, 0 to {_LAST_FILTER}")
    return found
