"""Where PyTorch runs a model, and in which precision: fixed rules, never a measurement."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final

from vecbridge.embed.base import require_dtype
from vecbridge.embed.hardware import has_nvidia_driver, multiplies_bfloat16
from vecbridge.errors import ConfigError, MissingDependencyError

try:
    import torch
except ImportError as exc:
    raise MissingDependencyError(exc.name or "torch", extra="clip") from exc

log = logging.getLogger(__name__)

#: What ``dtype="auto"`` means, by the kind of device and whether it multiplies bfloat16. float16 is never
#: chosen: some checkpoints overflow in it.
AUTO_DTYPE: Final[dict[tuple[str, bool], str]] = {
    ("cuda", True): "bfloat16",
    ("cuda", False): "float32",
    ("mps", True): "float32",
    ("mps", False): "float32",
    ("cpu", True): "bfloat16",
    ("cpu", False): "float32",
}
#: Items at a time. On a GPU it is where halving on a full memory begins; a CPU gets no faster with more.
BATCH_SIZE: Final[dict[str, int]] = {"cuda": 256, "mps": 256, "cpu": 32}


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
        ConfigError: Another name, float16 on a CPU, or int8.
    """
    require_dtype(wanted)
    if wanted == "int8":
        raise ConfigError("dtype='int8' runs on ONNX Runtime: runtime='onnx'")
    if wanted == "float16" and device.type == "cpu":
        raise ConfigError("dtype='float16' on a CPU is slower than float32: use 'auto'")
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = device.type == "cpu" and multiplies_bfloat16()
    return getattr(torch, AUTO_DTYPE.get((device.type, has_bf16), "float32"))


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return (
            f"PyTorch {torch.__version__} is built without CUDA: install a CUDA build (https://pytorch.org)"
        )
    if not has_nvidia_driver():
        return "no NVIDIA driver is loaded"
    return "PyTorch sees no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES"


def _warn_of_idle_gpu(cuda: bool) -> None:
    if cuda:
        reason = "device='cpu' was asked for; device='auto' would use it"
    elif torch.version.cuda is None and has_nvidia_driver():
        reason = _why_no_cuda()
    else:
        return
    warnings.warn(f"a GPU is there, and the embedder runs on the CPU: {reason}", RuntimeWarning, stacklevel=5)


def place(array: Any, device: Any, dtype: Any = None) -> Any:
    """A NumPy array as a tensor on a device; the only way by which data gets there.

    To a GPU it goes from pinned memory, and the caller does not wait for the copy.

    Args:
        array: C-contiguous; the tensor may share its memory.
        device: A ``torch.device``.
        dtype: Converts to this ``torch.dtype`` there; None keeps the array's.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch says that memory is full; every other RuntimeError is a fault and not tried again.

    On a CPU it raises a bare RuntimeError, which names its allocator.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
