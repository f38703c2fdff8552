"""CLIP in ONNX Runtime: fast on CPUs, and a twentieth of PyTorch to install."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final

import numpy as np

from vecbridge.embed.base import FloatArray
from vecbridge.embed.encoder import Encoder
from vecbridge.embed.files import ModelFiles
from vecbridge.embed.tokens import IntArray, Tokens
from vecbridge.errors import ConfigError, MissingDependencyError

try:
    import onnxruntime
except ImportError as exc:
    raise MissingDependencyError("onnxruntime", extra="onnx") from exc

log = logging.getLogger(__name__)

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_IMAGE_OUTPUTS: Final = ("image_embeds", "pooler_output")
_TEXT_OUTPUTS: Final = ("text_embeds", "pooler_output")


class OnnxEmbedder(Encoder):
    """A CLIP that was exported to ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``.

    The layout is that of transformers.js and optimum: inputs ``pixel_values`` (float32), ``input_ids`` and
    ``attention_mask`` (int64); outputs ``image_embeds`` and ``text_embeds``, projected. Made by
    :func:`vecbridge.embedder`.

    Args:
        files: Where the model is.
        device: "auto" (CUDA where ONNX Runtime has it, else CPU), "cpu" or "cuda".
        batch_size: Items at a time.
        note: What users should know about the model.

    Raises:
        MissingDependencyError: onnxruntime or tokenizers is not installed.
        ConfigError: The device is not there, or the files are not an exported CLIP.
    """

    def __init__(
        self, files: ModelFiles, *, device: str = "auto", batch_size: int | None = None, note: str = ""
    ) -> None:
        providers = choose_providers(device)
        tokens = Tokens.from_file(files.need("tokenizer.json"), files.max_length())
        self._vision: Any = _session(files, "onnx/vision_model.onnx", providers)
        self._text: Any = _session(files, "onnx/text_model.onnx", providers)
        self._image_output = _output(self._vision, _IMAGE_OUTPUTS, files)
        self._text_output = _output(self._text, _TEXT_OUTPUTS, files)
        dim = files.config().dim
        super().__init__(
            files, tokens, dim=dim, batch_size=64 if batch_size is None else batch_size, note=note
        )
        self._require_shapes(files)
        if _CUDA in providers and self._vision.get_providers()[0] != _CUDA:
            _cuda_failed(device)
        log.info("%s in ONNX Runtime on %s", files.model, self._vision.get_providers()[0])

    def close(self) -> None:
        """Lets go of the model."""
        self._vision = self._text = None

    def _require_shapes(self, files: ModelFiles) -> None:
        """Refuses graphs that are not of the model that the other files describe."""
        height, width = self.preprocessing.height_width
        taken = next((each.shape for each in self._vision.get_inputs() if each.name == "pixel_values"), [])
        fixed = [number for number in taken[-2:] if isinstance(number, int)]
        if len(fixed) == 2 and fixed != [height, width]:
            raise ConfigError(
                f"model {files.model!r}: onnx/vision_model.onnx takes pictures of {fixed[0]} x {fixed[1]} "
                f"pixels (height x width), and its preprocessor_config.json makes {height} x {width}"
            )
        self._require_dim(files, "text", self._text, self._text_output)
        self._require_dim(files, "vision", self._vision, self._image_output)

    def _require_dim(self, files: ModelFiles, tower: str, session: Any, output: str) -> None:
        dim = next(each.shape[-1] for each in session.get_outputs() if each.name == output)
        if not isinstance(dim, int):  # the graph tells it only where it runs
            found = (
                self.embed_texts(["a"])
                if tower == "text"
                else self.embed_prepared([np.zeros((3, *self.preprocessing.height_width), np.uint8)])
            )
            dim = found.shape[1]
        if dim != self.dim:
            raise ConfigError(
                f"model {files.model!r}: onnx/{tower}_model.onnx gives vectors of {dim} dimensions, and "
                f"config.json: projection_dim is {self.dim}"
            )

    def _text_features(self, ids: IntArray, mask: IntArray) -> FloatArray:
        inputs = {"input_ids": ids, "attention_mask": mask}
        return self._run(self._text, self._text_output, inputs)

    def _image_features(self, pixels: FloatArray) -> FloatArray:
        return self._run(self._vision, self._image_output, {"pixel_values": pixels})

    def _run(self, session: Any, output: str, inputs: dict[str, Any]) -> FloatArray:
        if session is None:
            raise ConfigError("the embedder is closed")
        known = {each.name for each in session.get_inputs()}  # some exports leave out attention_mask
        [features] = session.run([output], {name: value for name, value in inputs.items() if name in known})
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ConfigError(f"{output} has shape {features.shape}, not (n, {self.dim}): is it projected?")
        return np.asarray(features, np.float32)


def choose_providers(device: str = "auto") -> list[str]:
    """ONNX Runtime's execution providers for a device, best first.

    Raises:
        ConfigError: What was asked for is not there.
    """
    has_cuda = _CUDA in onnxruntime.get_available_providers()
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"device={device!r}: ONNX Runtime runs on 'cpu' or 'cuda'; runtime='torch' knows others"
        )
    if kind == "cuda" and not has_cuda:
        raise ConfigError(f"device={device!r}: this ONNX Runtime has no CUDA: pip install onnxruntime-gpu")
    return [_CUDA, _CPU] if has_cuda and kind != "cpu" else [_CPU]


def _session(files: ModelFiles, name: str, providers: list[str]) -> Any:
    path = files.need(name)
    files.find(f"{name}_data")  # the weights of large exports; they must lie beside the graph
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as exc:
        if type(exc).__module__.startswith("onnxruntime"):
            raise ConfigError(f"{path}: ONNX Runtime cannot load it: {exc}") from exc
        raise


def _output(session: Any, names: tuple[str, ...], files: ModelFiles) -> str:
    found = [each.name for each in session.get_outputs()]
    for name in names:
        if name in found:
            return name
    raise ConfigError(f"model {files.model!r} gives {', '.join(found)}, none of {' or '.join(names)}")


def _cuda_failed(device: str) -> None:
    """ONNX Runtime falls back to the CPU in silence where CUDA's libraries do not load."""
    message = "ONNX Runtime cannot load CUDA's libraries (CUDA and cuDNN of the versions it was built for)"
    if device != "auto":
        raise ConfigError(f"device={device!r}: {message}")
    warnings.warn(
        f"a GPU is there, and the embedder runs on the CPU: {message}", RuntimeWarning, stacklevel=4
    )
