"""Stage 2: both towers learn together, picture against caption (symmetric InfoNCE, as in CLIP)."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from training import concepts as concepts_module
from training.augment import LIGHT, Augment
from training.captions import draw
from training.clock import Clock, Log
from training.model import IMAGE_SIZE, embed_pictures, embed_texts, optimizer, set_rate
from training.pictures import VALIDATION, load_bank
from training.towers import held_out_pixels, shuffled, step, unfair
from training.workspace import Workspace

_BATCH, _RATE = 192, 6e-4
_TABLE_SHARE = 0.75
_WRONG = -1e4


def contrast(texts: Tensor, pictures: Tensor, scale: Tensor, masked: Tensor) -> Tensor:
    """InfoNCE both ways; `masked` (captions, pictures) are pairs that fit though not drawn together."""
    answers = torch.arange(len(texts))
    logits = (scale * texts @ pictures.T).masked_fill(masked, _WRONG)
    return F.cross_entropy(logits, answers) + F.cross_entropy(logits.T, answers)


def anchor(texts: Tensor, pictures: Tensor, table: Tensor, rows: list[int]) -> Tensor:
    """Keep both towers near the concept table, which stands for the concepts that are not in the batch."""
    answers = torch.tensor(rows)
    seen = F.cross_entropy(25 * pictures @ table.T, answers, label_smoothing=0.05)
    return seen + F.cross_entropy(25 * table[answers] @ texts.T, torch.arange(len(rows)))


def train(work: Workspace, minutes: float, *, resume: bool = False) -> None:
    """Tune the two towers together; `resume` goes on from the last tuned checkpoint, at half the rate."""
    base, tokenizer = concepts_module.load(work.packages), work.tokenizer()
    table = work.table()  # the towers' own: it knows no regional keywords
    concepts = concepts_module.with_regional(base, work.packages)
    bank, chance = load_bank(work.pictures, favourite="noto"), random.Random(1)
    pictures, view = torch.from_numpy(bank.pictures), Augment(IMAGE_SIZE, LIGHT, seed=2)
    model = work.load_model() if resume else work.load_towers()
    rate = _RATE / 2 if resume else _RATE
    steps = optimizer(model, ("text_", "vision_", "visual_", "logit_scale"), rate)
    clock, log = Clock(minutes, warmup_steps=40, flat=0.2), Log("joint")
    for rows in shuffled(sorted(bank.of_concept), _BATCH, chance):
        set_rate(steps, rate * clock.rate())
        pixels = view(pictures[[bank.draw(row, chance) for row in rows]])
        drawn = [draw(concepts.rows[row], chance) for row in rows]
        seen = embed_pictures(model, pixels)
        said = embed_texts(model, tokenizer, [caption.text for caption in drawn])
        masked = unfair(drawn, rows, rows, concepts)
        loss = contrast(said, seen, model.logit_scale.exp(), masked)
        loss = loss + _TABLE_SHARE * anchor(said, seen, table, rows)
        step(steps, model, loss)
        if log.due((said @ seen.T).masked_fill(masked, _WRONG), list(range(len(rows)))):
            labels = [concept.captions["en"].label for concept in concepts.rows]
            log.note(validate(work, model, labels))
            work.save_tower("joint", model)
        if clock.over():
            break
    work.save_tower("joint", model)


@torch.no_grad()  # type: ignore[untyped-decorator]
def validate(work: Workspace, model: CLIPModel, labels: list[str]) -> str:
    """Text to picture over the validation style."""
    pixels, rows = held_out_pixels(work.pictures / f"{VALIDATION.name}.npz")
    model.eval()
    seen = torch.cat([embed_pictures(model, part) for part in pixels.split(256)])
    said = embed_texts(model, work.tokenizer(), [labels[row] for row in rows])
    model.train()
    ranks = np.argsort(-(said @ seen.T).numpy(), 1)[:, :10] == np.arange(len(rows))[:, None]
    return f"{VALIDATION.name} R@1 {ranks[:, 0].mean():.3f} R@10 {ranks.any(1).mean():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the last tuned checkpoint")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    train(Workspace(options.work), options.minutes, resume=options.resume)


if __name__ == "__main__":
    main()
