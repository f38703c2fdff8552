"""CLIP in PyTorch. Only modules named ``torch_*`` import torch or transformers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np

from vecbridge.embed.base import FloatArray, require_dtype
from vecbridge.embed.encoder import Encoder
from vecbridge.embed.files import NO_HUB, ModelFiles
from vecbridge.embed.logits import Logits, read_logits
from vecbridge.embed.tokens import IntArray, Tokens
from vecbridge.errors import ConfigError, MissingDependencyError, UnavailableError

try:
    import torch
    import transformers
    from safetensors import SafetensorError
except ImportError as exc:
    raise MissingDependencyError(exc.name or "torch", extra="clip") from exc

log = logging.getLogger(__name__)

_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
_CPU_INFO: Final = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16; without them PyTorch emulates it, slower than float32
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


class ClipEmbedder(Encoder):
    """Any CLIP checkpoint of transformers; made by :func:`vecbridge.embedder`.

    Args:
        files: Where the model is.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1" or "mps".
        dtype: "auto" (bfloat16 where the hardware has it, else float32), "float32", "bfloat16" or "float16".
        batch_size: Items at a time; None is 256 on an accelerator and 64 on a CPU.
        note: What users should know about the model.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
        ConfigError: The device is not there, or the model is not a complete CLIP.
        UnavailableError: The weights cannot be downloaded.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        note: str = "",
    ) -> None:
        self.device: Any = choose_device(device)
        self.dtype: Any = choose_dtype(dtype, self.device)
        super().__init__(
            files,
            _tokens(files),
            dim=files.config().dim,
            batch_size=_default_batch_size(self.device) if batch_size is None else batch_size,
            note=note,
        )
        self._no_room = (torch.OutOfMemoryError,)
        self._model: Any = _load(files, self.dtype, self.device)
        # from the files where they tell, because the model may have been rounded to bfloat16
        in_files = read_logits(files.directory)
        self._logits = _logits(self._model) if in_files.scale is None else in_files
        log.info("%s on %s in %s", files.model, self.device, self.dtype)

    def close(self) -> None:
        """Lets go of the model, and of the accelerator's memory."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _text_features(self, ids: IntArray, mask: IntArray) -> FloatArray:
        with torch.inference_mode():
            found = self._loaded().get_text_features(
                input_ids=torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(mask).to(self.device),
            )
        return _projected(found)

    def _image_features(self, pixels: FloatArray) -> FloatArray:
        with torch.inference_mode():
            found = self._loaded().get_image_features(
                pixel_values=torch.from_numpy(pixels).to(self.device, self.dtype)
            )
        return _projected(found)

    def _loaded(self) -> Any:
        if self._model is None:
            raise ConfigError("the embedder is closed")
        return self._model


def choose_device(wanted: str = "auto") -> Any:
    """The ``torch.device`` to run on; nothing else decides it.

    Args:
        wanted: "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: What was asked for is not there.

    Warns:
        RuntimeWarning: A GPU is there and stays unused.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if cuda else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as exc:
        raise ConfigError(f"device={wanted!r}: 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from exc
    if device.type == "cuda" and not cuda:
        raise ConfigError(f"device={wanted!r}: {_why_no_cuda()}; device='auto' takes what is there")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={wanted!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    if device.type == "mps" and not mps:
        raise ConfigError("device='mps': this machine or this build of PyTorch has no MPS; use device='auto'")
    if device.type == "cpu":
        _warn_of_idle_gpu(cuda)
    return device


def choose_dtype(wanted: str, device: Any) -> Any:
    """The ``torch.dtype`` to compute in; nothing else decides it.

    On a CPU with the instructions for it, bfloat16 is 2.5 to 4 times as fast as float32, and the cosine
    between the vectors of both is above 0.99. Weights stored as float16 are not run so on a CPU, where that
    is five times slower than float32.

    Args:
        wanted: "auto", "float32", "bfloat16" or "float16".
        device: A ``torch.device``.

    Raises:
        ConfigError: Another name, or float16 on a CPU.
    """
    require_dtype(wanted)
    if wanted == "float16" and device.type == "cpu":
        raise ConfigError("dtype='float16' on a CPU is slower than float32: use 'auto'")
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = device.type == "cpu" and _cpu_has_bf16()
    return torch.bfloat16 if has_bf16 else torch.float32


def _default_batch_size(device: Any) -> int:
    return 64 if device.type == "cpu" else 256


def _cpu_has_bf16() -> bool:
    try:
        lines = _CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return (
            f"PyTorch {torch.__version__} is built without CUDA: install a CUDA build (https://pytorch.org)"
        )
    if not _NVIDIA_DRIVER.exists():
        return "no NVIDIA driver is loaded"
    return "PyTorch sees no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES"


def _warn_of_idle_gpu(cuda: bool) -> None:
    if cuda:
        reason = "device='cpu' was asked for; device='auto' would use it"
    elif torch.version.cuda is None and _NVIDIA_DRIVER.exists():
        reason = _why_no_cuda()
    else:
        return
    warnings.warn(f"a GPU is there, and the embedder runs on the CPU: {reason}", RuntimeWarning, stacklevel=5)


def _load(files: ModelFiles, dtype: Any, device: Any) -> Any:
    source, revision = (
        (files.model, files.revision) if files.directory is None else (str(files.directory), None)
    )
    try:
        with _quiet(files):
            model, report = transformers.CLIPModel.from_pretrained(
                source, revision=revision, dtype=dtype, output_loading_info=True
            )
    except OSError as exc:
        if files.directory is not None:
            raise ConfigError(f"{files.directory}: the weights cannot be loaded: {exc}") from exc
        raise UnavailableError(
            f"model {files.model!r}: no weights: {NO_HUB.format(model=files.model)}"
        ) from exc
    except (SafetensorError, UnpicklingError, RuntimeError, ValueError) as exc:  # damaged, or of other shapes
        raise ConfigError(f"model {files.model!r}: the weights cannot be loaded: {exc}") from exc
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise ConfigError(f"model {files.model!r}: the weights lack {min(report['missing_keys'])}")
    unread = [key for key in report["unexpected_keys"] if ".layers." in key]  # others are of other uses
    if unread:
        raise ConfigError(
            f"model {files.model!r}: the weights have {min(unread)}, a layer beyond those of config.json: "
            "num_hidden_layers"
        )
    try:
        return model.eval().to(device)
    except torch.OutOfMemoryError as exc:
        raise ConfigError(
            f"model {files.model!r} does not fit the memory of {device}: use device='cpu'"
        ) from exc


@contextmanager
def _quiet(files: ModelFiles) -> Iterator[None]:
    """No progress bar for what takes a second; downloads keep theirs."""
    bars = transformers.utils.logging
    if files.directory is None or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def _tokens(files: ModelFiles) -> Tokens:
    path = files.find("tokenizer.json")
    if path is not None:
        return Tokens.from_file(path, files.max_length())
    # older checkpoints have vocab.json and merges.txt only
    source, revision = (
        (files.model, files.revision) if files.directory is None else (str(files.directory), None)
    )
    try:
        tokenizer = transformers.CLIPTokenizerFast.from_pretrained(source, revision=revision)
    except OSError as exc:
        raise ConfigError(f"model {files.model!r} has no tokenizer") from exc
    return Tokens(tokenizer.backend_tokenizer, files.max_length(), file=f"{source}/vocab.json")


def _logits(model: Any) -> Logits:
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return Logits.of_weights(
        None if scale is None else float(scale.detach()), None if bias is None else float(bias.detach())
    )


def _projected(found: Any) -> FloatArray:
    """Transformers 4 gives the tensor, 5 an output that has it as ``pooler_output``."""
    tensor = getattr(found, "pooler_output", found)
    features: FloatArray = tensor.float().cpu().numpy().astype(np.float32, copy=False)
    return features
