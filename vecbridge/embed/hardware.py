"""What this machine has to run models on, found without loading a runtime."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
_CPU_INFO: Final = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16; without them PyTorch emulates it, several times slower than float32
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


def cpu_flags() -> frozenset[str]:
    """The instructions of this CPU, as Linux lists them; empty elsewhere."""
    try:
        lines = _CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16."""
    return not _BF16_FLAGS.isdisjoint(cpu_flags())


def has_nvidia_driver() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded; known on Linux only."""
    return _NVIDIA_DRIVER.exists()


def may_have_gpu() -> bool:
    """Whether PyTorch may find a GPU: there is a driver, or this is a system where nobody can tell."""
    return has_nvidia_driver() or platform.system() != "Linux"
