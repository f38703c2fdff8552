"""Stage 1: each tower alone learns to hit the concept table, so no large batch is needed to align them."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from training import concepts as concepts_module
from training.augment import HEAVY, LIGHT, Augment, normalised
from training.captions import Drawn, draw
from training.clock import Clock, Log
from training.concepts import Concepts
from training.model import IMAGE_SIZE, SCALE, embed_pictures, embed_texts, make, optimizer, set_rate
from training.pictures import VALIDATION, load_bank
from training.workspace import Workspace

_TEXT_BATCH, _VISION_BATCH = 256, 128
_HEAVY_SHARE = 0.08


def shuffled(rows: list[int], size: int, chance: random.Random) -> Iterator[list[int]]:
    """Batches without a repeat, for ever: no two of a batch are the same concept."""
    while True:
        order = rows[:]
        chance.shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def unfair(drawn: list[Drawn], rows: list[int], columns: list[int], concepts: Concepts) -> Tensor:
    """(captions, columns) bool: concepts that fit a caption of keywords that was drawn from another."""
    mask = np.zeros((len(drawn), len(columns)), bool)
    for k, (caption, row) in enumerate(zip(drawn, rows, strict=True)):
        if caption.tags:
            mask[k] = concepts.sharing(caption.language, caption.tags)[columns]
            mask[k] &= np.array(columns) != row
    return torch.from_numpy(mask)


def train_text(work: Workspace, minutes: float) -> None:
    concepts = concepts_module.load(work.packages)
    tokenizer, table = work.tokenizer(), work.table()
    everything, chance = list(range(len(concepts.rows))), random.Random(0)
    model = make(tokenizer)
    steps = optimizer(model, ("text_",), 1e-3)
    clock, log = Clock(minutes), Log("text")
    for rows in shuffled(everything, _TEXT_BATCH, chance):
        set_rate(steps, 1e-3 * clock.rate())
        drawn = [draw(concepts.rows[row], chance) for row in rows]
        texts = embed_texts(model, tokenizer, [caption.text for caption in drawn])
        logits = (SCALE * texts @ table.T).masked_fill(unfair(drawn, rows, everything, concepts), -1e4)
        step(steps, model, F.cross_entropy(logits, torch.tensor(rows)))
        if log.due(logits, rows):
            work.save_tower("text", model)
        if clock.over():
            break
    work.save_tower("text", model)


def train_vision(work: Workspace, minutes: float) -> None:
    table, bank, chance = work.table(), load_bank(work.pictures), random.Random(0)
    pictures = torch.from_numpy(bank.pictures)
    heavy, light = Augment(IMAGE_SIZE, HEAVY), Augment(IMAGE_SIZE, LIGHT, seed=1)
    model = make(work.tokenizer())
    steps = optimizer(model, ("vision_", "visual_"), 1e-3)
    clock, log = Clock(minutes), Log("vision")
    for rows in shuffled(sorted(bank.of_concept), _VISION_BATCH, chance):
        set_rate(steps, 1e-3 * clock.rate())
        view = heavy if clock.share() < _HEAVY_SHARE else light
        pixels = view(pictures[[bank.draw(row, chance) for row in rows]])
        seen = embed_pictures(model, pixels)
        logits = SCALE * seen @ table.T
        step(steps, model, F.cross_entropy(logits, torch.tensor(rows), label_smoothing=0.05))
        if log.due(logits, rows):
            log.note(validate(work, model, table))
            work.save_tower("vision", model)
        if clock.over():
            break
    work.save_tower("vision", model)


def held_out_pixels(file: Path) -> tuple[Tensor, list[int]]:
    """Model input of a held-out style, composited on white, and the concept of each picture."""
    saved = np.load(file)
    pixels = torch.from_numpy(saved["pictures"]).permute(0, 3, 1, 2).float() / 255
    pixels = pixels[:, :3] * pixels[:, 3:] + 1 - pixels[:, 3:]
    pixels = F.interpolate(pixels, size=IMAGE_SIZE, mode="bicubic", antialias=True)
    return normalised(pixels), saved["concepts"].tolist()


@torch.no_grad()  # type: ignore[untyped-decorator]
def validate(work: Workspace, model: CLIPModel, table: Tensor) -> str:
    """How many pictures of the validation style find their concept."""
    pixels, rows = held_out_pixels(work.pictures / f"{VALIDATION.name}.npz")
    model.eval()
    seen = torch.cat([embed_pictures(model, part) for part in pixels.split(256)])
    model.train()
    ranked = (seen @ table.T).topk(10).indices == torch.tensor(rows)[:, None]
    return (
        f"{VALIDATION.name} top1 {ranked[:, 0].float().mean():.3f} top10 {ranked.any(1).float().mean():.3f}"
    )


def step(steps: torch.optim.AdamW, model: CLIPModel, loss: Tensor) -> None:
    """One step down the gradient, clipped to norm 1."""
    steps.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    steps.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tower", choices=("text", "vision"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    train = train_text if options.tower == "text" else train_vision
    train(Workspace(options.work), options.minutes)


if __name__ == "__main__":
    main()
