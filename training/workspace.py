"""Where a training run keeps its files: installed packages, rendered pictures, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPModel

from training import captions, concepts, tokenizer
from training.model import make
from training.table import concept_table


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder outside the checkout."""

    root: Path

    @property
    def packages(self) -> Path:
        return self.root / "node_modules"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer, trained when first asked for: training it again would permute its ids."""
        file = self.root / "tokenizer" / "tokenizer.json"
        if not file.exists():
            tokenizer.save(tokenizer.train(captions.corpus(concepts.load(self.packages))), file.parent)
        return Tokenizer.from_file(str(file))

    def table(self) -> Tensor:
        """The run's concept table, made when first asked for: another linear algebra may flip its signs."""
        file = self.root / "table.npy"
        if not file.exists():
            np.save(file, concept_table(concepts.load(self.packages)))
        return torch.from_numpy(np.load(file))

    def save_tower(self, name: str, model: CLIPModel) -> None:
        """Keep a checkpoint; the last one survives a cut."""
        file = self.root / f"{name}.pt"
        torch.save(model.state_dict(), file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)

    def load_model(self) -> CLIPModel:
        """The tuned model, or where there is none yet, the two towers put together."""
        model = make(self.tokenizer())
        tuned = self.root / "joint.pt"
        if tuned.exists():
            model.load_state_dict(torch.load(tuned))
            return model
        return self.load_towers()

    def load_towers(self) -> CLIPModel:
        model = make(self.tokenizer())
        towers = {"text": ("text_",), "vision": ("vision_", "visual_")}
        for name, prefixes in towers.items():
            state = torch.load(self.root / f"{name}.pt")
            model.load_state_dict({k: v for k, v in state.items() if k.startswith(prefixes)}, strict=False)
        return model
