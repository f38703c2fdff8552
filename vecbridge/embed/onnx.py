"""CLIP in ONNX Runtime: fast on CPUs, and a twentieth of PyTorch to install."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import Any, Final, Literal, get_args

import numpy as np

from vecbridge.embed.base import FloatArray
from vecbridge.embed.encoder import MOST_ON_CPU, Encoder
from vecbridge.embed.files import ModelFiles
from vecbridge.embed.logits import read_logits
from vecbridge.embed.tokens import IntArray, Tokens
from vecbridge.errors import ConfigError, MissingDependencyError

try:
    import onnxruntime
except ImportError as exc:
    raise MissingDependencyError("onnxruntime", extra="onnx") from exc

log = logging.getLogger(__name__)

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
# What its arenas and allocators say; Fail and RuntimeException stand for many other faults as well
_FULL: Final = ("allocate memory", "bad_alloc", "bad allocation", "smaller than requested bytes")
_Tower = Literal["text", "vision"]
TOWERS: Final[tuple[_Tower, ...]] = get_args(_Tower)
#: Where an export keeps its graphs of int8; not among those of float32, which tell the revision of a model.
INT8_DIRECTORY: Final = "onnx/int8"
_OUTPUTS: Final[dict[_Tower, tuple[str, ...]]] = {
    "text": ("text_embeds", "pooler_output"),
    "vision": ("image_embeds", "pooler_output"),
}


class OnnxEmbedder(Encoder):
    """A CLIP that was exported to ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``.

    The layout is that of transformers.js and optimum: inputs ``pixel_values`` (float32), ``input_ids`` and
    ``attention_mask`` (int64); outputs ``image_embeds`` and ``text_embeds``, projected. Made by
    :func:`vecbridge.embedder`.

    Args:
        files: Where the model is.
        device: "auto" (CUDA where ONNX Runtime has it, else CPU), "cpu" or "cuda".
        dtype: "auto" and "float32" run the graphs as they were exported, "int8" those of int8 beside them.
        batch_size: Items at a time.
        note: What users should know about the model.
        lazy: Whether a tower is loaded, and its graph checked, only when it is first used.

    Raises:
        MissingDependencyError: onnxruntime or tokenizers is not installed.
        ConfigError: The device is not there, or the files are not an exported CLIP; another dtype; no graphs
            of int8.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        note: str = "",
        lazy: bool = False,
    ) -> None:
        self._files = files
        self._place = _place(files, dtype)
        self._device = device
        self._providers = choose_providers(device)
        self._towers: dict[_Tower, tuple[Any, str]] = {}  # session and the name of its output
        self._loading = threading.Lock()
        self._closed = False
        on_gpu = self._providers[0] == _CUDA
        super().__init__(
            files,
            Tokens.from_file(files.need("tokenizer.json"), files.text_rules()),
            dim=files.config().dim,
            batch_size=(256 if on_gpu else 32) if batch_size is None else batch_size,
            most=None if on_gpu else MOST_ON_CPU,
            note=note,
        )
        self._logits = read_logits(files.directory)
        if not lazy:
            self._tower("vision")
            self._tower("text")

    def close(self) -> None:
        """Lets go of the model."""
        with self._loading:
            self._closed = True
            self._towers.clear()

    def _text_features(self, ids: IntArray, mask: IntArray) -> FloatArray:
        return _run(self._tower("text"), {"input_ids": ids, "attention_mask": mask})

    def _image_features(self, pixels: FloatArray) -> FloatArray:
        return _run(self._tower("vision"), {"pixel_values": pixels})

    def _out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def _tower(self, name: _Tower) -> tuple[Any, str]:
        tower = self._towers.get(name)
        if tower is not None:
            return tower
        with self._loading:
            if self._closed:
                raise ConfigError("the embedder is closed")
            if name not in self._towers:
                self._towers[name] = self._load(name)
            return self._towers[name]

    def _load(self, name: _Tower) -> tuple[Any, str]:
        session = _session(self._files, f"{self._place}/{name}_model.onnx", self._providers)
        output = _output(session, _OUTPUTS[name], self._files)
        self._require_shapes(name, session, output)
        if _CUDA in self._providers and session.get_providers()[0] != _CUDA:
            _cuda_failed(self._device)
        log.info("%s (%s) in ONNX Runtime on %s", self._files.model, name, session.get_providers()[0])
        return session, output

    def _require_shapes(self, name: _Tower, session: Any, output: str) -> None:
        """Refuses a graph that is not of the model that the other files describe."""
        file = f"model {self._files.model!r}: {self._place}/{name}_model.onnx"
        size = self.preprocessing.height_width
        taken: list[Any] = next(
            (each.shape for each in session.get_inputs() if each.name == "pixel_values"), []
        )
        fixed = [number for number in taken[-2:] if isinstance(number, int)]
        if len(fixed) == 2 and tuple(fixed) != size:
            raise ConfigError(
                f"{file} takes pictures of {fixed[0]} x {fixed[1]} pixels (height x width), and its "
                f"preprocessor_config.json makes {size[0]} x {size[1]}"
            )
        shape = next(each.shape for each in session.get_outputs() if each.name == output)
        if not isinstance(shape[-1], int):  # told only where it runs
            shape = _run((session, output), self._sample(name)).shape
        if len(shape) != 2 or shape[1] != self.dim:
            raise ConfigError(
                f"{file} gives {output} of shape {tuple(shape)}, and config.json: projection_dim is "
                f"{self.dim}: is it of this model, and projected?"
            )

    def _sample(self, name: _Tower) -> dict[str, Any]:
        if name == "vision":
            return {"pixel_values": np.zeros((1, 3, *self.preprocessing.height_width), np.float32)}
        ids, mask = self._tokens.encode(["a"])
        return {"input_ids": ids, "attention_mask": mask}


def _run(tower: tuple[Any, str], inputs: dict[str, Any]) -> FloatArray:
    session, output = tower
    known = {each.name for each in session.get_inputs()}  # some exports leave out attention_mask
    [features] = session.run([output], {name: value for name, value in inputs.items() if name in known})
    return np.asarray(features, np.float32)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ONNX Runtime says that memory is full; its other failures are faults and not tried again."""
    if isinstance(error, MemoryError):
        return True
    kind = type(error)
    return (
        kind.__module__.startswith("onnxruntime")
        and kind.__name__ in ("Fail", "RuntimeException")
        and any(words in str(error) for words in _FULL)
    )


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


def _place(files: ModelFiles, dtype: str) -> str:
    """The folder of the graphs of a dtype."""
    if dtype == "int8":
        if files.find(f"{INT8_DIRECTORY}/vision_model.onnx") is None:
            raise ConfigError(
                f"model {files.model!r} has no graphs of int8: 'vecbridge embed export MODEL DIR --int8' "
                "makes them"
            )
        return INT8_DIRECTORY
    if dtype not in ("auto", "float32"):
        raise ConfigError(
            f"dtype={dtype!r}: ONNX models compute in float32 or int8; runtime='torch' can choose others"
        )
    return "onnx"


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
        f"a GPU is there, and the embedder runs on the CPU: {message}", RuntimeWarning, stacklevel=6
    )
