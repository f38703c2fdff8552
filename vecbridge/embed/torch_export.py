"""Exports a model from PyTorch to ONNX graphs, which run without PyTorch."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from vecbridge.embed.base import FloatArray
from vecbridge.embed.files import ModelFiles, locate
from vecbridge.embed.logits import Logits
from vecbridge.embed.torch_clip import ClipEmbedder
from vecbridge.errors import BackendError, ConfigError, MissingDependencyError

try:
    import torch
except ImportError as exc:
    raise MissingDependencyError(exc.name or "torch", extra="export") from exc

#: The largest difference of a number of a unit vector between PyTorch and ONNX Runtime, both in float32.
TOLERANCE: Final = 1e-4
_OPSET: Final = 18
_FILES: Final = ("config.json", "tokenizer.json", "tokenizer_config.json")
_PICTURES: Final = ("preprocessor_config.json", "processor_config.json")
_TEXTS: Final = ("a dog", "", "Un atardecer sobre montañas", "two words " * 80)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the vectors of both runtimes are apart.

    Attributes:
        largest: Largest absolute difference of a number of a unit vector.
        cosine: Smallest cosine of a vector with itself.
    """

    largest: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        directory: Where it is.
        texts: How far the text tower is from PyTorch's.
        pictures: How far the vision tower is.
        logits: Scale and bias, as written beside the graphs.
        int8: The differences of the text tower and of the vision tower in int8; None where there are none.
    """

    directory: Path
    texts: Difference
    pictures: Difference
    logits: Logits
    int8: tuple[Difference, Difference] | None = None


def export(model: str, directory: Path, *, revision: str | None = None, int8: bool = False) -> Exported:
    """Writes both towers as ONNX graphs of float32, checked against PyTorch.

    The graphs are loaded and compared before anything appears in ``directory``, which then is whole.

    Args:
        model: A directory or hub id, as for :func:`vecbridge.embedder`.
        directory: A new directory; or the model's own one, which then runs on both runtimes and keeps its
            identity.
        revision: Branch, tag or commit on the hub.
        int8: Whether to add graphs of int8, which ``dtype="int8"`` runs. How far they are from PyTorch is
            reported and not judged: whether it does is a matter of the data.

    Raises:
        MissingDependencyError: torch, onnx, onnxscript or onnxruntime is not installed.
        ConfigError: The directory is another one that exists, or has graphs; the model cannot be loaded.
        BackendError: The graphs do not give PyTorch's vectors.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, extra="export")
    files = locate(model, revision=revision)
    beside = files.directory is not None and directory.exists() and files.directory.samefile(directory)
    if (directory / "onnx").exists() if beside else directory.exists():
        raise ConfigError(f"{directory / 'onnx' if beside else directory} exists: name another directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".export-") as place:
        made = Path(place) / "model"
        (made / "onnx").mkdir(parents=True)
        _copy(files, made)
        with ClipEmbedder(files, device="cpu", dtype="float32") as reference:
            _write_graphs(reference, made)
            Logits(reference.logit_scale, reference.logit_bias).write(made)
            texts, pictures = _judged(_compare(reference, made))
            if int8:
                from vecbridge.embed.onnx_int8 import quantize

                quantize(made)
            in_int8 = _compare(reference, made, dtype="int8") if int8 else None
            logits = Logits(reference.logit_scale, reference.logit_bias)
        source, target = (made / "onnx", directory / "onnx") if beside else (made, directory)
        source.replace(target)
    return Exported(directory, texts, pictures, logits, in_int8)


def _copy(files: ModelFiles, directory: Path) -> None:
    for name in _FILES:
        path = files.need(name) if name == "config.json" else files.find(name)
        if path is not None:
            shutil.copyfile(path, directory / name)
    if not (directory / "tokenizer.json").exists():
        raise ConfigError(f"model {files.model!r} has no tokenizer.json, which ONNX models need")
    found = [(name, path) for name in _PICTURES if (path := files.find(name)) is not None]
    shutil.copyfile(found[0][1], directory / found[0][0])


class _Texts(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        inputs = {} if attention_mask is None else {"attention_mask": attention_mask}
        found = self.model.get_text_features(input_ids=input_ids, **inputs)
        return getattr(found, "pooler_output", found)


class _Pictures(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Any) -> Any:
        found = self.model.get_image_features(pixel_values=pixel_values)
        return getattr(found, "pooler_output", found)


def _write_graphs(reference: ClipEmbedder, directory: Path) -> None:
    model, config = reference.model, reference.architecture
    batch = torch.export.Dim("batch", min=1, max=4096)
    size = config.vision["image_size"]
    _write(
        _Pictures(model), {"pixel_values": torch.zeros(2, 3, size, size)}, {"pixel_values": {0: batch}},
        "image_embeds", directory / "onnx" / "vision_model.onnx",
    )  # fmt: skip
    longest = config.longest_text
    if not config.family.full_length:
        ids = torch.full((2, 5), config.end_token or config.text["vocab_size"] - 1, dtype=torch.int64)
        shape: dict[int, Any] = {0: batch, 1: torch.export.Dim("sequence", min=2, max=longest)}
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    else:
        shape = {0: batch}
        inputs = {"input_ids": torch.zeros((2, longest), dtype=torch.int64)}
    path = directory / "onnx" / "text_model.onnx"
    _write(_Texts(model), inputs, dict.fromkeys(inputs, shape), "text_embeds", path)


def _write(module: Any, inputs: dict[str, Any], shapes: dict[str, Any], output: str, path: Path) -> None:
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its internals
        program = torch.onnx.export(
            module.eval(), tuple(inputs.values()), input_names=list(inputs), output_names=[output],
            dynamic_shapes=shapes, opset_version=_OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=_is_large(module))


def _is_large(module: Any) -> bool:
    """Whether the weights must lie beside the graph: a file of ONNX holds 2 GB."""
    size: int = sum(each.numel() * 4 for each in module.parameters())
    return size > 1_500_000_000


def _compare(
    reference: ClipEmbedder, directory: Path, dtype: str = "float32"
) -> tuple[Difference, Difference]:
    """How far the graphs of a dtype are from PyTorch: texts, pictures."""
    from vecbridge.embed.onnx import OnnxEmbedder

    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)) for _ in range(3)]
    pictures = [each.resize((80, 60), Image.Resampling.BICUBIC) for each in coarse]  # smooth, as photographs
    with OnnxEmbedder(locate(str(directory)), device="cpu", dtype=dtype) as exported:
        texts = _difference(reference.embed_texts(_TEXTS), exported.embed_texts(_TEXTS))
        images = _difference(reference.embed_images(pictures), exported.embed_images(pictures))
    return texts, images


def _judged(differences: tuple[Difference, Difference]) -> tuple[Difference, Difference]:
    for name, each in zip(("text", "vision"), differences, strict=True):
        if not each.largest <= TOLERANCE:
            raise BackendError(
                f"the exported {name} tower is up to {each.largest:.1e} from PyTorch, more than {TOLERANCE}: "
                "nothing was written"
            )
    return differences


def _difference(ours: FloatArray, theirs: FloatArray) -> Difference:
    return Difference(float(np.abs(ours - theirs).max()), float((ours * theirs).sum(axis=1).min()))
