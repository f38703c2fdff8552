"""The one place that knows of GPUs. Written with care and NOT YET RUN ON ONE: no test machine has had any.

The GPU trains IVF indexes and searches them; FAISS has no HNSW there, so graphs stay on the CPU, and so do
exact searches, which read the memory-mapped truth.
"""

from __future__ import annotations

from typing import Any

import faiss

from vecbridge.errors import ConfigError, install_hint
from vecbridge.query import FloatArray


def require(device: str) -> None:
    """Refuses a GPU that is not there.

    Raises:
        ConfigError: ``device="cuda"`` without a GPU, or without FAISS's GPU build.
    """
    if device != "cuda":
        return
    if not hasattr(faiss, "StandardGpuResources"):
        raise ConfigError(f"device='cuda': this is faiss-cpu; {install_hint('faiss-gpu')}, or device='cpu'")
    if faiss.get_num_gpus() == 0:
        raise ConfigError("device='cuda': FAISS sees no GPU here; device='cpu' searches without one")


def trained(index: Any, sample: FloatArray, device: str) -> Any:
    """The index after training, on the GPU where that is asked for."""
    if device != "cuda":
        index.train(sample)
        return index
    worker = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    worker.train(sample)
    return faiss.index_gpu_to_cpu(worker)


def for_search(index: Any, device: str) -> Any:
    """The index on the GPU, where that is asked for and FAISS can."""
    if device != "cuda" or isinstance(index, faiss.IndexHNSW):
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
