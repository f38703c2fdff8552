"""Random views of the pictures: moved, turned, recoloured, on random backgrounds, blurred, noisy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


@dataclass(frozen=True, slots=True)
class Strength:
    """How far the views may stray. Shares are of a batch; the rest are spreads."""

    turn: float
    zoom: float
    move: float
    shear: float
    color: float
    gray: float
    swap: float
    white: float


LIGHT = Strength(turn=0.07, zoom=0.3, move=0.15, shear=0.06, color=0.5, gray=0.04, swap=0.04, white=0.75)
HEAVY = Strength(turn=0.2, zoom=0.6, move=0.3, shear=0.2, color=1.0, gray=0.06, swap=0.05, white=0.45)


class Augment:
    """Turn RGBA pictures (n, s, s, 4) uint8 into model input (n, 3, size, size) float32."""

    def __init__(self, size: int, strength: Strength, seed: int = 0) -> None:
        self.size, self.strength = size, strength
        self.chance = torch.Generator().manual_seed(seed)

    def __call__(self, pictures: Tensor) -> Tensor:
        view = self._moved(_premultiplied(pictures))
        color, alpha = view[:, :3], view[:, 3:]
        mixed = self._recoloured(color, alpha) + self._background(len(view)) * (1 - alpha)
        return normalised(self._degraded(mixed).clamp_(0, 1))

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.chance)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.chance)

    def _moved(self, view: Tensor) -> Tensor:
        n, s = len(view), self.strength
        angle = self._normal(n) * s.turn
        down = torch.exp((self._uniform(n) - 0.55) * s.zoom)
        across = down * torch.exp((self._uniform(n) - 0.5) * 0.2)
        shear, move = (self._uniform(n) - 0.5) * s.shear, (self._uniform(n, 2) - 0.5) * s.move
        cos, sin = angle.cos(), angle.sin()
        top = torch.stack([cos / across, -sin / down + shear, move[:, 0]], 1)
        bottom = torch.stack([sin / across, cos / down, move[:, 1]], 1)
        grid = F.affine_grid(torch.stack([top, bottom], 1), [n, 4, self.size, self.size], align_corners=False)
        return F.grid_sample(view, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _recoloured(self, color: Tensor, alpha: Tensor) -> Tensor:
        """Change saturation, channel gains, brightness and contrast; swap a few channels; all linear."""
        n, spread = len(color), self.strength.color
        color = self._swapped(color)
        gray = color.mean(1, keepdim=True)
        saturation = 1 + spread * (1.2 * self._uniform(n, 1, 1, 1) - 0.65)
        saturation[self._uniform(n) < self.strength.gray] = 0
        color = gray + (color - gray) * saturation
        color = color * (1 + spread * 0.4 * (self._uniform(n, 3, 1, 1) - 0.5))
        color = color * (1 + spread * 0.6 * (self._uniform(n, 1, 1, 1) - 0.5))
        contrast = 1 + spread * 0.6 * (self._uniform(n, 1, 1, 1) - 0.5)
        return (color - 0.5 * alpha) * contrast + 0.5 * alpha

    def _swapped(self, color: Tensor) -> Tensor:
        chosen = self._uniform(len(color)) < self.strength.swap
        if chosen.any():
            color[chosen] = color[chosen][:, torch.randperm(3, generator=self.chance)]
        return color

    def _background(self, n: int) -> Tensor:
        """Mostly white, some black, plain or ramped in colour."""
        ground = self._uniform(n, 3, 1, 1).expand(-1, -1, self.size, self.size).clone()
        kind, white = self._uniform(n), self.strength.white
        ground[kind < white] = 1.0
        ground[(kind >= white) & (kind < white + 0.07)] = 0.0
        ramped = kind > 1 - (1 - white) / 3
        count = int(ramped.sum())
        if count:
            line, slant = torch.linspace(0, 1, self.size), self._uniform(count, 1, 1, 1)
            ramp = line.view(1, 1, 1, -1) * slant + line.view(1, 1, -1, 1) * (1 - slant)
            ground[ramped] = ground[ramped] * (1 - ramp) + self._uniform(count, 3, 1, 1) * ramp
        return ground

    def _degraded(self, view: Tensor) -> Tensor:
        view = view + self._normal(*view.shape) * (0.04 * self._uniform(len(view), 1, 1, 1))
        if self._uniform(1).item() < 0.25:
            view = F.avg_pool2d(F.pad(view, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return view


def _premultiplied(pictures: Tensor) -> Tensor:
    view = pictures.permute(0, 3, 1, 2).float().div_(255)
    return torch.cat([view[:, :3] * view[:, 3:], view[:, 3:]], 1)


def normalised(view: Tensor) -> Tensor:
    """Subtract CLIP's mean and divide by its standard deviation, channel by channel."""
    return (view - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
