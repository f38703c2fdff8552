"""CLIP in PyTorch. Only modules named ``torch_*`` import torch or transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np

from vecbridge.embed.base import FloatArray
from vecbridge.embed.encoder import MOST_ON_CPU, Encoder
from vecbridge.embed.files import NO_HUB, ModelFiles
from vecbridge.embed.logits import Logits, read_logits
from vecbridge.embed.tokens import IntArray, Tokens
from vecbridge.embed.torch_device import BATCH_SIZE, choose_device, choose_dtype, is_out_of_memory, place
from vecbridge.errors import BackendError, ConfigError, MissingDependencyError, UnavailableError

try:
    import torch
    import transformers
    from safetensors import SafetensorError
except ImportError as exc:
    raise MissingDependencyError(exc.name or "torch", extra="clip") from exc

log = logging.getLogger(__name__)


class ClipEmbedder(Encoder):
    """Any CLIP checkpoint of transformers; made by :func:`vecbridge.embedder`.

    Args:
        files: Where the model is.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1" or "mps".
        dtype: "auto" (bfloat16 where the hardware has it, else float32), "float32", "bfloat16" or "float16".
        batch_size: Items at a time; None is 256 on an accelerator and 32 on a CPU, where 64 is the most.
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
            batch_size=BATCH_SIZE.get(self.device.type, 32) if batch_size is None else batch_size,
            most=MOST_ON_CPU if self.device.type == "cpu" else None,
            note=note,
        )
        self.architecture = files.config()
        self._masks = not self.architecture.family.full_length
        self._model: Any = _load(files, self.dtype, self.device)
        # from the files where they tell, because the model may have been rounded to bfloat16
        in_files = read_logits(files.directory)
        self._logits = _logits(self._model) if in_files.scale is None else in_files
        log.info("%s on %s in %s", files.model, self.device, self.dtype)

    def close(self) -> None:
        """Lets go of the model, and of the accelerator's memory."""
        self._model = None
        self._free()

    def _text_features(self, ids: IntArray, mask: IntArray) -> FloatArray:
        inputs = {"input_ids": place(ids, self.device)}
        if self._masks:
            inputs["attention_mask"] = place(mask, self.device)
        with torch.inference_mode():
            found = self._loaded().get_text_features(**inputs)
        return self._projected(found)

    def _image_features(self, pixels: FloatArray) -> FloatArray:
        with torch.inference_mode():
            found = self._loaded().get_image_features(pixel_values=place(pixels, self.device, self.dtype))
        return self._projected(found)

    def _projected(self, found: Any) -> FloatArray:
        """Transformers 4 gives the tensor, 5 an output that has it as ``pooler_output``."""
        tensor = getattr(found, "pooler_output", found)
        features: FloatArray = tensor.float().cpu().numpy().astype(np.float32, copy=False)
        if self.dtype != torch.float32 and not np.isfinite(features).all():
            dtype = str(self.dtype).removeprefix("torch.")
            raise BackendError(
                f"model {self.identity.model!r} overflows in {dtype}: its vectors are not finite; "
                "use dtype='float32'"
            )
        return features

    def _out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def model(self) -> Any:
        """The model of transformers.

        Raises:
            ConfigError: The embedder is closed.
        """
        return self._loaded()

    def _loaded(self) -> Any:
        if self._model is None:
            raise ConfigError("the embedder is closed")
        return self._model


def _load(files: ModelFiles, dtype: Any, device: Any) -> Any:
    source, revision = (
        (files.model, files.revision) if files.directory is None else (str(files.directory), None)
    )
    try:
        with _quiet(files):
            model, report = _model_class(files).from_pretrained(
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
    # others are of other uses; AltCLIP's text tower had `layer.` before transformers 5
    unread = [key for key in report["unexpected_keys"] if ".layers." in key or ".layer." in key]
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


def _model_class(files: ModelFiles) -> Any:
    """A class of transformers itself: neither a class nor code that a model's files name is ever run."""
    family = files.config().family
    found = getattr(transformers, family.model_class, None)
    if found is None:
        raise ConfigError(
            f"model {files.model!r}: transformers {transformers.__version__} has no {family.model_class}: "
            "install a newer one"
        )
    return found


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
        return Tokens.from_file(path, files.text_rules())
    if files.config().family.model_type != "clip":
        raise ConfigError(f"model {files.model!r} has no tokenizer.json")
    # older checkpoints have vocab.json and merges.txt only
    source, revision = (
        (files.model, files.revision) if files.directory is None else (str(files.directory), None)
    )
    try:
        tokenizer = transformers.CLIPTokenizerFast.from_pretrained(source, revision=revision)
    except OSError as exc:
        raise ConfigError(f"model {files.model!r} has no tokenizer") from exc
    return Tokens(tokenizer.backend_tokenizer, files.text_rules(), file=f"{source}/vocab.json")


def _logits(model: Any) -> Logits:
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return Logits.of_weights(
        None if scale is None else float(scale.detach()), None if bias is None else float(bias.detach())
    )
