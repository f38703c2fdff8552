"""Loads an embedder by the name of its model."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Final, Literal, get_args

from vecbridge.embed.base import Embedder, require_dtype
from vecbridge.embed.files import ModelFiles, locate
from vecbridge.embed.hardware import may_have_gpu, multiplies_bfloat16
from vecbridge.embed.logits import LOGITS_FILE
from vecbridge.errors import ConfigError
from vecbridge.texts import shown

log = logging.getLogger(__name__)

Runtime = Literal["torch", "onnx"]
BUNDLED_NOTE: Final = (
    "the bundled demonstration model: 5.5 million parameters, trained on emoji art and icons. It finds such "
    "pictures; use model='openai/clip-vit-base-patch32' for real work"
)


def embedder(
    model: str | os.PathLike[str] = "bundled",
    *,
    device: str = "auto",
    runtime: Runtime | None = None,
    dtype: str = "auto",
    batch_size: int | None = None,
    revision: str | None = None,
    lazy: bool = False,
) -> Embedder:
    """Loads a CLIP, SigLIP 2, MetaCLIP 2 or AltCLIP model.

    Args:
        model: "bundled" (small, needs no network), a hub id such as ``openai/clip-vit-base-patch32``, or a
            directory that holds one.
        device: "auto" takes CUDA, else MPS, else the CPU; "cpu", "cuda", "cuda:1", "mps".
        runtime: "torch" or "onnx". None is onnx for the bundled model, where onnxruntime is installed, for
            directories that hold nothing else, and for checkpoints with an export of vecbridge where PyTorch
            would compute in float32 on a CPU, too; torch otherwise.
        dtype: "auto" is bfloat16 where the hardware has it, else float32; "float32", "bfloat16", "float16".
            ONNX models compute in what they were exported in. "int8" runs graphs that
            ``vecbridge embed export --int8`` has made; nothing chooses it by itself.
        batch_size: Items that go through the model at a time; None is 32 on a CPU, where 64 is
            the most, and 256 on a GPU, where it is halved as often as its memory is full.
        revision: Branch, tag or commit of a model on the hub.
        lazy: Whether an ONNX model loads what embeds texts, and what embeds pictures, only when it is first
            used, for a program that needs one of the two: it starts faster, and a damaged file shows later.

    Returns:
        An embedder; a context manager. ``embedder.note`` says what to know about the model.

    Raises:
        ConfigError: No such model or device, or a setting that the runtime does not have.
        MissingDependencyError: The runtime is not installed.
        UnavailableError: The model is not here, and the hub does not answer.

    Example:
        >>> import vecbridge as vb
        >>> with vb.embedder("bundled") as clip:
        ...     clip.embed_texts(["a red heart"]).shape
        (1, 256)
    """
    if runtime is not None and runtime not in get_args(Runtime):
        raise ConfigError(f"runtime={shown(runtime)}: 'torch' or 'onnx'")
    require_dtype(dtype)
    files = locate(os.fspath(model), revision=revision)
    note = BUNDLED_NOTE if files.model == "bundled" else ""
    if note:
        log.info("%s", note)
    if (runtime or _default_runtime(files, device, dtype)) == "onnx":
        from vecbridge.embed.onnx import OnnxEmbedder

        return OnnxEmbedder(files, device=device, dtype=dtype, batch_size=batch_size, note=note, lazy=lazy)
    from vecbridge.embed.torch_clip import ClipEmbedder

    return ClipEmbedder(files, device=device, dtype=dtype, batch_size=batch_size, note=note)


def _default_runtime(files: ModelFiles, device: str, dtype: str) -> Runtime:
    """A fixed table of the files, the device, the precision and what is installed; nothing is measured."""
    if dtype == "int8":  # PyTorch has none
        return "onnx"
    if files.directory is None or not (files.directory / "onnx" / "vision_model.onnx").is_file():
        return "torch"
    has_weights = any(files.directory.glob("model*.safetensors")) or any(
        files.directory.glob("pytorch_model*.bin")
    )
    if not has_weights:
        return "onnx"
    has_torch, has_onnx = _installed("torch") and _installed("transformers"), _installed("onnxruntime")
    if not has_torch:
        return "onnx"
    if not has_onnx:
        return "torch"
    if files.model == "bundled":
        return "onnx"
    exact = (files.directory / LOGITS_FILE).is_file()  # vecbridge's own export: float32, checked on PyTorch
    return "onnx" if exact and _in_float32_on_cpu(device, dtype) else "torch"


def _in_float32_on_cpu(device: str, dtype: str) -> bool:
    """Whether PyTorch would do so, too: ONNX Runtime is then the faster of the two."""
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    return on_cpu and (dtype == "float32" or (dtype == "auto" and not multiplies_bfloat16()))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
