"""Who embeds pictures in embed.py: loops as people write them, and vecbridge."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from PIL import Image

import vecbridge as vb

BATCH: Final = 32
BATCHES: Final = (8, 32)  # that the peers are tried with
Contender = Callable[[Sequence[Path]], Any]
PLAIN: Final = "transformers"


def own(directory: Path, runtime: Any, dtype: str) -> vb.Embedder:
    """Vecbridge on the CPU."""
    return vb.embedder(directory, device="cpu", dtype=dtype, runtime=runtime)


def plain(directory: Path) -> Contender:
    """The loop of the model's page: one batch after the other, the processor in the loop."""
    model, processor = transformers.CLIPModel.from_pretrained(directory).eval(), _processor(directory)

    def run(files: Sequence[Path]) -> Any:
        parts = []
        for part in _parts(files, BATCH):
            inputs = processor(_opened(part), return_tensors="pt")
            with torch.inference_mode():
                found = model.get_image_features(pixel_values=inputs["pixel_values"])
            parts.append(getattr(found, "pooler_output", found).numpy())
        return np.concatenate(parts)

    return run


def peers(directory: Path) -> dict[str, Contender]:
    """The same by other libraries, at several batch sizes; those that are not installed are said."""
    found: dict[str, Contender] = {}
    makers = {
        "onnxruntime": _onnxruntime,
        "sentence-transformers": _sentence_transformers,
        "open_clip": _open_clip,
    }
    for name, make in makers.items():
        try:
            loop = make(directory)
        except ImportError as exc:
            print(f"{name} does not take part: {exc}", file=sys.stderr)
            continue
        found |= {f"{name}, batches of {rows}": _at(loop, rows) for rows in BATCHES}
    return found


def _at(loop: Callable[[Sequence[Path], int], Any], rows: int) -> Contender:
    return lambda files: loop(files, rows)


def _processor(directory: Path) -> Any:
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind.from_pretrained(directory)


def _opened(files: Sequence[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in files]


def _parts(files: Sequence[Path], rows: int) -> list[Sequence[Path]]:
    return [files[start : start + rows] for start in range(0, len(files), rows)]


def _onnxruntime(directory: Path) -> Callable[[Sequence[Path], int], Any]:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(
        str(directory / "onnx" / "vision_model.onnx"), providers=["CPUExecutionProvider"]
    )
    processor = _processor(directory)

    def run(files: Sequence[Path], rows: int) -> Any:
        parts = []
        for part in _parts(files, rows):
            inputs = processor(_opened(part), return_tensors="np")
            parts.append(session.run(["image_embeds"], {"pixel_values": inputs["pixel_values"]})[0])
        return np.concatenate(parts)

    return run


def _sentence_transformers(directory: Path) -> Callable[[Sequence[Path], int], Any]:
    package = importlib.import_module("sentence_transformers")
    model = package.SentenceTransformer(str(directory), device="cpu")
    return lambda files, rows: model.encode(_opened(files), batch_size=rows, show_progress_bar=False)


def _open_clip(_: Path) -> Callable[[Sequence[Path], int], Any]:
    """Its own random weights, of the same shape."""
    package = importlib.import_module("open_clip")
    model, _, preprocess = package.create_model_and_transforms("ViT-B-32")
    model.eval()

    def run(files: Sequence[Path], rows: int) -> Any:
        parts = []
        for part in _parts(files, rows):
            with torch.inference_mode():
                pixels = torch.stack([preprocess(each) for each in _opened(part)])
                parts.append(model.encode_image(pixels).numpy())
        return np.concatenate(parts)

    return run
