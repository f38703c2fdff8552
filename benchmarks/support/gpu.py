"""What the GPU check works with: the device, the models, the pictures, and the time that is left."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import vecbridge as vb
from support.models import jpegs, random_clip
from vecbridge.embed.files import BUNDLED

BATCHES: Final = (32, 64, 128, 256, 512, 1024)
BUNDLED_MODEL: Final = "bundled"
VIT: Final = "ViT-B/32 of random weights"
#: Distinct texts, short ones, an empty one and one that is cut.
TEXTS: Final = [
    *(
        f"{colour} {thing}"
        for colour in ("a red", "a blue", "a green", "a small", "an old", "no", "two", "un")
        for thing in ("dog", "cat", "house", "ship", "heart", "sun", "tree", "ball")
    ),
    "",
    "a long story about a ship " * 30,
]


@dataclass
class GpuBench:
    """One run.

    Attributes:
        device: "cuda"; or "cpu", to try the code out where there is no GPU.
        work: Where models and pictures are written.
        batches: Batch sizes that are measured.
        rounds: How often each rate is measured.
        seconds: What one measurement takes, about.
        until: The ``time.monotonic()`` after which no further rate is measured.
        pictures: JPEG files, which are repeated where more are needed.
        size: Width and height of these files.
        rows: Vectors of the FAISS collections.
        shape: What differs from a ViT-B/32, as keys of both towers; for tests.
        details: What goes into the JSON beside the lines.
    """

    device: str
    work: Path
    batches: Sequence[int] = BATCHES
    rounds: int = 3
    seconds: float = 0.5
    until: float = float("inf")
    pictures: int = 64
    size: tuple[int, int] = (640, 480)
    rows: int = 50_000
    shape: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rounds": self.rounds,
            "seconds": self.seconds,
            "pictures": self.pictures,
            "pixels": f"{self.size[0]}x{self.size[1]}",
            "rows": self.rows,
        }

    @property
    def dtypes(self) -> tuple[str, ...]:
        """What is compared and measured; a CPU is not given float16."""
        return ("float32", "bfloat16") if self.device == "cpu" else ("float32", "bfloat16", "float16")

    @property
    def seconds_left(self) -> float:
        """Until nothing more is measured."""
        return self.until - time.monotonic()

    @cached_property
    def models(self) -> dict[str, str]:
        """What :func:`vecbridge.embedder` takes, by the name that the lines have."""
        return {BUNDLED_MODEL: "bundled", VIT: str(random_clip(self.work / "vit-b-32", self.shape))}

    @cached_property
    def gallery(self) -> list[Path]:
        """Pictures that the bundled model knows."""
        return sorted((BUNDLED / "gallery").glob("*.png"))

    @cached_property
    def jpegs(self) -> list[Path]:
        """Different pictures of one size, as files."""
        return jpegs(self.work / "jpegs", self.pictures, self.size)

    def embedder(self, model: str, dtype: str, *, device: str = "", **options: Any) -> Any:
        """One of the models on PyTorch, on the device of this run unless another is named."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that a GPU is idle while the CPU is asked
            return vb.embedder(model, runtime="torch", dtype=dtype, device=device or self.device, **options)


def missing(device: str) -> str | None:
    """Why nothing can be checked on a device; None where it can."""
    lacking = [name for name in ("torch", "transformers", "tokenizers", "PIL") if find_spec(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA GPU"
    return None


def about(device: str) -> dict[str, Any]:
    """The GPU and its software, for JSON."""
    import torch

    if device == "cpu":
        return {"gpu": "none: tried out on the CPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "decoding_threads": min(os.cpu_count() or 1, 32),
    }
